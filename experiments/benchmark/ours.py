"""Ours: the model of `swin_jax.load`, and the train step that a run builds from a config."""

import importlib
import json
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from configs import common, recipes
from experiments.benchmark.contract import (
  CHECKED,
  CLASSES,
  CLIP_NORM,
  LEARNING_RATE,
  SMOOTHING,
  WEIGHT_DECAY,
  Contestant,
)
from swin_jax.kernels import window_attention
from swin_jax.mesh import sharding
from swin_jax.run import config, program
from swin_jax.saved import description
from swin_jax.saved.pretrained import Model


def config_of(work: dict[str, Any], kernel: str = "auto") -> ConfigDict:
  """Returns the config of the work: the classification task that the peers do or, if the work names a config
  of configs/, that config.
  """
  if "config" in work:
    name, _, kind = work["config"].partition(":")
    c = importlib.import_module(f"configs.{name}").get_config(kind)
    c.model.remat = work["remat"]
  else:
    c = common.base()
    recipes.set_model(c, 2, work["size"], work["window"], work["image_size"], work["drop_path_rate"])
    c.augment.rand_augment_operations = 0
    c.classification.update(
      label_smoothing=SMOOTHING, mixup_alpha=0.0, cutmix_alpha=0.0, erase_probability=0.0
    )
    c.optim.update(lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM)
  c.model.update(dtype=work["dtype"], attention_kernel=kernel)
  c.data.update(batch_size=work["batch"], eval_batch_size=work["batch"])
  return config.resolve(c, *[tuple(map(str, range(CLASSES)))] * 2)


def contestant(work: dict[str, Any], kernel: str) -> Contestant:
  """Builds the contestant, for the requested kinds of work."""
  c = config_of(work, kernel)
  p = program.build(c, steps_per_epoch=1000, total_steps=300_000)
  rng = np.random.default_rng(0)
  shape = p.batch["image"].shape
  values = {
    "image": rng.integers(0, 256, shape, np.uint8),
    "label": rng.integers(0, CLASSES, shape[0]).astype(np.int32),
    "mask": rng.random(p.batch["mask"].shape) < c.mask.ratio if "mask" in p.batch else None,
  }
  with sharding.trace_on(p.mesh, p.rules):
    held = {"state": p.init()}
  held["state"] = held["state"].replace(params=jax.tree_util.tree_map_with_path(_awake, held["state"].params))
  kinds, deviation = {}, None
  if "train" in work["kinds"]:
    with sharding.trace_on(p.mesh, p.rules):
      step = p.step.lower(p.state, p.batch).compile()
    batch = jax.device_put({name: values[name] for name in p.batch}, p.batch_sharding)

    def train():
      held["state"], held["sums"] = step(held["state"], batch)

    kinds["train"] = train
  if "forward" in work["kinds"]:
    described = description.describe(json.loads(json.dumps(c.to_dict())), "the benchmark")
    model = Model(
      described, work["dtype"], unroll=True, kernel=window_attention.choose(kernel, jax.devices()[0])
    )
    images = jnp.asarray(model.normalise(values["image"]), jnp.float32)
    if "train" in work["kinds"]:
      params = jax.tree.map(jnp.array, held["state"].params)  # a copy, because the step donates its state
    else:
      params = held.pop("state").params
    params = model.fix_bias(params)

    def forward():
      held["logits"] = model.apply(params, images)

    def deviation():
      stock = np.asarray(Model(described, "float32").apply(params, images[:CHECKED]))
      forward()
      return float(np.linalg.norm(held["logits"][:CHECKED] - stock) / np.linalg.norm(stock))

    kinds["forward"] = forward
  return Contestant(
    kinds, lambda: jax.block_until_ready(held), _peak_bytes, deviation, {"jax": jax.__version__}
  )


def _awake(path, leaf):
  """Sets the scales of norms to one: many start at zero, and multiplying zeros is faster than multiplying the
  values of a real run.
  """
  return jax.device_put(jnp.ones_like(leaf), leaf.sharding) if path[-1].key == "scale" else leaf


def _peak_bytes() -> int:
  return (jax.devices()[0].memory_stats() or {"peak_bytes_in_use": 0})["peak_bytes_in_use"]
