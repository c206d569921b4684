"""Every config loads without swin_jax, is locked, has all keys, and builds its abstract state; its docstring
holds its commands.
"""

import importlib
import re
import subprocess
import sys

import jax
from ml_collections import ConfigDict
import numpy as np
import pytest

from configs import common
from swin_jax.mesh import sharding
from swin_jax.models import BACKBONES
from swin_jax.run import checks, compatibility, reads
from swin_jax.run import config as run_config
from swin_jax.run.program import build
from swin_jax.tasks import KINDS
from swin_jax.terminal import shipped
from tests.support import runs
from tests.support.paths import ROOT

pytestmark = pytest.mark.devices(8)

NAMES = shipped.names()
COMMAND = re.compile(r"python -m swin_jax\.main --config=configs/(\w+)\.py(?::(\w+))? +--workdir=(\S+)")


def load(name, arg=None):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def commands(name):
  return [match.groups() for match in COMMAND.finditer(importlib.import_module(f"configs.{name}").__doc__)]


def keys(config):
  return set(compatibility.flatten(config.to_dict()))


def kinds_of_run(name):
  """Returns every `:arg` of a config file."""
  return [None, *filter(None, shipped.kinds(name))]


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


@pytest.mark.parametrize("name, kind", [(name, kind) for name in NAMES for kind in kinds_of_run(name)])
def test_passes_every_check(name, kind):
  config = load(name, kind)
  checks.check_values(config)
  if not config.data.mean:  # the data's to say
    config.data.update(mean=(0.0,) * 6, std=(1.0,) * 6)
  checks.check(config)


@pytest.mark.slow
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
  config = run_config.resolve(config, *[tuple(map(str, range(classes)))] * 2)
  program = build(config, 100, 1000)
  moments = program.state.opt_state
  whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(moments))
  assert sharding.bytes_per_device(moments) < whole / 4  # of eight devices


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
  "name", ["upernet_swinv2_tiny_ade20k", "simmim_swin_base_ft", "swinv2_3b", "satvision_giant"]
)
def test_its_debug_form_trains(name, tmp_path):
  """One of each kind; a few steps of the run that the docstring's command starts."""
  draws = name != "simmim_swin_base_ft"  # classification has no pictures
  words = (
    f"--config=configs/{name}.py:debug",
    f"--workdir={tmp_path}",
    f"--config.optim.total_epochs={2 / 22}",
    f"--config.optim.warmup_epochs={1 / 22}",
  )
  runs.finish([runs.command(*words, *["--config.log.num_pictures=2"] * draws)])
  evaluation = runs.lines(tmp_path)[-1]
  assert evaluation["step"] == 2 and np.isfinite(evaluation["eval/loss"])
  assert bool(list(tmp_path.glob("pictures/*.png"))) == draws


def test_an_unknown_kind_names_the_kinds():
  with pytest.raises(ValueError, match=":pretrain, :finetune"):
    load("quickstart", "pretrian")


def test_keys_and_types_are_fixed():
  config = common.base()
  with pytest.raises((KeyError, AttributeError)):
    config.optim.lrr = 1.0
  with pytest.raises(TypeError):
    config.optim.lr = "fast"


@pytest.mark.parametrize("group", [ConfigDict(dict(lr=1.0)), dict(lr=1.0)])
def test_a_whole_group_cannot_be_replaced(group):
  config = common.base()
  with pytest.raises(TypeError, match=r"config.optim is a group.*c.optim.update\(name=value\)"):
    config.optim = group
  with pytest.raises(TypeError, match="config.optim is a group"):
    config["optim"] = group
  config.update(optim=dict(lr=1.0))  # merges
  assert config.optim.lr == 1.0 and keys(config) == keys(common.base())
  copy = config.copy_and_resolve_references()
  assert copy.is_locked and copy.to_dict() == config.to_dict()


@pytest.mark.parametrize("name, kind", [(name, kind) for name in NAMES for kind in kinds_of_run(name)])
def test_sets_only_what_its_task_reads(name, kind):
  config, defaults = (compatibility.flatten(c.to_dict()) for c in (load(name, kind), common.base()))
  settings = load(name, kind)
  assert not [key for key in config if config[key] != defaults[key] and not reads.is_read(settings, key)]


def test_every_key_is_read_by_some_task_or_backbone():
  choices = [{"task": task, "model": {"backbone": backbone}} for task in KINDS for backbone in BACKBONES]
  assert not [key for key in keys(common.base()) if not any(reads.is_read(each, key) for each in choices)]


@pytest.mark.parametrize("kind", [*KINDS.values(), *BACKBONES.values()], ids=[*KINDS, *BACKBONES])
def test_what_a_task_or_backbone_reads_is_there(kind):
  for name in (*reads.COMMON, *kind.reads):
    assert [key for key in keys(common.base()) if reads.is_in(key, [name])], name


def test_configs_load_in_milliseconds_without_jax():
  code = (
    "import sys, configs.swinv2_3b as c; c.get_config(); sys.exit(any(m in sys.modules for m in"
    " ('jax', 'swin_jax', 'tensorflow')))"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
