"""Checks of the config group `model` of a Swin Transformer."""

import math

from ml_collections import ConfigDict

from swin_jax.kernels.window_attention import CHOICES
from swin_jax.models import remat
from swin_jax.models.swin.config import make_config
from swin_jax.models.swin.geometry import StageGeometry, geometry
from swin_jax.models.swin.settings import sizes
from swin_jax.models.windows import chunk_counts, sides
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

_STAGES = range(1, 9)
_SIDES = rules.Items(rules.Whole(1, 4096), (2, 3))
_SIDE = rules.Either(rules.Whole(1, 4096), _SIDES)
RULES = {
  "model.version": rules.Choice(1, 2),
  "model.patch_size": _SIDE,
  "model.merge_size": _SIDES,
  "model.embed_dim": rules.Whole(1, 16384),
  "model.depths": rules.Items(rules.Whole(1, 256), _STAGES),
  "model.num_heads": rules.Items(rules.Whole(1, 4096), _STAGES),
  "model.extra_norm_every": rules.Whole(0, 256),
  "model.window_sizes": rules.Items(_SIDE, _STAGES),
  "model.trained_window_sizes": rules.Items(_SIDE, range(9)),
  "model.clamp_windows": rules.FLAG,
  "model.clamp_axes": rules.Choice("each", "all"),
  "model.padding": rules.Choice("masked", "attended"),
  "model.bias_rows": rules.Choice("offsets", "first"),
  "model.mlp_ratio": rules.Real(0, 64, above=True),
  "model.drop_path_rate": rules.Real(0, 0.99),
  "model.dtype": rules.Choice("bfloat16", "float32"),
  "model.remat": rules.Passes(remat.policy),
  "model.attention_chunks": rules.Items(rules.Whole(1, 2**20), range(9)),
  "model.attention_kernel": rules.Choice(*CHOICES),
  "model.unroll": rules.FLAG,
}


def check(config: ConfigDict) -> None:
  """Checks the keys of the group, whose values follow `RULES`.

  Raises:
    BadInput: sizes contradict each other or the image; the message names the keys.
  """
  check_saved(config)
  _check_chunks(config)


def check_saved(config: ConfigDict) -> None:
  """Checks the keys that are kept with weights; for errors, see `check`."""
  _check_axes(config)
  _check_stages(config)
  _geometry(config)  # refuses windows that are too large


def _check_axes(config: ConfigDict) -> None:
  """Checks that all sizes have as many axes as data.image_size."""
  m, image = config.model, config.data.image_size
  axes = len(image)
  each = [("patch_size", m.patch_size), ("merge_size", m.merge_size)]
  each += [(key, size) for key in ("window_sizes", "trained_window_sizes") for size in m[key]]
  for key, size in each:
    if len(sides(size, 2)) != axes:
      raise BadInput(
        f"model.{key} = {m[key]} must have one number for each of the {axes} axes of data.image_size ="
        f" {image}; one number means (height, width)"
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
    if name in m and len(m[name]) != stages and (m[name] or name in ("num_heads", "window_sizes")):
      raise BadInput(
        f"model.{name} = {m[name]} needs one entry for each of the {stages} stages of model.depths ="
        f" {m.depths}"
      )
  for i, heads in enumerate(m.num_heads):
    if (m.embed_dim * 2**i) % heads:
      raise BadInput(
        f"model.num_heads[{i}] = {heads} does not divide the {m.embed_dim * 2**i} channels of stage {i}"
      )
  if int(m.embed_dim * m.mlp_ratio) < 1:
    raise BadInput(
      f"config.model.mlp_ratio = {m.mlp_ratio} leaves no hidden unit to the MLPs of model.embed_dim ="
      f" {m.embed_dim} channels"
    )
  if m.extra_norm_every > max(m.depths):
    raise BadInput(
      f"config.model.extra_norm_every = {m.extra_norm_every}: no stage has as many blocks; model.depths ="
      f" {m.depths}, and 0 means no extra norms"
    )


def _check_chunks(config: ConfigDict) -> None:
  """Checks that the windows of an image, or the heads on a device, divide into chunks."""
  m, stages = config.model, _geometry(config)
  for i, (chunks, stage) in enumerate(zip(m.attention_chunks, stages, strict=False)):
    count = math.prod(stage.padded) // math.prod(stage.window)
    try:
      chunk_counts(chunks, count, m.num_heads[i] // max(1, config.mesh.get("model", 1)))
    except BadInput as error:
      raise BadInput(f"config.model.attention_chunks[{i}] = {chunks}: stage {i}, {error}") from error


def _geometry(config: ConfigDict) -> tuple[StageGeometry, ...]:
  return geometry(make_config(**sizes(config)), tuple(config.data.image_size))
