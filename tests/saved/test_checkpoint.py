"""Checkpoints: a saved state is restored exactly, on any mesh; damaged checkpoints are detected, moved aside
and skipped.
"""

import errno
import json
import logging
import re
import subprocess
import sys

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from swin_jax.run.state import TrainState
from swin_jax.saved import checkpoint, manifest, parameters
from swin_jax.saved.checkpoint import Checkpoints
from swin_jax.terminal.errors import BadInput, Fault
from tests.support import meshes
from tests.support.paths import ROOT
from tests.support.runs import flip_a_byte

pytestmark = [pytest.mark.devices(8), pytest.mark.every_python]

BEST = ("eval/top1", True)


def state(step, shape=(1, 8, 1), ema=True, rows=16):
  mesh = meshes.make(*shape)
  place = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
  kernel = place(jnp.arange(rows * 8.0).reshape(rows, 8) + step, "fsdp", "model")
  params = {"encoder": {"kernel": kernel}, "head": {"bias": place(jnp.full(8, float(step)))}}
  opt_state = ({"mu": place(jnp.arange(16.0) * step, "fsdp")}, place(jnp.int32(step)))
  return TrainState(
    place(jnp.int32(step)), params, opt_state, jax.tree.map(jnp.copy, params) if ema else None
  )


def abstract(like):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)


def write(folder, *steps, keep_latest=5, keep_every=0, metrics=None, **kwargs):
  checkpoints = Checkpoints(folder, keep_latest, keep_every, 1, BEST)
  for step in steps:
    checkpoints.save(step, state(step, **kwargs), {"samples_seen": step * 16}, {"seed": 0})
    if metrics:
      checkpoints.add_evaluation(step, metrics(step))
  checkpoints.close()


def read(folder, like):
  checkpoints = Checkpoints(folder, 5, 0, 1, BEST)
  restored = checkpoints.restore(abstract(like))
  checkpoints.close()
  return restored


