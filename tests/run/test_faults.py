"""What goes wrong in long runs: after each of these the same command goes on, and the end is that of a run
nothing happened to.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.data.feed import pipeline
from swin_jax.data.read import digits
from swin_jax.mesh import distributed
from swin_jax.run import config, train
from swin_jax.run.clock import Clock
from swin_jax.run.log import TrainLog
from swin_jax.run.profiler import Profiler
from swin_jax.saved import checkpoint, manifest
from swin_jax.tasks import KINDS
from swin_jax.terminal import cli, preemption
from swin_jax.terminal.errors import BadInput, Preempted
from tests.support import tiny
from tests.support.paths import ROOT
from tests.support.runs import (
  SMALL,
  assert_same,
  changed,
  command,
  finish,
  flip_a_byte,
  lines,
  read_until,
  saved,
  steps,
)

# One block; 20 steps; evaluated in 5 batches after 10 and 20, saved after 5, 10, 15, 20, logged after 3, 6, …
SHORT = dict(
  model__depths=(1,),
  model__num_heads=(2,),
  model__window_sizes=(4,),
  optim__ema_decay=0.9,
  checkpoint__every_epochs=5 / 89,
  log__eval_every_epochs=10 / 89,
  log__num_pictures=0,
)


def run(workdir, **changes):
  return train.train(tiny.config(**SHORT | changes), str(workdir))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run that nothing happens to."""
  workdir = tmp_path_factory.mktemp("finished")
  run(workdir)
  return workdir


def assert_equal_runs(one, other, last=20):
  assert_same(saved(one, last), saved(other, last))
  assert lines(one) == lines(other)


# Asked to stop.


def ask_after(monkeypatch, times):
  """Asks the run to stop when it looks the so many-th time: before the first step, after each, before each
  batch of an evaluation.
  """
  asked = iter(range(10**6))
  monkeypatch.setattr(preemption, "requested", lambda: next(asked) >= times)


