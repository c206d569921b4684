"""The JSON files of a prepared set: whatever is wrong in one is one line."""

import json

import pytest

from swin_jax.data.prepare import report
from swin_jax.data.read import facts, shards, statistics
from swin_jax.terminal.errors import BadInput
from tests.support import damages, edits

HEADER = {
  "version": 1,
  "num_shards": 2,
  "class_names": ["ant", "bee"],
  "targets": "labels",
  "made_from": {"images": 3},
}
COLUMNS = {name: [1.5, 2] for name in ("mean", "std", "min", "max", "p1", "p50", "p99")} | {"valid": [9, 9]}
STATISTICS = COLUMNS | {"images": 3, "dtype": "uint8", "split": "train", "values": COLUMNS}
COUNTS = dict.fromkeys(("images", "known", "unknown", "wide", "widest", "channel_first"), 3)
COUNTS |= dict.fromkeys(("bands", "types", "classes", "pixels", "images_with"), {"1": 3})
COUNTS |= {"smallest": [2, 3], "largest": [4, 4], "hashes": [7, 8, 9], "shards": "a" * 64}
ENDS = [{"pixels": 9, "low": [[-9999, 3], [0.5, 1]], "high": [[2, 1], [1, 1]]}]
COUNTS |= {"labelled": {"7": {"0": "a.png", "1": "b.png"}, "8": {"1": "c.png"}}}
COUNTS |= {"extremes": ENDS, "value_extremes": ENDS}
ORIGIN = {"unread": {".gif": 3}, "notes": ["a note"], "warnings": ["a warning"]}
FACTS = {"splits": {"train": COUNTS}, "origin": ORIGIN}


def read_header(path):
  return shards.read_header(str(path), "train")


def read_statistics(path):
  """Reads and prints them, which uses every number."""
  statistics.describe(str(path))
  return statistics.read(str(path))


def read_facts(path):
  """Reads and prints them, which uses every number."""
  (path / "train.json").write_text(json.dumps(HEADER))
  of = facts.read(str(path))
  assert all(len(line) < 110 for line in report.lines("out", of))
  return facts.read_file(str(path))


FILES = [
  ("train.json", HEADER, read_header, 40),
  ("statistics.json", STATISTICS, read_statistics, 300),
  ("facts.json", FACTS, read_facts, 300),
]
of_each_file = pytest.mark.parametrize("name, document, read, most", FILES)


@of_each_file
def test_every_edit_is_read_or_refused_in_one_line(tmp_path, name, document, read, most):
  accepted = []
  for path, value, changed in edits.edited(document):
    (tmp_path / name).write_text(json.dumps(changed))
    try:
      assert read(tmp_path) == changed
      accepted.append((path, value))
    except BadInput as error:
      assert "\n" not in str(error) and str(tmp_path / name) in str(error) and len(str(error)) < 600
  assert len(accepted) <= most, accepted


@of_each_file
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, document, read, most):
  path = tmp_path / name
  for damage in (damages.folder, damages.pipe, damages.dangle, damages.cut):
    path.write_text(json.dumps(document))
    damage(path)
    with pytest.raises(BadInput) as caught:
      read(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("num_shards", 0, "num_shards = 0: must be at least 1"),
    ("num_shards", 10**9, "num_shards = 1000000000: must be at least 1 and at most"),
    ("targets", "pixels", "targets = 'pixels': choose one of"),
    ("class_names", "ant", "class_names = 'ant': must be a tuple"),
    ("made_from", None, "made_from must be an object, not None"),
  ],
)
def test_a_wrong_value_of_a_header_is_named(tmp_path, key, value, message):
  (tmp_path / "train.json").write_text(json.dumps(HEADER | {key: value}))
  with pytest.raises(BadInput, match=f"train.json is damaged: {message}"):
    read_header(tmp_path)
