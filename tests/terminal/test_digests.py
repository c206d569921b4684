"""Digests detect every kind of damage to the files of a folder, and to the file that holds the digests."""

import hashlib
import json
import os
import re

import pytest

from swin_jax.terminal import digests, progress
from swin_jax.terminal.errors import BadInput
from tests.support import damages

NAME = "about.json"
DOCUMENT = {"rate": 1e-05, "sizes": (3, 4), "names": ["ä", "b"], "by_label": {10: "x", 9: None}}


@pytest.fixture(name="folder")
def _folder(tmp_path):
  """A sealed folder of three files, two of the same size."""
  (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 64)
  (tmp_path / "b.bin").write_bytes(bytes(range(255, -1, -1)) * 64)
  (tmp_path / "c.txt").write_text("c")
  known = {path.name: digests.of_file(path) for path in tmp_path.iterdir()}
  (tmp_path / NAME).write_text(json.dumps(digests.seal(DOCUMENT, NAME, known), indent=2))
  return tmp_path


def test_a_digest_is_size_and_sha256(tmp_path, monkeypatch):
  monkeypatch.setattr(digests, "_CHUNK", 1000)
  content, pieces = bytes(range(256)) * 10, []
  (tmp_path / "x").write_bytes(content)
  expected = {"size": 2560, "sha256": hashlib.sha256(content).hexdigest()}
  assert digests.of_file(tmp_path / "x", pieces.append) == digests.of_bytes(content) == expected
  assert pieces == [1000, 1000, 560]


def test_what_is_sealed_is_read(folder):
  document = json.loads((folder / NAME).read_text())
  assert digests.read(document, NAME) == {
    name: digests.of_file(folder / name) for name in ("a.bin", "b.bin", "c.txt")
  }
  # Formatting and the order of keys mean nothing.
  assert digests.read(dict(reversed(document.items())), NAME)
  assert digests.read({"rate": 1}, NAME) is None


def test_every_bit_of_the_json_file_counts(folder):
  """A flipped bit makes the file unreadable, or is detected, or leaves all values as they were. If it hits
  the name of the group, the folder counts as one without digests.
  """
  content = (folder / NAME).read_bytes()
  whole, detected = json.loads(content), 0
  rest = {key: value for key, value in whole.items() if key != digests.GROUP}
  for place in range(8 * len(content)):
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    try:
      document = json.loads(flipped)
      known = digests.read(document, NAME) if isinstance(document, dict) else None
    except ValueError:
      detected += 1
    else:
      assert document == whole if known else rest.items() <= document.items(), flipped
  assert detected > 0.9 * 8 * len(content)


@pytest.mark.parametrize(
  "entry",
  [
    {"../a": digests.of_bytes(b"")},
    {"/etc/passwd": digests.of_bytes(b"")},
    {"..": digests.of_bytes(b"")},
    {"a\\b": digests.of_bytes(b"")},
    {"a\x1b[2Jb": digests.of_bytes(b"")},
    {"": digests.of_bytes(b"")},
    {"a": {"size": "1", "sha256": ""}},
    {"a": {"size": 1}},
    {"a": None},
  ],
  ids=str,
)
def test_entries_that_name_no_file_of_the_folder_are_refused(entry):
  with pytest.raises(
    ValueError, match=r"has an entry '.*' in digests that is not a file of its folder"
  ) as error:
    digests.read(digests.seal({}, NAME, entry), NAME)
  assert str(error.value).isprintable()


@pytest.mark.parametrize("group", [None, [], {}, {NAME: None}, {NAME: {}}, "x"])
def test_a_group_of_another_form_is_damage(group):
  with pytest.raises(ValueError, match="has changed since it was written"):
    digests.read({digests.GROUP: group}, NAME)


@pytest.mark.parametrize(
  "damage, said", damages.OF_A_FILE.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_verify_names_what_is_damaged(folder, capsys, damage, said):
  damage(folder / "a.bin")
  with pytest.raises(BadInput) as error:
    digests.verify(str(folder), NAME, "write it again")
  assert str(error.value) == (
    f"{folder}: 1 of 3 files are damaged or missing, as named above; write it again"
  )
  printed = capsys.readouterr().out.splitlines()
  assert re.fullmatch(f"a.bin {said}", printed[0]) and not any("b.bin" in line for line in printed)


def test_verify_names_swapped_renamed_and_unexpected_files(folder, capsys):
  damages.swap(folder / "a.bin", folder / "b.bin")
  (folder / "c.txt").rename(folder / "c\n.txt")
  with pytest.raises(BadInput, match="3 of 3 files"):
    digests.verify(str(folder), NAME, "write it again")
  assert capsys.readouterr().out.splitlines() == [
    "a.bin has changed: its content has another SHA-256",
    "b.bin has changed: its content has another SHA-256",
    "c.txt is missing",
    f"c\\n.txt is unexpected: {NAME} does not list it",
  ]


def test_verify_of_an_intact_folder(folder, capsys, monkeypatch):
  monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
  (folder / "more").mkdir()
  digests.verify(str(folder), NAME, "")
  printed = capsys.readouterr().out
  assert re.search(r"^verifying \S+  \d/\d  [\d,.]+ MB/s  0:00 left$", printed, re.M)
  assert f"more is unexpected: {NAME} does not list it\n" in printed
  assert printed.endswith("; 3 files are as they were written\n")


def test_verify_needs_a_readable_file_of_digests(folder):
  def refusal():
    with pytest.raises(BadInput) as error:
      digests.verify(str(folder), NAME, "write it again")
    assert "\n" not in str(error.value)
    return str(error.value)

  content = (folder / NAME).read_text()
  (folder / NAME).write_text(content.replace('"rate": 1e-05', '"rate": 2e-05'))
  assert f"{NAME} is damaged: it has changed since it was written" in refusal()
  for text in (content[:-9], "[" * 100_000, "\0"):
    (folder / NAME).write_text(text)
    assert f"{NAME} is damaged: it is not valid JSON" in refusal()
  for text in ("[]", "7"):
    (folder / NAME).write_text(text)
    assert f"{NAME} is damaged: its content must be an object" in refusal()
  (folder / NAME).write_text("{}")
  assert "has no digests: it is of an older version" in refusal()
  (folder / NAME).unlink()
  os.mkfifo(folder / NAME)
  assert f"holds no file {NAME}" in refusal()