def run_whole_and_stopped(tmp_path, monkeypatch, times, **changes):
  """One run in `whole` and one in `stopped`, which is asked to stop the so many-th time and goes on; they
  must be equal.
  """
  run(tmp_path / "whole", **changes)
  with monkeypatch.context() as m, pytest.raises(Preempted):
    ask_after(m, times)
    run(tmp_path / "stopped", **changes)
  run(tmp_path / "stopped", **changes)
  assert_equal_runs(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("times, at", [(0, 0), (7, 7), (13, 10), (26, 20)])
def test_a_run_asked_to_stop_loses_nothing(finished, tmp_path, monkeypatch, times, at):
  with monkeypatch.context() as m, pytest.raises(Preempted, match=f"saved at step {at};"):
    ask_after(m, times)
    run(tmp_path)
  assert at == 0 or manifest.is_written(tmp_path / "checkpoints" / str(at))
  evaluation = tmp_path / "checkpoints" / "10" / "evaluation.json"
  assert at != 10 or not evaluation.exists()
  run(tmp_path, checkpoint__keep_latest=9)
  assert_equal_runs(tmp_path, finished)
  if at == 10:  # the evaluation that was stopped is made up for
    assert manifest.read_evaluation(evaluation.parent)[0] == pytest.approx(evaluations(finished)[0])


def evaluations(workdir):
  return [
    {k: v for k, v in entry.items() if k.startswith("eval/")}
    for entry in lines(workdir)
    if "eval/loss" in entry
  ]


def test_a_run_that_is_done_says_what_came_out(finished):
  before = (finished / "metrics.jsonl").read_text()
  assert run(finished) == evaluations(finished)[-1]
  assert (finished / "metrics.jsonl").read_text() == before


LONG = changed(
  SMALL,
  *steps(60, save=20, evaluate=20),
  "--config.log.every_steps=5",
  "--config.log.num_pictures=0",
  "--config.data.eval_split=train",
  "--config.data.eval_batch_size=1",  # takes longer than a save, so that it can be hit
)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("long")
  finish([command(*LONG, f"--workdir={workdir}")])
  return workdir


def watches_sigterm(pid):
  """Whether the process handles SIGTERM by itself already."""
  caught = re.search(r"SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]
  return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def start_until(workdir, phase):
  """Starts or continues the run until it is in a phase of its life."""
  process = command(*LONG, f"--workdir={workdir}")
  folder = pathlib.Path(workdir) / "checkpoints"
  before = {path.name for path in folder.glob("*")}
  if phase == "start-up":
    while not watches_sigterm(process.pid):
      time.sleep(0.01)
  elif phase == "compiling":
    read_until(process, "compiling")
  elif phase == "training":
    read_until(process, "step 10/60", "step 30/60", "step 50/60")
  else:
    while not [path for path in folder.glob("[0-9]*") if path.name not in before] and process.poll() is None:
      time.sleep(0.001)  # "saving": a new folder, with a temporary name at first
    if phase == "evaluation":
      time.sleep(0.1)  # it goes on beside the save
  return process


@pytest.mark.slow
@pytest.mark.parametrize(
  "how, code, phases",
  [
    (signal.SIGTERM, 75, ("start-up", "training", "evaluation")),
    (signal.SIGKILL, -9, ("compiling", "saving")),
    pytest.param(signal.SIGTERM, 75, ("compiling", "saving"), marks=pytest.mark.ci),
    pytest.param(signal.SIGKILL, -9, ("start-up", "training", "evaluation"), marks=pytest.mark.ci),
  ],
)
def test_killed_in_every_phase(long, tmp_path, how, code, phases):
  for phase in phases:
    process = start_until(tmp_path, phase)
    process.send_signal(how)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, (phase, process.returncode, output)
    assert how == signal.SIGKILL or ("swin_jax: stopped" in output and "Traceback" not in output), (
      phase,
      output,
    )
    steps_saved = [int(path.name) for path in (tmp_path / "checkpoints").glob("*") if path.name.isdigit()]
    if how == signal.SIGTERM and phase in ("start-up", "compiling"):
      assert not steps_saved
    elif how == signal.SIGTERM and phase == "training":
      assert 10 <= max(steps_saved) < 20
    elif how == signal.SIGTERM and phase == "evaluation":
      assert max(steps_saved) == 20 and not (tmp_path / "checkpoints" / "20" / "evaluation.json").exists()
  finish([command(*LONG, f"--workdir={tmp_path}")])
  assert_equal_runs(tmp_path, long, 60)


@pytest.mark.slow
def test_ctrl_c_saves(tmp_path):
  process = command(*LONG, f"--workdir={tmp_path}")
  read_until(process, "step 5/60")
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 130 and "stopped, saved at step" in output and "Traceback" not in output, (
    output
  )


def test_a_second_ctrl_c_ends_at_once():
  code = """
import time
from swin_jax.terminal import preemption
with preemption.watch():
  preemption.protect()
  print("ready", flush=True)
  time.sleep(60)
"""
  process = subprocess.Popen(
    [sys.executable, "-c", code],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  read_until(process, "ready")
  process.send_signal(signal.SIGINT)
  read_until(process, "stopping as soon as the run is saved (press Ctrl-C again to stop at once)")
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=10)
  assert process.returncode == 130


# Checkpoints.


def cut_in_half(folder):
  for path in folder.rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_before_its_checksums(folder):
  next(folder.glob("checksums-*.json")).unlink()
  for path in folder.glob("state/**/d/*"):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_a_byte, cut_in_half, cut_before_its_checksums])
def test_a_damaged_checkpoint_is_passed_over(finished, tmp_path, damage, capsys):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  damage(tmp_path / "checkpoints" / "20")
  run(tmp_path)
  assert "the checkpoint of step 20 is damaged" in capsys.readouterr().err
  assert (tmp_path / "checkpoints" / "damaged-20").exists()
  assert_equal_runs(tmp_path, finished)


