"""Checks of the config group `model` of a Swin Transformer."""

import math

from ml_collections import ConfigDict

from swin_jax.kernels.window_attention import CHOICES
from swin_jax.models import remat
from swin_jax.models.swin.config import make_config
from swin_jax.models.swin.geometry import geometry
from swin_jax.models.windows import chunk_counts, sides
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

RULES = {
  "model.version": rules.one_of(1, 2),
  "model.dtype": rules.one_of("bfloat16", "float32"),
  "model.attention_kernel": rules.one_of(*CHOICES),
  "model.padding": rules.one_of("masked", "attended"),
  "model.bias_rows": rules.one_of("offsets", "first"),
  "model.drop_path_rate": rules.between(0, 0.99),
}


def check(config: ConfigDict) -> None:
  """Checks the keys of the group.

  Raises:
    BadInput: a value violates `RULES`, or sizes contradict each other or the image; the message names the
      keys.
  """
  rules.check(config, RULES)
  _check_axes(config)
  _check_stages(config)
  remat.policy(config.model.remat)
  _check_chunks(config)


def _check_axes(config: ConfigDict) -> None:
  """Checks that all sizes have as many axes as data.image_size."""
  m, image = config.model, config.data.image_size
  axes = len(image)
  each = [("patch_size", m.patch_size), ("merge_size", m.merge_size)]
  each += [(key, size) for key in ("window_sizes", "trained_window_sizes") for size in m[key]]
  for key, size in each:
    if len(sides(size, 2)) != axes or min(sides(size, 2)) < 1:
      raise BadInput(
        f"model.{key} = {m[key]} must have one number of at least 1 for each of the {axes} axes of"
        f" data.image_size = {image}; one number means (height, width)"
      )
  if any(side < patch for side, patch in zip(image, sides(m.patch_size, 2), strict=True)):
    raise BadInput(f"data.image_size = {image} must be at least model.patch_size = {m.patch_size}")
  if m.bias_rows == "first" and (m.version, axes) != (1, 3):
    raise BadInput(
      "model.bias_rows = 'first' needs model.version = 1 and clips (data.image_size of three numbers)"
    )


def _check_stages(config: ConfigDict) -> None:
  """Checks the keys with one entry per stage."""
  m, stages = config.model, len(config.model.depths)
  for name in ("num_heads", "window_sizes", "trained_window_sizes", "attention_chunks"):
    if len(m[name]) != stages and (m[name] or name in ("num_heads", "window_sizes")):
      raise BadInput(
        f"model.{name} = {m[name]} needs one entry for each of the {stages} stages of model.depths ="
        f" {m.depths}"
      )
  for i, heads in enumerate(m.num_heads):
    if heads < 1 or (m.embed_dim * 2**i) % heads:
      raise BadInput(
        f"model.num_heads[{i}] = {heads} does not divide the {m.embed_dim * 2**i} channels of stage {i}"
      )


def _check_chunks(config: ConfigDict) -> None:
  """Checks that the windows of an image, or the heads on a device, divide into chunks."""
  m, stages = config.model, geometry(make_config(**config.model), config.data.image_size)
  for i, (chunks, stage) in enumerate(zip(m.attention_chunks, stages, strict=False)):
    count = math.prod(stage.padded) // math.prod(stage.window)
    try:
      chunk_counts(chunks, count, m.num_heads[i] // max(1, config.mesh.get("model", 1)))
    except BadInput as error:
      raise BadInput(f"config.model.attention_chunks[{i}] = {chunks}: stage {i}, {error}") from error
