"""Speeds and times of the log, by a fake clock that advances only when told to."""

import types

import jax
import pytest

from swin_jax.mesh import hardware
from swin_jax.run import clock

pytestmark = pytest.mark.every_python


@pytest.fixture
def time(monkeypatch):
  now = types.SimpleNamespace(seconds=100.0)
  monkeypatch.setattr(clock, "time", types.SimpleNamespace(perf_counter=lambda: now.seconds))
  return now


@pytest.fixture
def peak(monkeypatch):
  """Sets the peak of every device to 50 TFLOP/s."""
  monkeypatch.setattr(hardware, "peak_flops", lambda kind: 50e12)


def test_speeds_are_of_the_time_spent_training(time, peak):
  """Ten steps of 16 images, 3 TFLOP each, take 4 seconds of computing and one second of waiting for data.
  That is 32 images and 96 TFLOP per second, on devices with a peak of 50 TFLOP/s each. Saving and evaluating
  do not count.
  """
  ours = clock.Clock(16, 3 * 10**12)
  for _ in range(10):
    ours.step()
    time.seconds += 0.4
    with ours.measure("data"):
      time.seconds += 0.1
  with ours.measure("checkpoint"):
    time.seconds += 7.0
  with ours.measure("evaluation"):
    time.seconds += 11.0
  assert ours.compute() == pytest.approx(
    {
      "perf/images_per_second": 32.0,
      "perf/tflops_per_second": 96.0,
      "perf/mfu": 96 / (50 * jax.device_count()),
      "perf/data_seconds": 1.0,
      "perf/checkpoint_seconds": 7.0,
      "perf/evaluation_seconds": 11.0,
      "perf/compute_seconds": 4.0,
    }
  )


def test_an_entry_begins_where_the_last_one_ended(time, peak):
  ours = clock.Clock(8, 10**12)
  with ours.measure("data"):
    time.seconds += 5.0
  ours.step()
  ours.compute()
  time.seconds += 2.0
  ours.step()
  values = ours.compute()
  assert values["perf/images_per_second"] == pytest.approx(4.0)
  assert (values["perf/data_seconds"], values["perf/compute_seconds"]) == pytest.approx((0.0, 2.0))


def test_compiling_is_no_training(time, peak):
  ours = clock.Clock(8, 10**12)
  time.seconds += 60.0
  ours.restart()
  ours.step()
  time.seconds += 0.5
  assert ours.compute()["perf/images_per_second"] == pytest.approx(16.0)


def test_time_is_counted_also_where_reading_fails(time, peak):
  ours = clock.Clock(8, 10**12)
  with pytest.raises(StopIteration), ours.measure("data"):
    time.seconds += 3.0
    raise StopIteration
  assert ours.compute()["perf/data_seconds"] == pytest.approx(3.0)


def test_a_device_of_unknown_peak_has_no_mfu(time):
  ours = clock.Clock(8, 10**12)
  ours.step()
  time.seconds += 1.0
  assert "perf/mfu" not in ours.compute()
