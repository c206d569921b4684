"""Reconstructions of hidden patches by a masked-image model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.data.read import image_ops
from swin_jax.data.view import masks
from swin_jax.drawing import panels as drawing
from swin_jax.saved.pretrained import Model
from swin_jax.tasks import masked_loss, masked_pixels
from swin_jax.terminal.errors import BadInput


def reconstruct(
  model: Model,
  params: Any,
  image: np.ndarray,
  *,
  mask_ratio: float = 0.6,
  mask_patch: int | None = None,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Masks an image at random and reconstructs it with the model.

  With targets normalised by their neighbourhood (`masked_pixels.target_norm_window`), brightness and contrast
  of the neighbourhood are those of the original.

  Args:
    model, params: from `swin_jax.load`; a masked-image model.
    image: float32 [height, width, bands], 0..1, as from `images.read`.
    mask_ratio: masked fraction of the image; 0.6 in the paper.
    mask_patch: side of a masked cell in pixels; None for that of a token of the last stage, 32 px as in the
      paper for the usual models.
    seed: of the mask.

  Returns:
    The reconstruction of the whole image, float32 like the image, and bool [height, width, 1], true where the
    image was masked.

  Raises:
    BadInput: the model is not a masked-image model, the number of bands differs, or the mask does not fit
      the image.
  """
  if not model.masked:
    raise BadInput("the model is not a masked-image model, so it cannot reconstruct; use a pre-training run")
  levels = model.module.encoder.levels
  try:
    mask = masks.block_mask(
      np.random.default_rng(seed),
      image.shape[:2],
      levels[-1].stride[0] if mask_patch is None else mask_patch,
      levels[0].stride[0],
      mask_ratio,
    )
  except ValueError as error:
    raise BadInput(f"{error}; see --mask_patch, --mask_ratio, --image_size") from error
  normalised = model.normalise(image)[None]
  window = model.description[masked_pixels.KIND.group]["target_norm_window"]
  out = masked_loss.in_pixels(
    model.apply(params, normalised, mask[None]), normalised, window, image_ops.valid_bands(image)[None]
  )
  return np.asarray(out)[0] * model.std + model.mean, np.asarray(
    masked_loss.pixel_mask(mask, levels[0].stride, image.shape[:2])
  )


def picture(
  model: Model,
  params: Any,
  image: np.ndarray,
  *,
  mask_ratio: float = 0.6,
  mask_patch: int | None = None,
  seed: int = 0,
  bands: Sequence[int] = (),
) -> Image.Image:
  """Draws original, masked, reconstructed, and the reconstruction pasted into the original, side by side.

  Only masked pixels count in training: the reconstruction of the others is meaningless, so the last panel is
  the one to look at.

  Args, raises: as in `reconstruct`; bands: as in `drawing.to_rgb`.
  """
  reconstruction, masked = reconstruct(
    model, params, image, mask_ratio=mask_ratio, mask_patch=mask_patch, seed=seed
  )
  original, reconstructed = (drawing.to_rgb(x, image, bands) for x in (image, reconstruction))
  masked = drawing.enlarge(masked)
  panels = {
    "original": original,
    "masked": np.where(masked, np.uint8(drawing.GREY), original),
    "reconstructed": reconstructed,
    "pasted": np.where(masked, reconstructed, original),
  }
  return drawing.sheet(list(panels.items()), len(panels))