@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 2, 2), (8, 1, 1)])
@pytest.mark.parametrize("ema", [True, False])
def test_comes_back_on_another_mesh(tmp_path, shape, ema):
  write(tmp_path, 3, ema=ema)
  like = state(0, shape, ema)
  restored = read(tmp_path, like)
  assert restored.step == 3 and restored.data == {"samples_seen": 48}
  assert checkpoint.stored_config(tmp_path) == {"seed": 0}
  for ours, theirs, target in zip(
    *map(jax.tree.leaves, (restored.state, state(3, ema=ema), like)), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
    assert ours.sharding == target.sharding


def test_nothing_there_is_none(tmp_path):
  assert read(tmp_path, state(0)) is None
  assert checkpoint.stored_config(tmp_path) is None


CHECKSUMS = "checksums-0-of-1.json"


def remove_state(folder):
  for path in sorted((folder / "state").rglob("*"), reverse=True):
    path.unlink() if path.is_file() else path.rmdir()
  (folder / "state").rmdir()


def cut_checksums(folder):
  (folder / CHECKSUMS).write_text((folder / CHECKSUMS).read_text()[:40])


def remove_checksums(folder):
  """Simulates a save that was killed before the checksums were written."""
  (folder / CHECKSUMS).unlink()


def lose_the_checksums_of_another_process(folder):
  (folder / CHECKSUMS).rename(folder / "checksums-0-of-2.json")


def spoil_a_file(folder):
  """Simulates a bad sector: the file exists, but reading it is an error. A folder in its place has the same
  effect.
  """
  path = next(path for path in folder.rglob("*") if path.is_file() and "ocdbt" in str(path))
  path.unlink()
  path.mkdir()


@pytest.mark.parametrize(
  "damage",
  [
    flip_a_byte,
    remove_state,
    cut_checksums,
    remove_checksums,
    lose_the_checksums_of_another_process,
    spoil_a_file,
  ],
)
def test_damage_is_passed_over(tmp_path, damage):
  write(tmp_path, 1, 2, 3)
  damage(tmp_path / "checkpoints" / "3")
  assert read(tmp_path, state(0)).step == 2
  assert (tmp_path / "checkpoints" / "damaged-3").exists()
  write(tmp_path, 3)  # the step can be saved again
  assert read(tmp_path, state(0)).step == 3
  flip_a_byte(tmp_path / "checkpoints" / "2")
  flip_a_byte(tmp_path / "checkpoints" / "3")
  assert read(tmp_path, state(0)).step == 1
  assert [path.name for path in (tmp_path / "checkpoints").glob("damaged-*")] == ["damaged-2"], (
    "they do not pile up"
  )


def change_the_config(folder):
  path = folder / "config" / "metadata"
  path.write_text(re.sub(r"\d", "7", path.read_text()))


@pytest.mark.parametrize("damage", [change_the_config, cut_checksums, remove_checksums])
def test_a_config_is_believed_only_with_its_checksum(tmp_path, damage):
  write(tmp_path, 1)
  checkpoints = Checkpoints(tmp_path, 5, 0, 1, BEST)
  checkpoints.save(2, state(2), {}, {"seed": 5})
  checkpoints.close()
  assert checkpoint.stored_config(tmp_path) == {"seed": 5}
  damage(tmp_path / "checkpoints" / "2")
  assert checkpoint.stored_config(tmp_path) == {"seed": 0}
  damage(tmp_path / "checkpoints" / "1")
  assert checkpoint.stored_config(tmp_path) is None


@pytest.mark.parametrize("old", [False, True])
def test_a_renamed_checkpoint_is_not_believed(tmp_path, old, capsys):
  """Nor is one whose checksums, of an older version, do not name the step."""
  write(tmp_path, 1, 2, 3)
  if old:
    for step in "123":
      path = tmp_path / "checkpoints" / step / CHECKSUMS
      path.write_text(json.dumps(json.loads(path.read_text())["files"]))
    assert read(tmp_path, state(0)).step == 3 and not capsys.readouterr().err
  (tmp_path / "checkpoints" / "1").rename(tmp_path / "checkpoints" / "30")
  if not old:
    assert parameters.SavedParameters(tmp_path).step == 3
    assert "belongs to step 1" in capsys.readouterr().err
  assert read(tmp_path, state(0)).step == 3
  assert "the checkpoint of step 30 is damaged" in capsys.readouterr().err


def test_only_folders_with_the_name_of_a_step_are_checkpoints(tmp_path):
  write(tmp_path, 1)
  for name in ("²", "007", "-3", "8.0", "x"):
    (tmp_path / "checkpoints" / name).mkdir()
  (tmp_path / "checkpoints" / "9").touch()
  assert parameters.steps_in(tmp_path / "checkpoints") == [1]
  assert read(tmp_path, state(0)).step == 1


@pytest.mark.parametrize("how", ["nothing", "another"])
def test_a_save_that_cannot_be_opened_again_does_not_count(tmp_path, monkeypatch, how):
  write(tmp_path, 1)
  original = parameters.saved_tree

  def unreadable(folder):
    if folder.name != "2":
      return original(folder)
    if how == "nothing":
      raise ValueError("its state does not describe its contents")
    return {"params": original(folder)["params"]}

  monkeypatch.setattr(parameters, "saved_tree", unreadable)
  with pytest.raises(Fault, match="the checkpoint of step 2 could not be saved.*the one of step 1 is intact"):
    write(tmp_path, 2)
  assert not manifest.is_written(tmp_path / "checkpoints" / "2")
  assert read(tmp_path, state(0)).step == 1


def test_a_checkpoint_that_orbax_cannot_describe_is_damaged(tmp_path):
  """Its checksums hold: older versions wrote them without opening the save again."""
  write(tmp_path, 1, 2)
  folder = tmp_path / "checkpoints" / "2"
  (folder / "state" / "_METADATA").unlink()
  for path in (folder / "state").glob("manifest.ocdbt"):
    path.unlink()
  manifest.write(folder, 2)
  assert parameters.SavedParameters(tmp_path).step == 1
  assert read(tmp_path, state(0)).step == 1


def test_all_damaged_is_none(tmp_path):
  write(tmp_path, 1)
  flip_a_byte(tmp_path / "checkpoints" / "1")
  assert read(tmp_path, state(0)) is None


def test_an_unfinished_save_is_removed(tmp_path):
  write(tmp_path, 1)
  stale = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  stale.mkdir()
  assert read(tmp_path, state(0)).step == 1
  assert not stale.exists()


def test_checksums_are_of_every_file_by_one_process_each(tmp_path, monkeypatch):
  write(tmp_path, 1)
  folder = tmp_path / "checkpoints" / "1"
  files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {CHECKSUMS}
  assert set(json.loads((folder / CHECKSUMS).read_text())["files"]) == files
  (folder / CHECKSUMS).unlink()
  monkeypatch.setattr(jax, "process_count", lambda: 3)
  named = []
  for i in range(3):
    assert not manifest.is_written(folder)
    monkeypatch.setattr(jax, "process_index", lambda i=i: i)
    manifest.write(folder, 1)
    named += json.loads((folder / f"checksums-{i}-of-3.json").read_text())["files"]
  assert manifest.is_written(folder) and sorted(named) == sorted(files)


def test_orbax_leaves_the_preemption_service_alone(tmp_path, monkeypatch):
  def asked(step):
    raise AssertionError(f"asked with {step}")

  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked)
  write(tmp_path, 1, 2)


