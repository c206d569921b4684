"""SimMIM block masks (SimMIM, section 3.2)."""

import math

import numpy as np


def masked_cells(cells: int, ratio: float) -> int:
  """Returns ⌈ratio · cells⌉, the number of cells to mask."""
  # Rounded first, because 100 · 0.55 is slightly more than 55 in floating point.
  return math.ceil(round(cells * ratio, 6))


def block_mask(
  rng: np.random.Generator,
  image_size: tuple[int, int],
  mask_patch_size: int,
  model_patch_size: int,
  ratio: float,
) -> np.ndarray:
  """Masks ⌈ratio · cells⌉ randomly chosen cells of mask_patch_size × mask_patch_size pixels.

  Args:
    rng: numpy generator.
    image_size: (height, width) in pixels; multiples of mask_patch_size.
    mask_patch_size: side of a masked cell in pixels, a multiple of model_patch_size.
    model_patch_size: side of the model's patch in pixels.
    ratio: fraction of cells to mask, 0 to 1.

  Returns:
    bool [height / model_patch_size, width / model_patch_size], true = masked.

  Raises:
    ValueError: the sizes do not divide evenly, or the ratio is outside 0 to 1.
  """
  if not 0 <= ratio <= 1:
    raise ValueError(f"a fraction of {ratio} of the cells cannot be masked")
  if min(mask_patch_size, model_patch_size, *image_size) < 1:
    raise ValueError(
      f"the image {image_size}, mask patches of {mask_patch_size} px and the model's of {model_patch_size}"
      " px must be positive"
    )
  if mask_patch_size % model_patch_size or any(side % mask_patch_size for side in image_size):
    raise ValueError(
      f"mask patches of {mask_patch_size} px must divide the image {image_size} and be a multiple of the"
      " model's patch of"
      f" {model_patch_size} px"
    )
  rows, columns = (side // mask_patch_size for side in image_size)
  cells = np.zeros(rows * columns, bool)
  cells[rng.permutation(cells.size)[: masked_cells(cells.size, ratio)]] = True
  scale = mask_patch_size // model_patch_size
  return cells.reshape(rows, columns).repeat(scale, axis=0).repeat(scale, axis=1)
