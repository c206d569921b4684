"""Temporary storage failures change no batch; permanent ones end the run with a one-line message; damaged
records are not retried.
"""

import collections
import errno
import math
import os
import time

import pytest

from swin_jax.data.feed import reading
from swin_jax.data.prepare import writing
from swin_jax.data.read import trees
from swin_jax.data.read.example import Example
from swin_jax.terminal.errors import BadInput, Fault
from tests.support import images
from tests.support.batches import WHOLE, assert_same, make_input, take
from tests.support.opened import open_source

STALE = OSError(errno.ESTALE, os.strerror(errno.ESTALE), "/data/shard 3")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
  monkeypatch.setattr(reading, "WAITS", (0.01, 0.02, 0.03))
  monkeypatch.setattr(reading, "named", set())
  reading.gone.clear()


class Failing:
  """Twelve examples; reading the examples in `errors` = {index: (error, times)} fails the given number of
  times.
  """

  num_classes, class_names = 0, ()

  def __init__(self, errors):
    self._errors = errors
    self.reads = collections.Counter()

  def __reduce__(self):
    return _in_worker, (self._errors, reading.WAITS)

  def __len__(self):
    return 12

  def __getitem__(self, index):
    self.reads[index] += 1
    error, times = self._errors.get(index, (None, 0))
    if self.reads[index] <= times:
      raise error
    return Example(images.encode(index), -1, f"image {index}")


def _in_worker(errors, waits):
  reading.WAITS = waits
  return Failing(errors)


@pytest.mark.parametrize(
  "error", [STALE, ConnectionResetError("reset"), TimeoutError("timed out"), OSError(errno.EIO, "I/O error")]
)
def test_what_fails_for_a_while_changes_nothing(error, capsys, monkeypatch):
  monkeypatch.setattr(reading, "warned", -math.inf)  # it warns at most once a minute
  source = Failing({i: (error, 3) for i in (2, 5, 6)})
  assert_same(
    take(make_input(source).train_batches(0, WHOLE), 4),
    take(make_input(Failing({})).train_batches(0, WHOLE), 4),
  )
  (message,) = [line for line in capsys.readouterr().err.splitlines() if "retrying" in line]
  assert message.startswith("swin_jax: record ") and str(error) in message


@pytest.mark.parametrize(
  "error",
  [ValueError("no record"), RuntimeError("mismatch"), FileNotFoundError("gone"), PermissionError("no")],
)
def test_what_will_not_change_is_not_waited_for(error):
  source = Failing({2: (error, 1_000)})
  (batch,) = make_input(source, batch=12).eval_batches(WHOLE)
  assert batch["bad"].tolist() == [0, 0, 1] + [0] * 9 and batch["index"][2] == 3
  assert source.reads[2] == 1


def test_the_name_of_a_bad_record_cannot_pass_for_a_line(capsys):
  examples = [Example(b"bad", -1, "x\nswin_jax: forged\x1b[2J"), Example(b"1", -1, "y")]
  load = reading.Load(examples, lambda example: int(example.image), lambda value, rng: {"value": value})
  assert load(0, None)["value"] == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("swin_jax: left out: x\\nswin_jax: forged\\x1b[2J cannot be read: ")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_storage_that_stays_away_ends_the_run_in_one_line(workers):
  with pytest.raises(BadInput) as error:
    take(make_input(Failing({7: (STALE, 10_000)}), workers=workers).train_batches(0, WHOLE), 9)
  assert type(error.value) is Fault
  assert str(error.value) == (
    "record 7 cannot be read: [Errno 116] Stale file handle: '/data/shard 3'; the storage did not recover"
    " in 0 seconds. Repair it, or copy that file again; the same command then continues from the last "
    "checkpoint"
  )


def test_when_one_gives_up_the_others_do_not_wait_as_long(monkeypatch):
  source = Failing({i: (STALE, 10_000) for i in range(12)})
  with pytest.raises(BadInput):
    reading.read(source, 0)
  monkeypatch.setattr(reading, "WAITS", (60.0,))
  began = time.monotonic()
  with pytest.raises(BadInput):
    reading.read(source, 1)
  assert time.monotonic() - began < 30
  # After any successful read, waiting is worthwhile again.
  monkeypatch.setattr(reading, "WAITS", (0.01, 0.01))
  reading.read(Failing({}), 0)
  assert reading.read(Failing({3: (STALE, 2)}), 3).name == "image 3"


@pytest.fixture(name="shard")
def _shard(tmp_path):
  images.make_folder(tmp_path / "folder", {"train": 6})
  writing.prepare(str(tmp_path / "folder"), str(tmp_path / "set"), num_shards=1)
  return tmp_path / "set" / "train-00000-of-00001.array_record"


def test_a_shard_that_comes_back_is_opened_anew(shard):
  source = open_source("array_record", str(shard.parent), "train")
  with images.away(shard):
    with pytest.raises(OSError) as error:
      source[0]
    assert error.value.errno == errno.ELOOP and error.value.filename == str(shard)
    with pytest.raises(
      BadInput, match=f"record 0 cannot be read: .* symbolic links: '{shard}'; the storage did not recover"
    ):
      reading.read(source, 0)
    shard.unlink()
    with pytest.raises(FileNotFoundError):
      source[0]
  assert images.contents(source) == images.contents(open_source("array_record", str(shard.parent), "train"))


def test_a_file_that_cannot_be_read_is_named():
  # can be opened, but has nothing at address 0
  with pytest.raises(OSError, match="Input/output error: '/proc/self/mem'"):
    trees.Disk("/proc/self").read("mem")