@pytest.mark.parametrize("keep_every, kept", [(0, [2, 5, 6]), (3, [2, 3, 5, 6])])
def test_latest_and_best_and_every_so_many_are_kept(tmp_path, keep_every, kept):
  write(
    tmp_path,
    1,
    2,
    3,
    4,
    5,
    6,
    keep_latest=2,
    keep_every=keep_every,
    metrics=lambda step: {"eval/top1": {2: 0.9}.get(step, 0.1)},
  )
  assert sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("*")) == kept


def test_an_evaluation_comes_back_and_ranks(tmp_path):
  write(tmp_path, 1, 2, 3, keep_latest=9, metrics=lambda step: {"eval/top1": 0.5 - step / 10})
  assert read(tmp_path, state(0)).evaluation == {"eval/top1": pytest.approx(0.2)}


def lose_a_brace(path):
  path.write_text("{half")


def change_a_digit(path):
  path.write_text(path.read_text().replace("0.4", "0.5"))


def take_another_step(path):
  path.write_text((path.parents[1] / "1" / path.name).read_text())


def rename_the_checksum(path):
  path.write_text(path.read_text().replace("sha256", "sha255"))


def make_a_folder(path):
  path.unlink()
  path.mkdir()


@pytest.mark.parametrize(
  "damage", [lose_a_brace, change_a_digit, take_another_step, rename_the_checksum, make_a_folder]
)
def test_a_damaged_evaluation_counts_as_none_in_one_line(tmp_path, damage, capsys):
  write(tmp_path, 1, 2, keep_latest=9, metrics=lambda step: {"eval/top1": step / 5})
  damage(tmp_path / "checkpoints" / "2" / manifest.EVALUATION)
  assert read(tmp_path, state(0)).evaluation is None
  assert [f"2/{manifest.EVALUATION}" in line for line in capsys.readouterr().err.splitlines()] == [True]
  write(tmp_path, 4, keep_latest=1)
  assert sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("*")) == [1, 4]
  assert read(tmp_path, state(0)).evaluation is None


def test_an_evaluation_of_an_older_version_counts(tmp_path, capsys):
  write(tmp_path, 1)
  (tmp_path / "checkpoints" / "1" / manifest.EVALUATION).write_text('{"eval/top1": 0.5}')
  assert read(tmp_path, state(0)).evaluation == {"eval/top1": 0.5}
  assert not capsys.readouterr().err


def test_an_evaluation_that_is_not_a_number_comes_back(tmp_path):
  write(tmp_path, 1, metrics=lambda step: {"eval/top1": 0.5, "eval/loss": float("nan")})
  assert str(read(tmp_path, state(0)).evaluation) == "{'eval/top1': 0.5, 'eval/loss': nan}"