@contextlib.contextmanager
def small_disk(folder, kilobytes):
  """A file system of so many kilobytes."""
  folder.mkdir()
  made = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], capture_output=True, text=True
  )
  if made.returncode:
    pytest.skip(f"a small file system needs the right to mount one: {made.stderr.strip()}")
  try:
    yield
  finally:
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_save_that_fails_on_a_full_disk_is_reported_at_once(finished, tmp_path, monkeypatch):
  workdir = tmp_path / "disk"
  filler = workdir / "filler"
  savers = set()
  save = checkpoint.Checkpoints.save

  def saving(self, *args):
    savers.add(self)
    save(self, *args)

  def look():
    # steps of milliseconds would be over before a save is
    while any(saver.is_saving() for saver in savers):
      time.sleep(0.01)
    if manifest.is_written(workdir / "checkpoints" / "5") and not filler.exists():
      filler.write_bytes(bytes(shutil.disk_usage(workdir).free - 100_000))
    return False

  monkeypatch.setattr(checkpoint.Checkpoints, "save", saving)
  monkeypatch.setattr(preemption, "requested", look)
  with small_disk(workdir, 50_000):
    message = (
      r"the checkpoint of step 1[05] could not be saved.*no space left on the disk; the one of step"
      r" (5|10) is intact"
    )
    with pytest.raises(BadInput, match=message) as caught:
      run(workdir, log__eval_every_epochs=1.0)
    assert "\n" not in str(caught.value)
    assert "wait" not in [entry.name for entry in caught.traceback], (
      "found by looking after a step, not when the next save was due"
    )
    assert not list((workdir / "checkpoints").glob("*tmp*")), "what was written of it makes room again"
    monkeypatch.undo()
    with pytest.raises(BadInput, match=message):
      run(workdir, log__eval_every_epochs=1.0)
    filler.unlink()
    run(workdir, log__eval_every_epochs=1.0)
    assert_same(saved(workdir, 20), saved(finished, 20))


def test_a_folder_that_disappears_is_reported(tmp_path, monkeypatch):
  looked = []

  def look():
    looked.append(0)
    if len(looked) == 8:
      shutil.rmtree(tmp_path / "checkpoints")
      (tmp_path / "checkpoints").touch()
    return False

  monkeypatch.setattr(preemption, "requested", look)
  with pytest.raises(
    BadInput, match=r"the checkpoint of step \d+ could not be saved.*there is no earlier one"
  ):
    run(tmp_path)


def test_a_run_that_another_has_overtaken_is_refused(tmp_path, monkeypatch):
  """It has read the folder before the other saved its config, to which it would have to be compared."""
  own = train.run_config.own

  def own_late(workdir):
    monkeypatch.setattr(train.run_config, "own", own)
    run(workdir, seed=1)
    return own(workdir)

  monkeypatch.setattr(train.run_config, "own", own_late)
  with pytest.raises(
    BadInput, match="another process has just trained in --workdir=.*; give the command again"
  ):
    run(tmp_path, seed=2)
  assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


# Output for users.


def test_a_run_goes_on_without_its_output(finished, tmp_path, capsys):
  (tmp_path / "metrics.jsonl").mkdir()
  (tmp_path / "tensorboard").touch()
  (tmp_path / "pictures").symlink_to("nowhere")
  run(tmp_path, log__num_pictures=2)
  assert_same(saved(tmp_path, 20), saved(finished, 20))
  text = capsys.readouterr().err.splitlines()
  for name in ("metrics.jsonl", "tensorboard", "pictures"):
    assert len([line for line in text if f"{tmp_path}/{name}" in line and "the run goes on" in line]) == 1, (
      text
    )


def test_a_damaged_line_of_the_metrics_does_not_block_a_run(finished, tmp_path, capsys):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(path.read_bytes().replace(b"train", b"tr\xffin", 1))
  run(tmp_path)
  assert f"{path}: 1 damaged lines are left out (line 1)" in capsys.readouterr().err
  assert lines(tmp_path) == lines(finished)[1:]


