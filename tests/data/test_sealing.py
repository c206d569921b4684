"""prepare writes the manifest once a set is complete, however the set came about, and repairs damage."""

import errno
import json
import os
import re

import pytest

from swin_jax.data.prepare import sealing
from swin_jax.data.read import manifest, shards
from swin_jax.terminal import cli, digests
from tests.support import damages, images, seals
from tests.support.prepared import bad, files, main, read, run

SHARDS = [f"train-{i:05d}-of-00003.array_record" for i in range(3)]


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
  return images.make_folder(tmp_path_factory.mktemp("folder"), {"train": 40, "val": 10})


@pytest.fixture(name="hashed")
def _hashed(monkeypatch):
  """The names of the shards that are read for a digest, in order."""
  names, of_file = [], digests.of_file

  def record(path, *rest):
    names.extend(re.findall(r"[^/]+\.array_record", str(path)))
    return of_file(path, *rest)

  monkeypatch.setattr(digests, "of_file", record)
  return names


def test_the_part_that_completes_a_set_writes_the_manifest(folder, tmp_path, hashed):
  run(folder, tmp_path, num_shards=3, part=(0, 2))
  assert [name for name in files(tmp_path) if name.startswith("manifest")] == ["manifest-0-of-2.jsonl"]
  hashed.clear()
  run(folder, tmp_path, num_shards=3, part=(1, 2))
  assert [name for name in files(tmp_path) if name.startswith("manifest")] == ["manifest.json"]
  # Shards are read once, before they get their name; what the other part wrote is not read again.
  assert hashed == [SHARDS[1], "val-00001-of-00003.array_record"]
  assert main(f"--verify={tmp_path}") == 0


