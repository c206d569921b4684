"""A split with too many images that cannot be read is refused with a bound that is enough, or the cause."""

import itertools

import pytest

from swin_jax.data.prepare import faults
from tests.support import images
from tests.support.prepared import bad, run


def test_a_refusal_for_bad_images_knows_the_whole_split(tmp_path):
  folder = tmp_path / "in"
  (folder / "train").mkdir(parents=True)
  for i in range(44):
    (folder / "train" / f"{i}.jpg").write_bytes(images.encode(i))
  for i in range(4):
    (folder / "train" / f"{i}.jpg").write_bytes(b"")
  assert bad(folder, tmp_path / "out", max_bad_fraction=0.0).endswith(
    "leave it out by --max_bad_fraction=0.1"
  )
  run(folder, tmp_path / "out", max_bad_fraction=0.1)


@pytest.mark.parametrize(
  "count, mends", [(12, "most of the 15 that were looked at have this fault"), (3, "0.2")]
)
def test_a_fault_of_most_images_is_mended_at_its_cause(count, mends, tmp_path):
  for i in range(15):
    content = b"" if i < count else images.encode(i)
    (path := tmp_path / "in" / "train" / "ab"[i % 2] / f"{i}.jpg").parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  message = bad(tmp_path / "in", tmp_path / "out")
  assert mends in message and (mends == "0.2") == ("by --max_bad_fraction=" in message)


def test_faults_of_a_large_split_are_estimated():
  found = faults.Faults("train", 1_000_000, 0.01, 0, 0)
  for i in range(100):
    found.count(f"{i}.jpg", "broken")
  error = found.refusal((f"{i}.jpg", "broken" if i % 100 == 0 else None) for i in itertools.count())
  assert str(error).endswith("--max_bad_fraction=0.2") and "110 images of split" in str(error)
  assert str(found.refusal((f"{i}.jpg", "other") for i in itertools.count())).startswith("130 images")
