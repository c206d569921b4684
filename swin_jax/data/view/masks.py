"""SimMIM block masks (SimMIM, section 3.2)."""

import math

import numpy as np

_FINE = 6  # cells along a side, as in the paper: 192 px and cells of 32 (SimMIM, section 4.1)


def masked_cells(cells: int, ratio: float) -> int:
  """Returns ⌈ratio · cells⌉, the number of cells to mask."""
  # Rounded first, because 100 · 0.55 is slightly more than 55 in floating point.
  return math.ceil(round(cells * ratio, 6))


def fine_cell(image_size: tuple[int, int], model_patch_size: int, most: int) -> int:
  """Returns the side in pixels of the largest cell, at most `most`, of which an image has `_FINE` along its
  shorter side; of the smallest if it has fewer, and `most` if no cell divides the image.

  Args:
    image_size: (height, width) in pixels.
    model_patch_size: side of the model's patch in pixels, which must divide the cell.
    most: largest side.
  """
  divided = math.gcd(*image_size)
  cells = [size for size in range(model_patch_size, most + 1, model_patch_size) if divided % size == 0] or [
    most
  ]
  return max((size for size in cells if min(image_size) // size >= _FINE), default=cells[0])


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
