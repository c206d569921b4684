"""Every config loads without swin_jax, is locked, has all keys, and builds its abstract state; its docstring
holds its commands.
"""

import importlib
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import common
from swin_jax.run import compatibility
from swin_jax.run import config as run_config
from swin_jax.run.program import build
from tests import runs

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(
  path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "common")
)
COMMAND = re.compile(r"python -m swin_jax\.main --config=configs/(\w+)\.py(?::(\w+))? +--workdir=(\S+)")


def load(name, arg=None):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def commands(name):
  return [match.groups() for match in COMMAND.finditer(importlib.import_module(f"configs.{name}").__doc__)]


def keys(config):
  return set(compatibility.flatten(config.to_dict()))


RUNS = [(name, kind) for name in NAMES for config, kind, _ in commands(name)]


@pytest.mark.parametrize("name", NAMES)
def test_docstring_holds_the_commands_of_this_config(name):
  found = commands(name)
  assert found and all(config == name for config, _, _ in found)
  assert len({workdir for _, _, workdir in found}) == len(found), "two runs would share a folder"
  assert sum(1 for _ in (ROOT / "configs" / f"{name}.py").open()) <= 60


@pytest.mark.parametrize("name, kind", RUNS)
def test_loads_locked_with_all_keys(name, kind):
  config = load(name, kind)
  assert config.is_locked
  assert keys(config) == keys(common.base())


@pytest.mark.parametrize("name, kind", RUNS)
def test_builds_its_abstract_state(name, kind):
  config = load(name, kind)
  config.model.trained_window_sizes = config.model.trained_window_sizes or config.model.window_sizes
  if not config.data.mean:  # the data's to say
    config.data.update(mean=(0.0,) * 6, std=(1.0,) * 6)
  config.mesh.update(data=1, fsdp=-1, model=1)
  config.data.batch_size = max(config.data.batch_size, 8 * config.optim.accumulation_steps)
  config.data.eval_batch_size -= config.data.eval_batch_size % 8
  classes = config[config.task].get("num_classes", 0) or 10
  config = run_config.resolve(config, *[range(classes)] * 2)
  program = build(config, 100, 1000)
  assert all(leaf.sharding is not None for leaf in jax.tree.leaves(program.state))


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["simmim_swin_base_ft", "swinv2_3b", "satvision_giant", "upernet_swinv2_tiny_ade20k"]
)
def test_its_debug_form_trains(name, tmp_path):
  """One of each kind; a few steps of the run that the docstring's command starts."""
  pictures = 2 * (name in ("satvision_giant", "upernet_swinv2_tiny_ade20k"))
  words = (
    f"--config=configs/{name}.py:debug",
    f"--workdir={tmp_path}",
    f"--config.log.num_pictures={pictures}",
  )
  runs.finish(
    [runs.command(*words, f"--config.optim.total_epochs={2 / 22}", f"--config.optim.warmup_epochs={1 / 22}")]
  )
  evaluation = runs.lines(tmp_path)[-1]
  assert evaluation["step"] == 2 and np.isfinite(evaluation["eval/loss"])
  assert bool(list(tmp_path.glob("pictures/*.png"))) == bool(pictures)


def test_an_unknown_kind_names_the_kinds():
  with pytest.raises(ValueError, match=":pretrain, :finetune"):
    load("quickstart", "pretrian")


def test_a_whole_group_cannot_be_replaced_unseen():
  config = common.base()
  with pytest.raises((KeyError, AttributeError)):
    config.optim.lrr = 1.0
  with pytest.raises(TypeError):
    config.optim.lr = "fast"


def test_configs_load_in_milliseconds_without_jax():
  code = (
    "import sys, configs.swinv2_3b as c; c.get_config(); sys.exit(any(m in sys.modules for m in"
    " ('jax', 'swin_jax', 'tensorflow')))"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
