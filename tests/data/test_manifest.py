"""A damaged prepared set is refused at the start of a run, or by --verify, with the file named."""

import json
import re
import shutil

import pytest

from swin_jax.data.prepare import __main__ as prepare
from swin_jax.data.read import facts, manifest, statistics
from swin_jax.terminal.errors import BadInput
from tests.support import damages, images, prepared, seals
from tests.support.opened import open_source

SHARD, OTHER = (f"train-{i:05d}-of-00002.array_record" for i in range(2))
FILES = [
  SHARD,
  OTHER,
  "train.json",
  "val-00000-of-00001.array_record",
  "val.json",
  "statistics.json",
  "facts.json",
]


@pytest.fixture(scope="module", name="intact")
def _intact(tmp_path_factory):
  root = tmp_path_factory.mktemp("intact")
  images.make_folder(root / "in", {"train": 5, "val": 5})
  for i in range(10):  # shards are padded, so that many have the same size
    (root / f"in/train/ant/large{i}.png").write_bytes(images.encode(i, (120, 80)))
  prepared.run(root / "in", root / "set", split="train", num_shards=2)
  prepared.run(root / "in", root / "set", split="val")
  assert prepare.main(["prepare", f"--out={root / 'set'}"]) == 0
  return root / "set"


@pytest.fixture(name="folder")
def _folder(intact, tmp_path):
  return shutil.copytree(intact, tmp_path / "set")


def refusal(folder, split="train"):
  with pytest.raises(BadInput) as error:
    open_source("array_record", str(folder), split)
    statistics.read(str(folder))
    facts.read(str(folder))
  assert "\n" not in str(error.value)
  return str(error.value)


def verify(folder, capsys):
  """Returns the exit code of --verify, what it prints, and its error."""
  capsys.readouterr()
  return prepare.main(["prepare", f"--verify={folder}"]), *capsys.readouterr()


def test_the_manifest_lists_every_file(folder, capsys):
  assert sorted(manifest.read(str(folder))) == sorted(FILES)
  assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, manifest.NAME])
  for split in ("train", "val"):
    open_source("array_record", str(folder), split)
  statistics.read(str(folder))
  assert not capsys.readouterr().out
  code, out, err = verify(folder, capsys)
  assert code == 0 and "7 files are as they were written" in out and not err


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", damages.OF_A_FILE, ids=lambda function: function.__name__)
def test_damage_to_any_file_is_named(folder, capsys, name, damage):
  if name.endswith(".json"):  # which any reader accepts, and large enough for every kind of damage
    (folder / name).write_text((folder / name).read_text() + " " * 2**14)
    seals.reseal(folder)
  damage(folder / name)
  code, out, err = verify(folder, capsys)
  assert code == 2 and re.search(f"^{name} {damages.OF_A_FILE[damage]}$", out, re.M)
  assert err == (
    f"swin_jax: {folder}: 1 of 7 files are damaged or missing, as named above; delete what is damaged and run"
    " the command that prepared the set again\n"
  )
  of_content = damage in (damages.flip_a_bit, damages.zeros)
  if name.endswith(".json") or not of_content:  # a run reads the shards only as it needs them
    gone = name == "statistics.json" and damage in (damages.remove, damages.dangle)
    split = "val" if name.startswith("val") else "train"
    assert ("holds no statistics.json" if gone else name) in refusal(folder, split)


def test_a_flipped_bit_of_a_description_is_not_believed(folder):
  """Even where it leaves a valid one, such as another letter of a class name or another digit."""
  header = (folder / "train.json").read_text()
  (folder / "train.json").write_text(header.replace('"ant"', '"aot"'))
  assert "train.json has changed: its content has another SHA-256; run the same prepare" in refusal(folder)
  (folder / "train.json").write_text(header)
  numbers = (folder / "statistics.json").read_text()
  (folder / "statistics.json").write_text(re.sub(r"\d", "7", numbers, count=1))
  assert "statistics.json has changed" in refusal(folder)


def test_swapped_and_renamed_files(folder, capsys):
  for one, other in ((SHARD, FILES[3]), ("train.json", "val.json")):
    damages.swap(folder / one, folder / other)
    assert re.search(rf"{one} \(?has ", refusal(folder)) and re.search(
      rf"{other} \(?has ", refusal(folder, "val")
    )
    code, out, _ = verify(folder, capsys)
    assert code == 2 and f"{one} has " in out and f"{other} has " in out
    damages.swap(folder / one, folder / other)
  (folder / SHARD).rename(folder / f"{SHARD}.old")
  assert f"1 of 2 shards are missing or damaged: {SHARD}; run prepare again" in refusal(folder)
  code, out, _ = verify(folder, capsys)
  assert code == 2 and f"{SHARD} is missing\n{SHARD}.old is unexpected" in out


def test_files_that_the_manifest_does_not_list(folder, capsys):
  """An extra file is named by --verify; a run does not read it, and refuses a split of such files."""
  for name in ("val.json", "val-00000-of-00001.array_record"):
    (folder / name.replace("val", "test")).write_bytes((folder / name).read_bytes())
  code, out, err = verify(folder, capsys)
  assert (code, err) == (0, "")
  assert "test.json is unexpected: manifest.json does not list it\n" in out
  open_source("array_record", str(folder), "train")
  assert "test-00000-of-00001.array_record (is not listed in manifest.json); run prepare again" in refusal(
    folder, "test"
  )


def test_a_damaged_manifest_is_refused(folder, capsys):
  content = (folder / manifest.NAME).read_text()
  size = re.search(r'"size": (\d+)', content)[1]
  for text in (content[:-5], content.replace(size, str(int(size) + 1), 1), "{}", "[]", "[" * 100_000):
    (folder / manifest.NAME).write_text(text)
    assert "manifest.json is damaged" in refusal(folder)
    assert verify(folder, capsys)[0] == 2
  (folder / manifest.NAME).unlink()
  (folder / manifest.NAME).mkdir()
  assert "manifest.json cannot be read: it is a folder, not a file" in refusal(folder)


def test_a_set_without_manifest_loads_with_one_line(folder, capsys):
  seals.unseal(folder)
  capsys.readouterr()
  for split in ("train", "val"):
    open_source("array_record", str(folder), split)
  statistics.read(str(folder))
  assert capsys.readouterr().out == (
    f"{folder} has no manifest.json, so damage to it cannot be detected; run the command that prepared it"
    " again to write one\n"
  )
  code, _, err = verify(folder, capsys)
  assert code == 2 and "holds no file manifest.json" in err


def test_a_changed_description_is_accepted_without_manifest(folder):
  header = json.loads((folder / "train.json").read_text())
  (folder / "train.json").write_text(json.dumps(header | {"class_names": ["ant", "bee", "cow"]}))
  assert "if you changed it yourself, delete manifest.json" in refusal(folder)
  seals.unseal(folder)
  assert open_source("array_record", str(folder), "train").class_names[2] == "cow"


def test_verify_stands_alone(folder, capsys):
  assert prepare.main(["prepare", f"--verify={folder}", "--out=x"]) == 2
  assert "--verify changes nothing, so it stands alone; leave out --out=x\n" in capsys.readouterr().err
