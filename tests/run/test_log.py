"""The lines of a run: short, with the time left; what its metrics file says of time; no long silence."""

import json
import re

import pytest

from swin_jax.run import clock, log
from swin_jax.run.schedule import Schedule
from swin_jax.run.writer import Writer
from tests.support import logs
from tests.support.runs import SMALL, command, steps

SUMS = {"loss": (0.5, 1.0), "grad_norm": (1.0, 1.0), "learning_rate": (1.25e-4, 1.0)}


class Time:
  now = 1000.0

  def perf_counter(self):
    return self.now

  def time(self):
    return 1.7e9 + self.now


@pytest.fixture(name="time")
def _time(monkeypatch):
  fake = Time()
  for module in (clock, log, logs):
    monkeypatch.setattr(module, "time", fake)
  return fake


def test_a_line_has_what_people_look_for(time, capsys):
  log = logs.train_log(Schedule(40, 100, {"log": 10, "evaluate": 50, "save": 100}), 8, "eval/top1")
  for step in range(1, 11):
    time.now += 0.5
    log.add(step, SUMS)
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith("step 10/100  epoch 0.25  loss 0.5  rate 0.000125  16 images/s  0:4")
  log.add_evaluation(10, {"eval/loss": 0.25, "eval/top1": 0.875, "eval/iou/sky": 0.5}, 3.0, 0.0)
  assert capsys.readouterr().out == (
    "step 10/100  epoch 0.25  evaluated in 0:03  eval/top1 0.875  eval/loss 0.25\n"
  )
  for step in range(11, 21):
    time.now += 0.5
    log.add(step, SUMS)
  assert "loss 0.5  eval/top1 0.875  rate" in capsys.readouterr().out


def test_lines_stay_short(time, capsys):
  name = "eval/relative_" + "error_" * 8
  log = logs.train_log(Schedule(1000, 1_234_567, {"log": 1, "evaluate": 10, "save": 10}), 1024, name)
  values = {name: 0.123456, "eval/loss": 1.23456e-5, **{f"eval/metric_{i}": 1 / 3 for i in range(9)}}
  log.add_evaluation(1_000_000, values, 4000.0, 0.0)
  time.now += 100
  with log.clock.measure("data"):
    time.now += 5000
  log.add(1_000_001, SUMS)
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2 and all(len(line) < 110 for line in lines)
  assert re.search(r"rate .* images/s  \d+:\d\d:\d\d left", lines[1])


def test_the_time_left_includes_evaluations_and_saves(time, capsys):
  """100 steps of 1 s; evaluations of 20 s, each after a save of 5 s, and ten further saves. The first
  evaluation also compiles for 7 s. After step 15, 85 steps, 9 evaluations and 18 saves are left.
  """
  log = logs.train_log(Schedule(20, 100, {"log": 15, "evaluate": 10, "save": 5}), 8, "eval/loss")
  for step in range(1, 16):
    time.now += 1
    log.add(step, SUMS)
    if step % 5 == 0 and step < 15:
      with log.clock.measure("checkpoint"):
        time.now += 5
    if step % 10 == 0:
      with log.clock.measure("evaluation"):
        time.now += 27
      log.add_evaluation(step, {"eval/loss": 1.0}, 27, 7)
  line = capsys.readouterr().out.splitlines()[-1]
  minutes, seconds = map(int, re.search(r"(\d+):(\d\d) left", line).groups())
  # A save that an evaluation needs and one that is due anyway count as two, before and after.
  assert 60 * minutes + seconds == pytest.approx(85 + 9 * 20 + 18 * 5, abs=6)


def test_before_an_evaluation_its_time_is_guessed_from_the_steps(time, capsys):
  log = logs.train_log(
    Schedule(20, 100, {"log": 10, "evaluate": 50, "save": 50}), 8, "eval/loss", eval_batches=30
  )
  for step in range(1, 11):
    time.now += 1
    log.add(step, SUMS)
  assert "1:50 left" in capsys.readouterr().out  # 90 steps, and two evaluations of 10 s


def test_entries_have_epoch_elapsed_and_wall_clock_time(time, tmp_path):
  run = logs.train_log(
    Schedule(4, 8, {"log": 2, "evaluate": 8, "save": 8}), writer=Writer(str(tmp_path), 0, True, {})
  )
  for step in (1, 2):
    time.now += 3
    run.add(step, SUMS)
  run.writer.close()
  entry = json.loads((tmp_path / "metrics.jsonl").read_text())
  about = {name: entry[name] for name in ("step", "epoch", "elapsed_seconds", "time")}
  assert about == {"step": 2, "epoch": 0.5, "elapsed_seconds": 6.0, "time": 1.7e9 + 1006}


@pytest.mark.parametrize(
  "total, every, after, until, times", [(10, 3, 0, 10, 4), (10, 5, 0, 10, 2), (10, 3, 3, 9, 2)]
)
def test_what_is_due_is_counted(total, every, after, until, times):
  schedule = Schedule(1, total, {"save": every})
  assert schedule.count("save", after, until) == times
  assert times == sum(schedule.is_due("save", step) for step in range(after + 1, until + 1))


@pytest.mark.slow
def test_a_run_speaks_at_once_without_banners_and_is_evaluated_by_its_folder_alone(tmp_path):
  """The first line comes before jax is imported; nothing but our own lines is printed."""
  process = command(*SMALL, *steps(6, save=6), f"--workdir={tmp_path / 'run'}", "--config.log.every_steps=3")
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  lines = output.splitlines()
  assert lines[0] == f"train in {tmp_path / 'run'}: starting ..."
  assert "warning: the run has only 6 steps of 16 images" in output
  known = r"(train in|starting|opening|warning:|preparing|reading|initialising|masked_pixels,|6 steps"
  known += r" of 16"
  known += r"|(no GPU found|JAX_PLATFORMS=cpu): training on|each device holds"
  known += r"|compiling|train step:|step \d+/6  epoch|saving|evaluati|done in|drew)"
  assert not [line for line in lines if not re.match(known, line)], output
  trained = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["eval/loss"]
  process = command("--mode=eval", f"--workdir={tmp_path / 'run'}", "--config.data.num_threads=2")
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0 and f"eval/loss {trained:.4f}" in output, output
  process = command("--mode=eval", f"--workdir={tmp_path / 'run'}", "--config.data.evalsplit=val")
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 2 and "did you mean config.data.eval_split?" in output, output
