"""The configuration of a Swin Transformer, and quantities that follow from it alone."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from swin_jax.models import windows

Size = tuple[int, ...]  # one entry per axis of the map


@dataclasses.dataclass(frozen=True)
class SwinConfig:
  """The sizes of a Swin Transformer and how it is computed; `make_config` builds it from a config group.

  Attributes:
    version: 1 or 2; `block.VERSIONS` lists the parts of each.
    patch_size: pixels per patch, one entry per axis of the map; the number of entries is the number of axes.
    merge_size: number of tokens that become one between two stages, one entry per axis.
    embed_dim: C of the first stage; it doubles with every stage.
    depths, num_heads: blocks and heads, per stage.
    window_sizes: tokens per axis, per stage.
    trained_window_sizes: V2, per stage: the window that the weights were trained with, which is the unit of
      the offsets; () for the windows that are actually used.
    clamp_windows: whether a window that is not smaller than its map shrinks to the map and is not shifted; if
      not, windows keep their size and odd blocks always shift, as in the official dense models.
    clamp_axes: "each" to clamp windows along each axis by itself, "all" to clamp them along all axes if they
      are clamped along one, see `windows.window_and_shift`.
    padding: "masked", or "attended" for models in which padding takes part in attention: the official dense
      and video models.
    bias_rows: which rows of V1's table a window reads if it was shrunk to its map: "offsets" for the rows of
      its own offsets, "first" for the rows of the first tokens of the configured window, as in the official
      video models.
    mlp_ratio: hidden units of the MLP per channel.
    drop_path_rate: rate of the last block; the rate grows linearly from zero over the blocks.
    extra_norm_every: number of blocks of a stage after which an extra norm follows (V2-H and V2-G, section
      3.2); 0 for no extra norms.
    remat: what the backward pass recomputes, see `remat.policy`.
    unroll: whether the scan over blocks is unrolled; parameters and random streams stay the same.
    dtype: dtype of the matrix products and of the residual stream.
    attention_chunks: per stage, see `windows.chunk_counts`; () for one chunk everywhere.
    attention_kernel: see `kernels.window_attention`.
  """

  version: int = 2
  patch_size: Size = (4, 4)
  merge_size: Size = (2, 2)
  embed_dim: int = 96
  depths: tuple[int, ...] = (2, 2, 6, 2)
  num_heads: tuple[int, ...] = (3, 6, 12, 24)
  window_sizes: tuple[Size, ...] = ((8, 8),) * 4
  trained_window_sizes: tuple[Size, ...] = ()
  clamp_windows: bool = True
  clamp_axes: str = "each"
  padding: str = "masked"
  bias_rows: str = "offsets"
  mlp_ratio: float = 4.0
  drop_path_rate: float = 0.0
  extra_norm_every: int = 0
  remat: str = "none"
  unroll: bool = True
  dtype: Any = jnp.dtype("float32")
  attention_chunks: tuple[int, ...] = ()
  attention_kernel: str = "xla"

  @property
  def stages(self) -> int:
    """The number of stages."""
    return len(self.depths)

  def channels(self, stage: int) -> int:
    """Returns C of a stage."""
    return self.embed_dim * 2**stage

  def stride(self, stage: int) -> Size:
    """Returns the pixels per token of a stage, one entry per axis."""
    return tuple(p * m**stage for p, m in zip(self.patch_size, self.merge_size, strict=True))

  def chunks(self, stage: int) -> int:
    """Returns the number of parts that the attention of a stage is split into, see `windows.chunk_counts`."""
    return self.attention_chunks[stage] if self.attention_chunks else 1

  def trained_window(self, stage: int, window: Size) -> Size:
    """Returns the window whose size is the unit of V2's offsets, given the window that is used."""
    return self.trained_window_sizes[stage] if self.trained_window_sizes else window

  def table_window(self, stage: int, window: Size) -> Size:
    """Returns the window whose offsets have a row in V1's bias table, given the window that is used.

    The table of the official image models covers the window that is used. The table of the official video
    models covers the configured window, so that it does not depend on the length of a clip.
    """
    return window if len(window) == 2 else self.window_sizes[stage]

  def has_extra_norm(self, block: int) -> bool:
    """Returns whether an extra norm follows this block of a stage, counted from 0."""
    return self.extra_norm_every > 0 and (block + 1) % self.extra_norm_every == 0


def make_config(
  *,
  version: int,
  patch_size: int | Sequence[int],
  window_sizes: Sequence[int | Sequence[int]],
  trained_window_sizes: Sequence[int | Sequence[int]] = (),
  dtype: str = "float32",
  backbone: str = "swin",
  **numbers: Any,
) -> SwinConfig:
  """Returns a `SwinConfig` from the plain values of the group `model` of a config.

  Patches and windows are one number for both axes of an image, or one entry per axis. Lists, which JSON uses,
  become tuples. `backbone`, the key that selected Swin, is ignored.

  Raises:
    ValueError: unknown version or dtype.
  """
  del backbone
  if version not in (1, 2) or dtype not in ("bfloat16", "float32"):
    raise ValueError(f"version {version} must be 1 or 2, and dtype {dtype} must be bfloat16 or float32")
  patch_size = windows.sides(patch_size, 2)
  axes = len(patch_size)
  return SwinConfig(
    version=version,
    patch_size=patch_size,
    window_sizes=tuple(windows.sides(size, axes) for size in window_sizes),
    trained_window_sizes=tuple(windows.sides(size, axes) for size in trained_window_sizes),
    dtype=jnp.dtype(dtype),
    **{name: tuple(value) if isinstance(value, list) else value for name, value in numbers.items()},
  )


def group_size(depth: int, extra_norm_every: int) -> int:
  """Returns the number of blocks of a stage that repeat as one group.

  A group has two blocks (plain, shifted) or, with extra norms, the smallest even number of blocks that
  `extra_norm_every` divides. If that number does not divide the depth, all blocks are one group.
  """
  unit = int(np.lcm(2, extra_norm_every)) if 0 < extra_norm_every <= depth else 2
  return unit if depth % unit == 0 else depth
