"""The measurement of the input pipeline: slow stages are named, and bad input gives a one-line message."""

import dataclasses
import functools
import os
import re
import subprocess
import sys
import time

import pytest

from swin_jax.data.read import image_ops
from swin_jax.data.view import crops
from swin_jax.run import bench
from swin_jax.terminal.errors import BadInput
from tests.support import pages, tiny
from tests.support.batches import make_input
from tests.support.opened import open_source
from tests.support.paths import ROOT

pytestmark = pytest.mark.devices(8)


@dataclasses.dataclass(frozen=True)
class Slow:
  """A source that is slow, or whose examples cannot be read."""

  seconds: float
  damaged: bool = False
  num_classes = 10
  class_names = tuple("0123456789")

  def __len__(self):
    return 40

  def __getitem__(self, index):
    time.sleep(self.seconds)
    if self.damaged:
      raise ValueError("is damaged")
    return digits()[index]


@functools.cache
def digits():
  return open_source("digits", "", "val")


def test_the_stages_and_the_rest_are_a_cores_time():
  measured = bench.measure(make_input(open_source("digits", "", "train"), batch=16), 0.2)
  assert list(measured.seconds) == list(bench.STAGES)
  stages = [measured.seconds[name] for name in measured.seconds if name != "rest"]
  assert min(stages) > 0 and sum(stages) < 1
  assert sum(measured.seconds.values()) == pytest.approx(max(measured.cores / measured.rate, sum(stages)))


class Clock:
  """A clock that advances only while something is slow, so that results do not depend on how busy the machine
  is.
  """

  def __init__(self):
    self.now = 0.0

  def perf_counter(self):
    return self.now

  def sleep(self, seconds):
    self.now += seconds


@pytest.mark.parametrize(
  "slow, stage",
  [
    ("reading takes", "read"),
    ("decoding takes", "decode"),
    ("cropping and resizing take", "crop and resize"),
  ],
)
def test_what_is_slow_is_named(slow, stage, monkeypatch):
  clock, seconds = Clock(), 0.002
  monkeypatch.setattr(bench, "time", clock)

  def wait(function):
    return lambda *args: (clock.sleep(seconds), function(*args))[1]

  monkeypatch.setattr(time, "sleep", clock.sleep)
  if slow.startswith("decoding"):
    monkeypatch.setattr(image_ops, "decode", wait(image_ops.decode))
  if slow.startswith("cropping"):
    monkeypatch.setattr(crops, "random_resized_crop", wait(crops.random_resized_crop))
  data = dataclasses.replace(
    make_input(Slow(seconds if slow.startswith("reading") else 0.0), batch=8), num_threads=1
  )
  seconds_by_stage = bench.time_stages(data, 1.0)
  assert seconds_by_stage == pytest.approx(dict.fromkeys(seconds_by_stage, 0.0) | {stage: seconds})
  *_, last = bench.describe(tiny.config(), bench.Measured(400.0, 1, seconds_by_stage | {"rest": 0.0005}))
  assert last.startswith(f"{slow} 80 %")


def test_devices_that_augment_fewer_images_bound_it():
  measured = bench.Measured(1000.0, 2, {})
  assert bench.device_limit(1000.0, measured) == ""
  assert bench.device_limit(69.0, measured).startswith(
    ", fewer than the 1,000 that the pipeline delivers: this limits the input here"
  )


@pytest.mark.parametrize(
  "threads, workers, cores, advice",
  [
    (8, 0, 2, ": try data.num_threads=2 data.num_workers=0"),
    (2, 0, 2, "; each core has its thread"),
    (1, 2, 2, "; each core has its thread"),
    (16, 0, 16, ": try data.num_threads=4 data.num_workers=4"),
    (4, 4, 16, "; each core has its thread"),
  ],
)
def test_advice_is_of_what_is_not_so_already(monkeypatch, threads, workers, cores, advice):
  monkeypatch.setattr(os, "cpu_count", lambda: cores)
  config = tiny.config(data__num_threads=threads, data__num_workers=workers)
  *_, last = bench.describe(
    config, bench.Measured(1.0, cores, {"read": 0.1, "decode": 0.1, "crop and resize": 0.1, "rest": 0.5})
  )
  assert advice in last


def test_what_cannot_be_read_is_one_line():
  with pytest.raises(BadInput, match="none of 40 records could be read"):
    bench.measure(make_input(Slow(0.0, damaged=True), batch=8), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_what_the_devices_do(kind):
  rate, devices = bench.on_devices(tiny.config(kind, augment__rand_augment_operations=2), 10)
  assert rate > 0 and devices == "8 × cpu"


def command(*words):
  return subprocess.run(
    [sys.executable, "-m", "swin_jax.run.bench", *words],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )


@pytest.mark.slow
def test_the_command_of_the_page():
  ((_, _, *words),) = pages.block("docs/scale.md", "Is the input fast enough?").commands
  done = command(*words[:1], "--seconds=1", "--config.data.num_workers=1")
  assert done.returncode == 0, done.stderr
  start, first, *stages, bound, device = done.stdout.splitlines()
  assert start == "starting 1 process of 2 threads, each with a batch of 128 images"
  assert re.match(r"[\d,]+ images/s of 32 × 32 pixels, [\d,]+ per core on \d+ cores?", first)
  assert len(stages) == 4 and all(
    re.match(r"  (read|decode|crop and resize|rest) +[\d,]+ µs +\d+ %$", stage) for stage in stages
  )
  assert re.search(r" takes? \d+ %", bound) and re.match(r"then on 1 × cpu: [\d,]+ images/s", device)


@pytest.mark.slow
def test_mistakes_are_one_line():
  for words, message in (
    (("--config=configs/quickstart.py", "--secons=3"), "did you mean --seconds?"),
    (("--config=configs/swin_tiny.py",), "data.source=array_record needs --config.data.path"),
    (
      ("--config=configs/quickstart.py", "--config.data.num_threads=0"),
      "config.data.num_threads = 0: must be at least 1",
    ),
  ):
    done = command(*words)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and message in done.stderr, done.stderr
