"""The attention of one block, mapped back onto the image. Letters: see `models/windows.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from swin_jax.drawing import legend
from swin_jax.drawing import panels as drawing
from swin_jax.saved.pretrained import Model
from swin_jax.show.grad_cam import grad_cam, image_classes
from swin_jax.terminal.errors import BadInput

QUERIES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))


def capture(
  model: Model, params: Any, image: np.ndarray, stage: int | None = None, block: int | None = None
) -> Any:
  """Captures the attention of one block.

  Args:
    model, params: from `swin_jax.load`; a masked-image model gets an unmasked image.
    image: float32 [height, width, bands], 0..1, as from `images.read`.
    stage: None for the second to last, whose map is finer than the last's.
    block: of the stage; None for its last.

  Returns:
    As `models.swin.attention_maps.Attention`.

  Raises:
    BadInput: there is no such stage or block, or the backbone has no attention.
  """
  if model.backbone.attention is None:
    raise BadInput(
      f"the backbone of the model is {model.backbone.summarise(model.description).name}, which has no"
      " attention to show"
    )
  stage = max(len(model.module.encoder.levels) - 2, 0) if stage is None else stage
  model.check_stage(stage)
  return model.backbone.attention(model.module, params, model.normalise(image)[None], stage, block)


def picture(
  model: Model,
  params: Any,
  image: np.ndarray,
  *,
  stage: int | None = None,
  block: int | None = None,
  head: int | None = None,
  at: Sequence[tuple[float, float]] = QUERIES,
  label: int | None = None,
  cam_stage: int | None = None,
  bands: Sequence[int] = (),
) -> Image.Image:
  """Draws the attention from tokens of one block, the attention each receives, and for a classifier Grad-CAM.

  Args:
    model, params, image, stage, block: as in `capture`.
    head: of the block; None for the mean of all.
    at: (row, column) of pixels whose tokens are the queries: integers are pixels of the image, floats are
      fractions of it.
    label, cam_stage: as in `grad_cam`; Grad-CAM is omitted if the model has no classes and no label is given.
    bands: as in `drawing.to_rgb`.

  Raises:
    BadInput: there is no such stage, block, head, pixel, band or class.
  """
  captured = capture(model, params, image, stage, block)
  heads = captured.weights.shape[1]
  if head is not None and not 0 <= head < heads:
    raise BadInput(f"this block has no head {head}; it has heads 0 to {heads - 1}")
  chosen = slice(None) if head is None else slice(head, head + 1)
  original = drawing.to_rgb(image, image, bands)
  zoom = original.shape[0] // image.shape[0]
  side = captured.stride * zoom  # side of a token on a panel
  received = captured.received()[chosen].mean(0)
  # otherwise a few tokens that receive most attention leave the others dark
  received = np.minimum(received, np.percentile(received, 99))
  panels = [
    ("image", original),
    ("attention received", drawing.heat(original, drawing.spread(received, side, original.shape[:2]))),
  ]
  if label is not None or image_classes(model):
    values, stride, label, probability = grad_cam(model, params, image, label, cam_stage)
    values = drawing.spread(values, stride * zoom, original.shape[:2], smooth=True)
    name = legend.name_of(label, model.class_name(label), ImageFont.load_default(16))
    panels.append((f"Grad-CAM: {name} ({probability:.0%})", drawing.heat(original, values)))
  for point in at:
    pixel = _pixel(point, image.shape[:2])
    row, column = (p // captured.stride for p in pixel)
    looks, reach = captured.of(row, column)[chosen].mean(0), captured.reach(row, column)
    box = (row * side, column * side, (row + 1) * side, (column + 1) * side)
    panel = drawing.heat(
      original, *(drawing.spread(values, side, original.shape[:2]) for values in (looks, reach))
    )
    panels.append((f"from row {pixel[0]}, column {pixel[1]}", drawing.frame(panel, box)))
  return drawing.sheet(panels, 4)


def _pixel(point: tuple[float, float], size: tuple[int, int]) -> tuple[int, int]:
  pixel = tuple(
    p if isinstance(p, int) else min(int(p * side), side - 1) for p, side in zip(point, size, strict=True)
  )
  if any(p < 0 or p >= side for p, side in zip(pixel, size, strict=True)) or any(
    isinstance(p, float) and p > 1 for p in point
  ):
    raise BadInput(
      f"{point[0]},{point[1]} is not in the image of {size[0]} × {size[1]} px; 0.5,0.5 is the centre"
    )
  return pixel
