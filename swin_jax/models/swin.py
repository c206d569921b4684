"""Swin Transformer, V1 and V2: patches, stages of window attention, a pyramid of feature maps. Letters: see
`windows.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.mesh import axes
from swin_jax.models import attention, layers, remat, windows


class FeatureMap(NamedTuple):
  """One level of the pyramid: values [B, H, W, channels], one token per `stride` pixels."""

  values: jax.Array
  stride: int
  channels: int


class Block(nn.Module):
  """One transformer block: window attention and an MLP, each on a residual branch.

  V2 norms the *output* of a branch (residual post-norm, section 3.2), V1 its input. The post-norms start at
  zero, so a fresh V2 block is the identity. Branches are dropped per image with probability `drop_rate`
  (stochastic depth).

  Attributes:
    version: 1 or 2.
    shifted: whether the windows are shifted by half their size.
    extra_norm: a LayerNorm on the main branch at the end of the block (V2-H and V2-G, section 3.2).
    attention_chunks: see `windows.chunk_counts`.
    attention_kernel: see `kernels.window_attention`.

  Shapes:
    x, out    [B, H, W, C]
    drop_rate scalar, or None for never
  """

  version: int
  num_heads: int
  window_size: tuple[int, int]
  trained_window_size: tuple[int, int] | None
  shifted: bool
  extra_norm: bool
  mlp_ratio: float
  dtype: jnp.dtype
  attention_chunks: int = 1
  attention_kernel: str = "xla"

  @nn.compact
  def __call__(self, x: jax.Array, drop_rate: jax.Array | None, *, train: bool) -> jax.Array:
    post_norm = self.version == 2
    norms = [
      layers.LayerNorm(self.dtype, nn.initializers.zeros if post_norm else nn.initializers.ones, name=name)
      for name in ("norm1", "norm2")
    ]
    for norm, branch in zip(
      norms, (self._attend, layers.Mlp(self.mlp_ratio, self.dtype, name="mlp")), strict=True
    ):
      y = norm(branch(x)) if post_norm else branch(norm(x))
      if train and drop_rate is not None:
        y = layers.drop_path(y, drop_rate, self.make_rng("dropout"))
      x = layers.constrain(x + y, axes.BATCH, None, None, None)
    return layers.LayerNorm(self.dtype, name="extra_norm")(x) if self.extra_norm else x

  def _attend(self, x: jax.Array) -> jax.Array:
    map_size = x.shape[1:3]
    window, shift = windows.window_and_shift(map_size, self.window_size, self.shifted)
    padded = windows.padded_size(map_size, window)  # before the shift, or opposite edges would meet
    regions = windows.regions(map_size, padded, window, shift)
    x = windows.pad(x, padded)
    x = windows.partition(jnp.roll(x, (-shift[0], -shift[1]), (1, 2)) if shift != (0, 0) else x, window)
    how = dict(dtype=self.dtype, chunks=self.attention_chunks, kernel=self.attention_kernel, name="attn")
    if self.version == 2:
      attend = attention.CosineWindowAttention(
        self.num_heads, window, self.trained_window_size or window, **how
      )
    else:
      attend = attention.DotProductWindowAttention(self.num_heads, window, **how)
    x = windows.merge(attend(x, regions), window, padded)
    x = jnp.roll(x, shift, (1, 2)) if shift != (0, 0) else x
    return x[:, : map_size[0], : map_size[1]]


class Stage(nn.Module):
  """The blocks of one stage as a scan over what repeats: a plain and a shifted block, or as many as lie
  between extra norms.

  The parameters of the repeated group are stacked along a leading LAYERS dimension, whether the scan is
  unrolled or not.

  Attributes:
    depth: L, number of blocks.
    extra_norm_every: an extra norm after every so many blocks; 0 for none.
    remat: see `remat.policy`.
    unroll: unroll the scan; parameters and rngs stay the same.
    attention_chunks, attention_kernel: see `Block`.

  Shapes:
    x, out     [B, H, W, C]
    drop_rates float32 [L], or None for never
  """

  depth: int
  extra_norm_every: int
  remat: str
  unroll: bool
  version: int
  num_heads: int
  window_size: tuple[int, int]
  trained_window_size: tuple[int, int] | None
  mlp_ratio: float
  dtype: jnp.dtype
  attention_chunks: int = 1
  attention_kernel: str = "xla"

  @nn.compact
  def __call__(self, x: jax.Array, drop_rates: np.ndarray | None, *, train: bool) -> jax.Array:
    group = group_size(self.depth, self.extra_norm_every)
    length = self.depth // group
    unroll = self.unroll or length == 1
    block = _BlockGroup(
      group,
      self.extra_norm_every,
      self.remat,
      unroll,
      self.version,
      self.num_heads,
      self.window_size,
      self.trained_window_size,
      self.mlp_ratio,
      self.dtype,
      self.attention_chunks,
      self.attention_kernel,
      name="blocks",
    )

    def body(block, x, rates):
      return block(x, rates, train=train), None

    scan = nn.scan(
      body,
      variable_axes={"params": 0, attention.SEEN[0]: 0},
      split_rngs={"params": True, "dropout": True},
      length=length,
      unroll=length if unroll else 1,
      metadata_params={nn.PARTITION_NAME: axes.LAYERS},
    )
    x, _ = scan(block, x, None if drop_rates is None else drop_rates.reshape(length, group))
    return x


class _BlockGroup(nn.Module):
  """The blocks of one scan step; `block{j}` is block j of each group."""

  size: int
  extra_norm_every: int
  remat: str
  unrolled: bool
  version: int
  num_heads: int
  window_size: tuple[int, int]
  trained_window_size: tuple[int, int] | None
  mlp_ratio: float
  dtype: jnp.dtype
  attention_chunks: int = 1
  attention_kernel: str = "xla"

  @nn.compact
  def __call__(self, x: jax.Array, drop_rates: jax.Array | None, *, train: bool) -> jax.Array:
    def run(block, x, rate):
      return block(x, rate, train=train)

    if policy := remat.policy(self.remat):
      # Inside a loop nothing can undo the recomputation, outside of one common-subexpression elimination
      # would.
      run = nn.remat(run, policy=policy, prevent_cse=self.unrolled)
    for j in range(self.size):
      extra_norm = self.extra_norm_every > 0 and (j + 1) % self.extra_norm_every == 0
      block = Block(
        self.version,
        self.num_heads,
        self.window_size,
        self.trained_window_size,
        j % 2 == 1,
        extra_norm,
        self.mlp_ratio,
        self.dtype,
        self.attention_chunks,
        self.attention_kernel,
        name=f"block{j}",
      )
      x = run(block, x, None if drop_rates is None else drop_rates[j])
    return x


class Swin(nn.Module):
  """The backbone: images in, a feature map and the pyramid of every stage out (Swin V1, section 3; Swin V2,
  section 3).

  Any image size and any number of bands: what is no multiple of patch or window is padded and the padding
  masked.

  Attributes:
    version: 1 or 2.
    patch_size: in pixels.
    embed_dim: C of the first stage; it doubles with every stage.
    depths, num_heads: per stage.
    window_sizes: (h, w) in tokens, per stage. A map smaller than its window is one window.
    trained_window_sizes: V2, (h, w) per stage: the window that the weights were trained with; None where it
      is the same.
    drop_path_rate: of the last block; the rate grows linearly from zero over the blocks.
    dtype: compute dtype of the matrix products and of the residual stream.
    extra_norm_every, remat, unroll: see `Stage`.
    attention_chunks: per stage, see `Block`; () for one each.
    attention_kernel: see `kernels.window_attention`.
  """

  version: int
  patch_size: int
  embed_dim: int
  depths: Sequence[int]
  num_heads: Sequence[int]
  window_sizes: Sequence[tuple[int, int]]
  trained_window_sizes: Sequence[tuple[int, int] | None]
  mlp_ratio: float
  drop_path_rate: float
  extra_norm_every: int
  remat: str
  unroll: bool
  dtype: jnp.dtype
  attention_chunks: Sequence[int] = ()
  attention_kernel: str = "xla"

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    mask: jax.Array | None = None,
    mask_token: jax.Array | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Runs the backbone.

    Args:
      images: [B, height, width, bands], normalised.
      mask: bool [B, H, W] at the resolution of the patches; true where `mask_token` stands in for the patch.
      mask_token: [C].
      train: whether branches are dropped; needs the rng "dropout" then.

    Returns:
      The normed output of the last stage, [B, H', W', C·2^(stages-1)], and the output of every stage's
      blocks, before merging and
      unnormed, [B, H_i, W_i, C·2^i].
    """
    rates = None
    if self.drop_path_rate > 0:
      rates = np.split(
        np.linspace(0, self.drop_path_rate, sum(self.depths), dtype=np.float32), np.cumsum(self.depths)[:-1]
      )
    x = layers.PatchEmbed(self.patch_size, self.embed_dim, self.dtype, name="patch_embed")(
      images.astype(self.dtype)
    )
    if mask is not None:
      x = jnp.where(mask[..., None], mask_token.astype(self.dtype)[None, None, None], x)
    maps, chunks = [], self.attention_chunks or (1,) * len(self.depths)
    for i, depth in enumerate(self.depths):
      stage = Stage(
        depth,
        self.extra_norm_every,
        self.remat,
        self.unroll,
        self.version,
        self.num_heads[i],
        self.window_sizes[i],
        self.trained_window_sizes[i],
        self.mlp_ratio,
        self.dtype,
        chunks[i],
        self.attention_kernel,
        name=f"stage{i}",
      )
      x = stage(x, None if rates is None else rates[i], train=train)
      maps.append(x)
      if i + 1 < len(self.depths):
        x = layers.PatchMerge(self.version == 1, self.dtype, name=f"merge{i}")(x)
    return layers.LayerNorm(self.dtype, name="norm")(x), tuple(maps)

  def pyramid(self, images: jax.Array, stages: Sequence[int] = (0, 1, 2, 3)) -> list[FeatureMap]:
    """The outputs of some stages, unnormed: for dense heads."""
    _, maps = self(images)
    return [FeatureMap(maps[i], self.patch_size * 2**i, self.embed_dim * 2**i) for i in stages]

  @property
  def stride(self) -> int:
    """Pixels per token of the last stage."""
    return self.patch_size * 2 ** (len(self.depths) - 1)

  @property
  def channels(self) -> int:
    """Channels of the last stage."""
    return self.embed_dim * 2 ** (len(self.depths) - 1)


