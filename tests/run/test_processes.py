"""Several processes on one machine compute the same as one, stop together, and write checkpoints that any
number of devices can use.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import swin_jax
from swin_jax.mesh import distributed
from swin_jax.run import config
from swin_jax.saved import transfer
from tests.support import official
from tests.support.folders import command as convert
from tests.support.folders import save
from tests.support.paths import ROOT
from tests.support.runs import (
  SMALL,
  assert_same,
  changed,
  command,
  finish,
  lines,
  processes,
  read_until,
  saved,
  steps,
)

pytestmark = pytest.mark.slow
# Sums in float32 depend on their order. Adam turns the last bit of a tiny gradient into a large step, unless
# eps is larger than the rounding noise.
RUN = changed(
  SMALL,
  *steps(30),
  "--config.log.every_steps=1",
  "--config.optim.eps=1e-4",
  "--config.log.num_pictures=0",
)


def losses(workdir):
  entries = [entry for entry in lines(workdir) if "train/loss" in entry]
  assert [entry["step"] for entry in entries] == list(range(1, 31))
  return np.array([entry["train/loss"] for entry in entries])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("one")
  finish(processes(1, 4, *RUN, f"--workdir={workdir}"))
  return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  """Started by the script for several processes on one machine."""
  workdir = tmp_path_factory.mktemp("two")
  words = [
    sys.executable,
    "experiments/launch/local.py",
    "--processes=2",
    "--cpu_devices=2",
    "--",
    *RUN,
    f"--workdir={workdir}",
  ]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stdout[-3000:]
  assert "each as 4 devices, in 2 processes; mesh data 1 × fsdp 4 × model 1" in done.stdout
  assert "[0] step 30/30" in done.stdout
  assert "[1] step 30/30" not in done.stdout, "only process 0 talks"
  return workdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """Starts four processes of one device; one gets a signal, and all save and stop at the same step."""
  workdir = tmp_path_factory.mktemp("four")
  started = processes(4, 1, *RUN, f"--workdir={workdir}")
  said = read_until(started[0], "step 5/30")
  started[2].send_signal(signal.SIGTERM)
  outputs = finish(started, code=75)
  steps = {output.split("saved at step ")[1].split(";")[0] for output in outputs}
  assert len(steps) == 1, (steps, said)
  assert int(steps.pop()) < 30
  return workdir


def resumed(stopped, workdir, count, devices):
  shutil.copytree(stopped, workdir, dirs_exist_ok=True)
  outputs = finish(processes(count, devices, *RUN, f"--workdir={workdir}"))
  assert "continuing" in outputs[0]
  return workdir


def test_two_equal_one(one, two):
  np.testing.assert_allclose(losses(two)[0], losses(one)[0], rtol=1e-5)
  np.testing.assert_allclose(losses(two), losses(one), rtol=1e-3)


def test_four_stopped_and_resumed_equal_two_bit_for_bit(two, stopped, tmp_path):
  four = resumed(stopped, tmp_path, 4, 1)
  assert_same(saved(four, 30), saved(two, 30))
  assert lines(four) == lines(two)


@pytest.mark.parametrize("count, devices", [(1, 8), (2, 1)])
def test_a_checkpoint_of_four_processes_serves_others(one, stopped, tmp_path, count, devices):
  other = resumed(stopped, tmp_path, count, devices)
  np.testing.assert_allclose(losses(other), losses(one), rtol=1e-3)
  assert (other / "checkpoints" / "30").exists()


def test_a_host_that_does_not_see_the_workdir_is_named(tmp_path):
  """Two processes on one machine with different folders simulate two machines whose workdirs have the same
  name but are not shared.
  """
  with_folder = [(*RUN, f"--workdir={tmp_path}/{name}") for name in "ab"]
  outputs = finish(processes(2, 1, *with_folder), code=2)
  for output in outputs:
    assert (
      f"must be one folder that all hosts share; {socket.gethostname()} cannot see the one of process 0"
      in output
    )


@pytest.mark.parametrize("dies", [0, 1])
def test_when_one_dies_the_others_end_in_one_line(tmp_path, dies):
  started = processes(2, 1, *changed(RUN, *steps(10_000, save=5)), f"--workdir={tmp_path}")
  read_until(started[0], "step 5/10")
  started[dies].kill()
  (output,) = finish(started[1 - dies : 2 - dies], code=74, seconds=60)
  last = output.strip().splitlines()[-1]
  assert last.startswith(f"swin_jax: process {dies} on ") and "Traceback" not in output, output
  started[dies].communicate()


def test_processes_with_other_rates_are_refused(tmp_path):
  rates = [(*RUN, f"--config.optim.lr={rate}", f"--workdir={tmp_path}") for rate in ("0.001", "0.002")]
  for output in finish(processes(2, 1, *rates), code=2):
    assert (
      "config.optim.lr differs between the processes: 0.001 in process 0 but 0.002 in process 1" in output
    )
  assert not list(tmp_path.iterdir())


def test_a_workdir_in_use_is_refused_by_all(tmp_path):
  with config.own(str(tmp_path)):
    outputs = finish(processes(2, 1, *RUN, f"--workdir={tmp_path}"), code=2)
  assert all("another process is training in" in output for output in outputs)


@pytest.mark.parametrize(
  "flags, message",
  [
    (("--coordinator=localhost:1", "--num_processes=2"), "--process_id"),
    (("--coordinator=localhost:1", "--num_processes=2", "--process_id=2"), "must be from 0 to 1"),
    (("--coordinator=foo", "--num_processes=2", "--process_id=1"), "--coordinator=foo is not HOST:PORT"),
  ],
)
def test_flags_that_do_not_fit(tmp_path, flags, message):
  (output,) = finish([command(*RUN, f"--workdir={tmp_path}", *flags)], code=2)
  assert message in output and "Traceback" not in output


def test_the_script_for_one_machine_ends_all_when_one_fails(tmp_path):
  words = [sys.executable, "experiments/launch/local.py", "--processes=2", "--cpu_devices=1", "--", *RUN]
  words += ["--config.data.source=nowhere", f"--workdir={tmp_path}"]
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
  assert done.returncode == 2 and "swin_jax: " in done.stdout and "Traceback" not in done.stdout, done.stdout


def test_a_command_is_run_again_while_it_asks_for_it(tmp_path):
  script = f"echo once >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) -ge 3 ] || exit 75"
  done = subprocess.run(
    ["experiments/launch/run_until_done.sh", "bash", "-c", script], cwd=ROOT, timeout=60, check=False
  )
  assert done.returncode == 0 and (tmp_path / "runs").read_text() == "once\n" * 3
  for code, restarts, runs in ((2, 5, 1), (134, 2, 3), (1, 0, 1)):
    (tmp_path / "runs").unlink()
    words = [
      "experiments/launch/run_until_done.sh",
      "bash",
      "-c",
      f"echo once >> {tmp_path}/runs; exit {code}",
    ]
    environment = os.environ | {"RESTARTS": str(restarts), "RESTART_SECONDS": "0"}
    assert subprocess.run(words, cwd=ROOT, timeout=60, env=environment, check=False).returncode == code
    assert (tmp_path / "runs").read_text() == "once\n" * runs


def test_a_command_that_is_ended_between_two_runs_is_not_run_again(tmp_path):
  words = ["experiments/launch/run_until_done.sh", "bash", "-c", f"echo once >> {tmp_path}/runs; exit 1"]
  process = subprocess.Popen(words, cwd=ROOT, env=os.environ | {"RESTARTS": "3", "RESTART_SECONDS": "2"})
  while not (tmp_path / "runs").exists():
    time.sleep(0.01)
  time.sleep(0.5)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=60) == 75 and (tmp_path / "runs").read_text() == "once\n"


@pytest.mark.parametrize(
  "script", sorted(path.name for path in (ROOT / "experiments" / "launch").glob("*.s*"))
)
def test_shell_scripts_can_be_parsed(script):
  subprocess.run(["bash", "-n", f"experiments/launch/{script}"], cwd=ROOT, check=True)


@pytest.mark.parametrize(
  "environment, launcher",
  [
    ({}, None),
    # a batch script, not one of its tasks
    ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
    ({"SLURM_STEP_NUM_TASKS": "1"}, None),
    ({"SLURM_STEP_NUM_TASKS": "4"}, "Slurm"),
    ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, None),  # not on a TPU
  ],
)
def test_who_started_several_processes(environment, launcher):
  assert distributed.find_launcher(environment) == launcher


def test_several_start_from_a_model_folder(tmp_path):
  model = dict(embed_dim=16, depths=(2,), num_heads=(2,), window=8, image_size=32, simmim=True)
  weights = save(tmp_path / "public" / "model.safetensors", official.random(official.state_dict(1, **model)))
  assert convert("import", weights, tmp_path / "ours", "--image_size=32") == 0
  still = (
    "--config.optim.lr=0.0",
    "--config.optim.warmup_lr=0.0",
    "--config.log.num_pictures=0",
    f"--config.init_from={tmp_path}/ours",
  )
  two_blocks = [flag.replace("depths=(1,)", "depths=(2,)") for flag in SMALL]
  words = changed(two_blocks, *steps(1, warmup=0), *still, "--config.model.version=1")
  finish(processes(2, 2, *words, f"--workdir={tmp_path}/run"))
  assert "3 adapted" in (tmp_path / "run" / "transfer.txt").read_text()
  (_, ours), (_, theirs) = swin_jax.load(tmp_path / "run"), swin_jax.load(tmp_path / "ours")
  kernel = np.asarray(theirs["encoder"]["patch_embed"]["proj"]["kernel"])
  adapted = transfer.change_bands(kernel, 3, 1, "repeat")  # the digits have one band
  np.testing.assert_array_equal(ours["encoder"]["patch_embed"]["proj"]["kernel"], adapted)
  np.testing.assert_array_equal(
    ours["encoder"]["stage0"]["blocks"]["block1"]["attn"]["qkv"]["kernel"],
    theirs["encoder"]["stage0"]["blocks"]["block1"]["attn"]["qkv"]["kernel"],
  )
