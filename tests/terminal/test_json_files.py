"""The reader of JSON files: whatever is wrong with one is one line with the file and the key."""

import os
import tracemalloc

import pytest

from swin_jax.terminal import json_files, rules
from swin_jax.terminal.errors import BadInput

SCHEMA = {
  "name": str,
  "count": rules.Whole(0, 9),
  "mean": [float],
  "of": {"rate?": rules.Real(0, 1, above=True), "on?": bool},
  "sums?": {"*": str},
}
GOOD = '{"name": "x", "count": 3, "mean": [1, 0.5], "of": {"rate": 0.5}, "sums": {"a": "b"}, "x": null}'


def test_a_file_that_matches_is_returned(tmp_path):
  path = tmp_path / "a.json"
  path.write_text(GOOD)
  assert json_files.read(path, SCHEMA)["mean"] == [1, 0.5]


@pytest.mark.parametrize(
  "old, new, message",
  [
    ('"name": "x", ', "", "it lacks name"),
    ('"x"', "null", "name must be text, not None"),
    ('"count": 3', '"count": true', "count = True: must be an integer"),
    ('"count": 3', '"count": 10', "count = 10: must be at least 0 and at most 9"),
    ('"count": 3', f'"count": {"9" * 5000}', "is damaged: it is not valid JSON"),
    ("0.5]", "NaN]", "it holds NaN"),
    ("0.5]", "-Infinity]", "it holds -Infinity"),
    ("0.5]", "1e999]", "it holds the number 1e999, which is too large"),
    ("0.5]", f"1{'0' * 400}]", r"mean\[1\] must be a number, not 1000"),
    ("0.5]", '"a"]', r"mean\[1\] must be a number, not 'a'"),
    ("[1, 0.5]", '"ab"', "mean must be a list, not 'ab'"),
    ('"rate": 0.5', '"rate": 0', "of.rate = 0: must be more than 0"),
    ('"rate": 0.5', '"on": 1', "of.on must be true or false, not 1"),
    ('{"rate": 0.5}', "[]", r"of must be an object, not \[\]"),
    ('"b"', "[]", r"sums.a must be text, not \[\]"),
    ("{", "", "is damaged: it is not valid JSON"),
    (GOOD, "", "is damaged: it is not valid JSON"),
    (GOOD, "[" * 100_000, "nested too deeply"),
    (GOOD, "3", "its content must be an object, not 3"),
  ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, old, new, message):
  path = tmp_path / "a.json"
  path.write_text(GOOD.replace(old, new, 1))
  with pytest.raises(BadInput, match=message) as caught:
    json_files.read(path, SCHEMA, "delete it")
  text = str(caught.value)
  assert text.startswith(str(path)) and text.endswith("; delete it") and "\n" not in text and len(text) < 400


def folder(path):
  path.mkdir()


def pipe(path):
  os.mkfifo(path)


def dangling(path):
  path.symlink_to("nowhere")


def latin(path):
  path.write_bytes('{"name": "é"}'.encode("latin-1"))


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda path: None, "cannot be read: No such file"),
    (dangling, "cannot be read: No such file"),
    (folder, "cannot be read: it is a folder, not a file"),
    (pipe, "cannot be read: it is not a regular file"),
    (latin, "is damaged: it is not UTF-8 text from byte 10 on"),
  ],
)
def test_what_is_no_readable_file_is_named(tmp_path, make, message):
  path = tmp_path / "a.json"
  make(path)
  with pytest.raises(BadInput, match=message):
    json_files.read(path, dict)


def test_a_name_that_cannot_exist_is_refused():
  for name in ("a" * 5000, "nul\0l"):
    with pytest.raises(BadInput, match="cannot be read"):
      json_files.read(name, dict)


def test_a_file_larger_than_any_of_ours_is_not_parsed(tmp_path, monkeypatch):
  monkeypatch.setattr(json_files, "MOST_BYTES", 10)
  (tmp_path / "a.json").write_text(GOOD)
  with pytest.raises(BadInput, match="it has more than 10 bytes"):
    json_files.read(tmp_path / "a.json", dict)


def test_reading_takes_memory_for_the_file_alone(tmp_path):
  (tmp_path / "a.json").write_text(GOOD)
  tracemalloc.start()
  try:
    json_files.read(tmp_path / "a.json", SCHEMA)
    assert tracemalloc.get_traced_memory()[1] < 2**20
  finally:
    tracemalloc.stop()