def make_encoder(
  *, version: int, window_sizes: Sequence, trained_window_sizes: Sequence, dtype: str, **numbers
) -> Swin:
  """The backbone from plain numbers: a window is one number or (height, width); no trained windows means the
  same windows.

  Raises:
    ValueError: no such version or dtype.
  """
  if version not in (1, 2) or dtype not in ("bfloat16", "float32"):
    raise ValueError(f"version {version} of 1, 2; dtype {dtype} of bfloat16, float32")
  return Swin(
    version=version,
    window_sizes=tuple(windows.pair(size) for size in window_sizes),
    trained_window_sizes=tuple(windows.pair(size) for size in trained_window_sizes)
    or (None,) * len(window_sizes),
    dtype=jnp.dtype(dtype),
    **numbers,
  )


def group_size(depth: int, extra_norm_every: int) -> int:
  """How many blocks of a stage repeat as one: 2 (plain, shifted), a multiple of it where extra norms recur,
  else all of them.
  """
  unit = int(np.lcm(2, extra_norm_every)) if 0 < extra_norm_every <= depth else 2
  return unit if depth % unit == 0 else depth


def flops(model: Swin, image_size: tuple[int, int], bands: int) -> int:
  """Floating point operations of one image's forward pass (two per multiply-add), by the convention of the
  official code.

  Counted are matrix products, attention and norms; not the bias MLP, the softmax and the cosine
  normalisation.
  """
  maps = windows.map_sizes(image_size, model.patch_size, len(model.depths))
  macs = maps[0][0] * maps[0][1] * model.embed_dim * (model.patch_size**2 * bands + 1)
  for i, (depth, size) in enumerate(zip(model.depths, maps, strict=True)):
    tokens, c = size[0] * size[1], model.embed_dim * 2**i
    window, _ = windows.window_and_shift(size, model.window_sizes[i], False)
    padded, n = int(np.prod(windows.padded_size(size, window))), int(np.prod(window))
    if i > 0:  # merging into this stage; V1 norms before the product
      macs += tokens * (2 * c * c + (2 * c if model.version == 1 else c))
    macs += depth * (
      2 * c * tokens + padded * (4 * c * c + 2 * n * c) + int(2 * model.mlp_ratio * tokens * c * c)
    )
  return 2 * (macs + tokens * c)