def test_a_digit_of_the_metrics_that_has_changed_is_named(finished, tmp_path, capsys):
  run(shutil.copytree(finished, tmp_path / "intact"))
  assert "metrics.jsonl" not in capsys.readouterr().err
  path = shutil.copytree(finished, tmp_path / "changed") / "metrics.jsonl"
  first, rest = path.read_text().split("\n", 1)
  entry = json.loads(first)
  path.write_text(json.dumps(entry | {"train/loss": entry["train/loss"] + 1}) + "\n" + rest)
  run(tmp_path / "changed")
  (message,) = capsys.readouterr().err.splitlines()
  assert f"{path} has changed since the run wrote it" in message


# Losses that are not finite.


def poison(monkeypatch):
  """Makes the loss of a batch NaN by what is in it, the sum of its first image: three in ten batches."""
  kind = KINDS["masked_pixels"]

  def make(*args):
    task = kind.make(*args)

    def loss(params, batch, rng):
      value, sums, losses = task.loss(params, batch, rng)
      factor = jnp.where(jnp.sum(batch["image"][0], dtype=jnp.int32) % 10 >= 7, jnp.nan, 1.0)
      return value * factor, sums | {"loss": (sums["loss"][0] * factor, sums["loss"][1])}, losses

    return task._replace(loss=loss)

  monkeypatch.setitem(KINDS, "masked_pixels", kind._replace(make=make))


@pytest.mark.slow
def test_steps_that_are_not_finite_are_left_out_and_written_down(tmp_path, monkeypatch):
  poison(monkeypatch)
  run_whole_and_stopped(tmp_path, monkeypatch, 13, optim__skip_nonfinite_steps=19, log__every_steps=1)
  assert all(np.isfinite(value).all() for value in saved(tmp_path / "whole", 20).values())
  rates = [entry["train/learning_rate"] for entry in lines(tmp_path / "whole") if "train/loss" in entry]
  notes = [(tmp_path / name / "nonfinite.jsonl").read_text() for name in ("whole", "stopped")]
  assert notes[0] == notes[1]
  left_out = [json.loads(line) for line in notes[0].splitlines()]
  assert 1 < len(left_out) < 15 and all(len(set(entry["records"])) == 16 for entry in left_out)
  with pytest.raises(
    BadInput, match=f"step {left_out[1]['step']}: loss nan.*number 2, but optim.skip_nonfinite_steps = 1"
  ):
    run(tmp_path / "strict", optim__skip_nonfinite_steps=1)
  schedule, peak = config.learning_rate(tiny.config(), 89, 20)
  applied = [float(schedule(np.float32(update), peak)) for update in range(20 - len(left_out))]
  np.testing.assert_allclose(rates, applied, rtol=1e-5)  # a step that is left out does not move the schedule


# Two at once.


def test_a_bug_ends_the_process_with_its_traceback(capsys):
  def body():
    raise ValueError("a bug")

  assert cli.exit_code(body) == 1  # not by Python, which would wait for the other processes of a run
  assert "Traceback" in capsys.readouterr().err


def test_no_device_is_one_line(monkeypatch):
  def none():
    raise AssertionError  # as jax does where JAX_PLATFORMS names a platform that it was installed without

  monkeypatch.setattr(jax, "devices", none)
  monkeypatch.setenv("JAX_PLATFORMS", "cuda")
  with pytest.raises(
    BadInput, match="jax has no device to compute on: is jax installed for JAX_PLATFORMS=cuda?"
  ):
    distributed.check_devices()


def test_two_runs_in_one_workdir_are_refused(tmp_path):
  with config.own(str(tmp_path)), pytest.raises(BadInput, match="another process is training in"):
    run(tmp_path)


# The host never waits for the device but to read the step before.


