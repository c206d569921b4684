"""A run that starts from the weights of another model: the parameters its first step uses, and
what it logs.
"""

import json

import jax
import numpy as np
import pytest

from swin_jax.run import config as run_config
from swin_jax.run import train
from swin_jax.run.program import build
from swin_jax.saved import folder
from tests.support import tiny
from tests.support.folders import imported
from tests.support.runs import saved

pytestmark = [pytest.mark.every_python, pytest.mark.slow]

ONE_STAGE = dict(depths=(2,), num_heads=(2,))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
  """Runs one step at a learning rate near zero, with an average; returns its config, folder and weights."""
  path = tmp_path_factory.mktemp("started")
  source = imported(path, name="source", bands=1, classes=0, **ONE_STAGE)
  config = tiny.config(
    "finetune",
    init_from=source,
    data__eval_batch_size=360,
    optim__ema_decay=0.9,
    optim__lr=1e-12,
    optim__warmup_lr=1e-12,
    optim__min_lr=1e-12,
    optim__layer_decay=1.0,
    optim__total_epochs=1 / 89,
    optim__warmup_epochs=0.0,
    log__num_pictures=0,
  )
  config.model.update(window_sizes=(4,), **ONE_STAGE)
  train.train(config, str(path / "run"))
  return config, path / "run", source


def test_the_average_starts_from_the_loaded_parameters(started):
  """After the first step it is nine tenths of the new parameters plus one tenth of the initial ones."""
  _, run, source = started
  state, weights = saved(run, 1), folder.open_saved(source)
  whole = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  for path in ("encoder/patch_embed/proj/kernel", "encoder/stage0/blocks/block0/mlp/fc1/kernel"):
    shape = jax.ShapeDtypeStruct(weights.shapes[path], np.float32, sharding=whole)
    loaded = np.asarray(weights.read({path: shape})[path])
    name = "".join(f"['{part}']" for part in path.split("/"))
    for tree in ("params", "ema"):
      np.testing.assert_allclose(state[f"['{tree}']{name}"], loaded, atol=1e-7, err_msg=tree)


def test_the_logged_flops_are_those_of_three_forward_passes(started):
  """One for the forward pass, and two more for the backward pass (`step.FORWARD_PASSES`)."""
  config, run, _ = started
  (entry,) = [
    values
    for values in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    if "perf/images_per_second" in values
  ]
  program = build(run_config.resolve(config, *[tuple("0123456789")] * 2), 89, 1)
  flops = 1e12 * entry["perf/tflops_per_second"] / entry["perf/images_per_second"]
  assert flops == pytest.approx(3 * program.flops)