@pytest.mark.parametrize("kind", ["text", "pipe"])
def test_an_end_before_the_manifest_is_made_up_for(kind, folder, tmp_path, monkeypatch, hashed):
  with monkeypatch.context() as patch:
    patch.setattr(sealing, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      run(folder, tmp_path, num_shards=3)
  damage = tmp_path / "manifest-0-of-1.jsonl"
  damage.unlink()
  {"text": lambda path: path.write_text("{"), "pipe": os.mkfifo}[kind](damage)  # its digests are taken again
  hashed.clear()
  run(folder, tmp_path, num_shards=3)
  assert len(hashed) == 6 and main(f"--verify={tmp_path}") == 0
  assert not list(tmp_path.glob("manifest-*"))


def test_half_a_line_costs_no_other_digest(folder, tmp_path, monkeypatch, hashed):
  with monkeypatch.context() as patch:
    patch.setattr(sealing, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      run(folder, tmp_path, num_shards=3)
  of_part, last = tmp_path / "manifest-0-of-1.jsonl", "val-00002-of-00003.array_record"
  os.truncate(of_part, of_part.stat().st_size - 50)
  (tmp_path / last).unlink()
  hashed.clear()
  run(folder, tmp_path, num_shards=3)
  assert hashed == [last] and main(f"--verify={tmp_path}") == 0


def test_the_same_command_repairs_what_a_run_refuses(folder, tmp_path):
  run(folder, tmp_path, num_shards=3)
  before = files(tmp_path)
  damages.append(tmp_path / SHARDS[0])
  writer = shards.open_writer(str(tmp_path / SHARDS[2]))  # a whole shard, but another one
  writer.write(bytes(2**17))
  writer.close()
  assert shards.count_records(str(tmp_path / SHARDS[2])) == 1
  damages.flip_a_bit(tmp_path / "train.json")
  (tmp_path / "val.json").unlink()
  assert main(f"--verify={tmp_path}") == 2
  run(folder, tmp_path, num_shards=3)
  assert files(tmp_path) == before


def test_damage_is_not_sealed(folder, tmp_path, capsys):
  """A shard that was damaged at the same size is not read again, and its digest stays; deleted, it is written
  again.
  """
  run(folder, tmp_path, num_shards=3)
  before = files(tmp_path)
  damages.flip_a_bit(tmp_path / SHARDS[1])
  run(folder, tmp_path, num_shards=3)
  assert main(f"--verify={tmp_path}") == 2 and f"{SHARDS[1]} has changed" in capsys.readouterr().out
  (tmp_path / SHARDS[1]).unlink()
  run(folder, tmp_path, num_shards=3)
  assert files(tmp_path) == before
  # Its digest is then the new one, even if other versions of libraries write other bytes.
  (tmp_path / SHARDS[1]).write_bytes(b"written by another version")
  seals.reseal(tmp_path)
  (tmp_path / SHARDS[1]).unlink()
  run(folder, tmp_path, num_shards=3)
  assert files(tmp_path) == before


def test_a_set_from_before_manifests_gets_one(folder, tmp_path, capsys):
  run(folder, tmp_path / "old", split="train", num_shards=3)
  seals.unseal(tmp_path / "old")
  run(folder, tmp_path / "old", split="val", num_shards=3)  # also if another split is added
  run(folder, tmp_path / "new", num_shards=3)
  assert files(tmp_path / "old") == files(tmp_path / "new")
  for name in ("old", "new"):
    assert main(f"--out={tmp_path / name}") == 0  # writes statistics.json
  seals.unseal(tmp_path / "old")
  run(folder, tmp_path / "old", num_shards=3)
  assert files(tmp_path / "old") == files(tmp_path / "new")
  assert "cannot be detected" not in capsys.readouterr().out


def test_other_settings_after_the_shards_were_deleted(folder, tmp_path):
  run(folder, tmp_path, num_shards=3)
  assert "prepared with other" in bad(folder, tmp_path, num_shards=3, short_side=4)
  for path in tmp_path.glob("train-*"):
    path.unlink()
  run(folder, tmp_path, split="train", num_shards=3, short_side=4)
  assert len(read(tmp_path)) == 40 and len(read(tmp_path, "val")) == 10
  assert main(f"--verify={tmp_path}") == 0


def test_of_two_digests_of_a_shard_none_is_trusted(folder, tmp_path, hashed):
  """As when a shard was deleted and written again by another division into parts."""
  run(folder, tmp_path, num_shards=3, part=(0, 2))
  entries = digests.seal({}, manifest.NAME, {SHARDS[0]: digests.of_bytes(b"")})
  (tmp_path / "manifest-1-of-3.jsonl").write_text(json.dumps(entries))
  hashed.clear()
  run(folder, tmp_path, num_shards=3, part=(1, 2))
  assert SHARDS[0] in hashed and SHARDS[2] not in hashed
  assert main(f"--verify={tmp_path}") == 0


def test_statistics_join_the_manifest(folder, tmp_path):
  run(folder, tmp_path)
  assert main(f"--out={tmp_path}") == 0
  assert "statistics.json" in manifest.read(str(tmp_path)) and main(f"--verify={tmp_path}") == 0
  damages.cut(tmp_path / "statistics.json")
  assert main(f"--verify={tmp_path}") == 2
  assert main(f"--out={tmp_path}") == 0 and main(f"--verify={tmp_path}") == 0


@pytest.mark.parametrize("split", ["manifest", "statistics"])
def test_a_split_has_no_name_of_another_file(folder, tmp_path, split):
  assert "a split cannot be called" in bad(folder / "train", tmp_path / "out", split=split)
  assert not (tmp_path / "out").exists()


def test_a_manifest_that_cannot_be_written_is_said_in_one_line(folder, tmp_path, monkeypatch, capsys):
  write = sealing.files.write

  def full(path, text):
    if path.name == manifest.NAME:
      raise OSError(errno.ENOSPC, "No space left on device")
    write(path, text)

  monkeypatch.setattr(sealing.files, "write", full)
  assert main(f"--source={folder}", f"--out={tmp_path}") == cli.FAULT
  assert capsys.readouterr().err == (
    f"swin_jax: {tmp_path / manifest.NAME} cannot be written: no space left on the disk; once that is solved,"
    " the same command continues\n"
  )