def test_another_model_is_named(tmp_path):
  write(tmp_path, 1)
  with pytest.raises(BadInput, match=r"params/encoder/kernel \(16, 8\) ≠ \(32, 8\)"):
    read(tmp_path, state(0, rows=32))
  with pytest.raises(BadInput, match="only in the checkpoint: ema/encoder/kernel"):
    read(tmp_path, state(0, ema=False))


def test_a_step_saved_twice_is_an_error(tmp_path):
  write(tmp_path, 1)
  with pytest.raises(BadInput, match="the checkpoint of step 1 could not be saved.*there is no earlier one"):
    write(tmp_path, 1)


def test_checksums_that_cannot_be_written_are_a_failed_save(tmp_path, monkeypatch):
  write(tmp_path, 1)

  def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(manifest, "write", full)
  with pytest.raises(
    Fault,
    match="the checkpoint of step 2 could not be saved.*no space left on the disk; the one of step 1 is"
    " intact",
  ):
    write(tmp_path, 2)
  assert read(tmp_path, state(0)).step == 1


def test_parameters_of_another_run(tmp_path):
  write(tmp_path, 1, 2)
  saved = parameters.SavedParameters(tmp_path)
  assert saved.step == 2 and saved.config == {"seed": 0}
  assert saved.shapes == {"encoder/kernel": (16, 8), "head/bias": (8,)}
  target = state(0, (2, 2, 2)).params["encoder"]["kernel"]
  read = saved.read(
    {"encoder/kernel": jax.ShapeDtypeStruct(target.shape, target.dtype, sharding=target.sharding)}
  )
  assert list(read) == ["encoder/kernel"] and read["encoder/kernel"].sharding == target.sharding
  np.testing.assert_array_equal(read["encoder/kernel"], state(2).params["encoder"]["kernel"])


@pytest.mark.slow
def test_reading_another_run_prints_no_warning(tmp_path):
  write(tmp_path, 1)
  code = f"from swin_jax.saved import parameters; print(parameters.SavedParameters({str(tmp_path)!r}).step)"
  ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_errors_of_orbax_that_are_raised_are_not_logged_too(caplog):
  logger = logging.getLogger("asyncio")
  logger.error("Task exception was never retrieved: <coro defined at /x/orbax/checkpoint/serialization.py>")
  logger.error("Task exception was never retrieved: <coro defined at /x/other.py>")
  assert [record.getMessage()[-10:] for record in caplog.records] == ["/other.py>"]


def test_writes_that_end_after_a_save_has_failed_print_nothing():
  """TensorStore's callbacks are called in its own threads, so a process of its own shows what is printed."""
  code = """
import tensorstore
import swin_jax.saved.parameters
def report(_):
  raise RuntimeError(text)
for text in ("Event loop is closed", "another"):
  promise, future = tensorstore.Promise.new()
  future.add_done_callback(report)
  promise.set_result(1)
"""
  ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert ended.stderr.count("Traceback") == 1 and ended.stderr.endswith("RuntimeError: another\n")


def test_a_step_that_is_not_there_is_no_damage(tmp_path, capsys):
  write(tmp_path, 1)
  for name in ("7", "²"):
    with pytest.raises(BadInput, match=f"checkpoints/{name} holds no checkpoint"):
      parameters.SavedParameters(str(tmp_path / "checkpoints" / name))
  assert "damaged" not in capsys.readouterr().err


def test_one_step_of_another_run(tmp_path):
  write(tmp_path, 1, 2)
  assert parameters.SavedParameters(f"{tmp_path}/checkpoints/1").step == 1


def test_another_run_that_is_damaged_is_left_as_it_is(tmp_path):
  write(tmp_path, 1, 2)
  flip_a_byte(tmp_path / "checkpoints" / "2")
  assert parameters.SavedParameters(tmp_path).step == 1
  flip_a_byte(tmp_path / "checkpoints" / "1")
  with pytest.raises(BadInput, match="no intact checkpoint"):
    parameters.SavedParameters(tmp_path)
  assert sorted(p.name for p in (tmp_path / "checkpoints").glob("*")) == ["1", "2"]


def test_no_run_to_start_from(tmp_path):
  with pytest.raises(BadInput, match="holds no checkpoint"):
    parameters.SavedParameters(tmp_path / "nowhere")