def test_nothing_is_transferred_unasked_and_metrics_are_read_one_step_late(finished, tmp_path, monkeypatch):
  events = []
  get = jax.device_get
  monkeypatch.setattr(jax, "device_get", lambda x: (events.append("read"), get(x))[1])
  original = Profiler.step
  monkeypatch.setattr(Profiler, "step", lambda self, step: (events.append(step), original(self, step))[1])
  start, close, guard = Profiler.__init__, Profiler.close, contextlib.ExitStack()

  def start_guarded(self, *args, **kwargs):  # what a run does last before its loop
    start(self, *args, **kwargs)
    guard.enter_context(jax.transfer_guard("disallow"))

  monkeypatch.setattr(Profiler, "__init__", start_guarded)
  monkeypatch.setattr(Profiler, "close", lambda self: (guard.close(), close(self))[1])
  run(tmp_path, log__eval_every_epochs=1.0, checkpoint__every_epochs=1.0)
  trained = events[: events.index(20) + 1]
  assert trained == [1, *(event for step in range(2, 20) for event in (step, "read")), 20]
  assert_same(saved(tmp_path, 20), saved(finished, 20))


@pytest.mark.slow
def test_a_profile_is_written_where_it_is_asked_for(finished, tmp_path):
  run(tmp_path, profile__start_step=4, profile__num_steps=2)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  assert_equal_runs(tmp_path, finished)


def test_the_log_says_where_the_time_goes(finished):
  entries = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
  trained = [entry for entry in entries if "train/loss" in entry]
  for entry in trained:
    seconds = {
      kind: entry[f"perf/{kind}_seconds"] for kind in ("data", "compute", "checkpoint", "evaluation")
    }
    assert seconds["data"] > 0 and seconds["compute"] > 0
  for kind in ("checkpoint", "evaluation"):
    assert sum(entry[f"perf/{kind}_seconds"] for entry in trained) > 0
  assert [entry["perf/evaluation_seconds"] > 0 for entry in entries if "eval/loss" in entry] == [True, True]


def test_what_a_checkpoint_gets_of_the_log_is_not_changed_by_the_next_step():
  log = TrainLog(None, Clock(1, 1.0), 0, 10, 5, {})
  log.add(1, {"loss": (1.0, 2.0)})
  held = log.sums  # written by a thread, beside the next steps
  log.add(2, {"loss": (1.0, 2.0)})
  assert held == {"loss": (1.0, 2.0)}


@pytest.mark.slow
def test_a_run_that_waits_for_its_data_says_so(tmp_path, monkeypatch, capsys):
  train_batches = pipeline.Input.train

  def slow(*args):
    for pair in train_batches(*args):
      time.sleep(0.2)
      yield pair

  monkeypatch.setattr(pipeline.Input, "train", slow)
  run(tmp_path, optim__total_epochs=6 / 89)
  assert "of the time spent waiting for data" in capsys.readouterr().out


# Data.


@pytest.mark.slow
def test_bad_records_are_the_same_after_a_stop(tmp_path, monkeypatch):
  read = digits.Digits.__getitem__

  def broken(self, index):
    if index % 7 == 3:
      raise ValueError("broken")
    return read(self, index)

  monkeypatch.setattr(digits.Digits, "__getitem__", broken)
  run_whole_and_stopped(tmp_path, monkeypatch, 7, data__max_bad_fraction=0.5)


@pytest.mark.slow
def test_a_dead_worker_ends_the_run_which_is_saved_and_goes_on(long, tmp_path):
  with_worker = changed(
    LONG, "--config.data.num_workers=1", "--config.log.every_steps=1", f"--workdir={tmp_path}"
  )
  process = command(*with_worker)
  read_until(process, "step 5/60")
  process.send_signal(signal.SIGSTOP)  # so that it is not over before its worker is found
  workers = [child for child in children(process.pid) if "spawn_main" in command_line(child)]
  assert workers
  os.kill(workers[0], signal.SIGKILL)
  process.send_signal(signal.SIGCONT)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 74 and "was killed by SIGKILL" in output and "Traceback" not in output, output
  assert [path for path in (tmp_path / "checkpoints").glob("*") if path.name.isdigit()], (
    "what was done is saved"
  )
  finish([command(*with_worker)])
  assert_same(saved(tmp_path, 60), saved(long, 60))


def children(pid):
  return [
    int(child)
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    for child in path.read_text().split()
  ]


def command_line(pid):
  return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
