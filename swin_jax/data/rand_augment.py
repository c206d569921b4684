"""RandAugment: a few random operations on an image, drawn uniformly from fifteen.

The recipe of the official configs, "rand-m9-mstd0.5-inc1", from the augmentation library that they pin: two operations per image,
each left out half of the time, magnitude N(9, 0.5) of 10, and a larger magnitude always changes the image more.
"""

import numpy as np
from PIL import Image
from PIL import ImageEnhance
from PIL import ImageOps

MAX_MAGNITUDE = 10.0
BANDS = (1, 3)  # numbers of bands that the operations are defined for

OPERATIONS = (
    "auto_contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)

# What comes into view at the borders: the ImageNet mean, whatever the data, and its luminance.
_FILL = {"RGB": (124, 116, 104), "L": 117}


def rand_augment(
    image: np.ndarray, rng: np.random.Generator, operations: int, probability: float, magnitude: float, magnitude_std: float
) -> np.ndarray:
  """Applies random operations, one after the other.

  Args:
    image: uint8 [height, width, bands], RGB or grey.
    rng: numpy generator.
    operations: that are drawn, with replacement.
    probability: that a drawn operation is applied.
    magnitude, magnitude_std: N(magnitude, magnitude_std), cut to 0..10, is drawn anew for each application.

  Returns:
    uint8 [height, width, bands].

  Raises:
    ValueError: neither one nor three bands.
  """
  if image.shape[-1] not in BANDS:
    raise ValueError(f"RandAugment is for RGB and grey images, not for {image.shape[-1]} bands")
  grey = image.shape[-1] == 1
  picture = Image.fromarray(image[:, :, 0] if grey else image)
  for i in rng.integers(len(OPERATIONS), size=operations):
    if rng.random() < probability:
      drawn = float(np.clip(rng.normal(magnitude, magnitude_std), 0.0, MAX_MAGNITUDE))
      name, sign = OPERATIONS[i], -1 if rng.random() < 0.5 else 1
      picture = apply(picture, name, level(name, drawn, sign))
  augmented = np.asarray(picture)
  return augmented[:, :, None] if grey else augmented


def level(name: str, magnitude: float, sign: int) -> float:
  """The argument of an operation, in its own unit.

  Args:
    name: of `OPERATIONS`.
    magnitude: 0 to 10.
    sign: -1 or 1; only some operations have a direction.

  Returns:
    Degrees (rotate), bits that are kept (posterize), pixel values (solarize: the threshold; solarize_add: the addend), a factor where 1
    changes nothing (color to sharpness), a slope (shear), or a share of the side (translate); 0 where there is nothing to choose.
  """
  share = magnitude / MAX_MAGNITUDE
  match name:
    case "auto_contrast" | "equalize" | "invert":
      return 0
    case "rotate":
      return sign * 30 * share
    case "posterize":
      return 4 - int(4 * share)
    case "solarize":
      return 256 - int(256 * share)
    case "solarize_add":
      return int(110 * share)
    case "color" | "contrast" | "brightness" | "sharpness":
      return 1 + sign * 0.9 * share
    case "shear_x" | "shear_y":
      return sign * 0.3 * share
    case "translate_x" | "translate_y":
      return sign * 0.45 * share
  raise KeyError(name)


def apply(image: Image.Image, name: str, value: float) -> Image.Image:
  """One operation at a `level`, on a Pillow image of mode "RGB" or "L"; the size stays."""
  match name:
    case "auto_contrast":
      return ImageOps.autocontrast(image)
    case "equalize":
      return ImageOps.equalize(image)
    case "invert":
      return ImageOps.invert(image)
    case "rotate":
      return image.rotate(value, Image.Resampling.BICUBIC, fillcolor=_FILL[image.mode])
    case "posterize":
      return _look_up(image, [v & (0xFF << (8 - value)) for v in range(256)])  # Pillow's own refuses to keep no bit at all
    case "solarize":
      return ImageOps.solarize(image, value)
    case "solarize_add":
      return _look_up(image, [min(v + value, 255) if v < 128 else v for v in range(256)])
    case "color":
      return ImageEnhance.Color(image).enhance(value)
    case "contrast":
      return ImageEnhance.Contrast(image).enhance(value)
    case "brightness":
      return ImageEnhance.Brightness(image).enhance(value)
    case "sharpness":
      return ImageEnhance.Sharpness(image).enhance(value)
    case "shear_x":
      return _affine(image, (1, value, 0, 0, 1, 0))
    case "shear_y":
      return _affine(image, (1, 0, 0, value, 1, 0))
    case "translate_x":
      return _affine(image, (1, 0, value * image.width, 0, 1, 0))
    case "translate_y":
      return _affine(image, (1, 0, 0, 0, 1, value * image.height))
  raise KeyError(name)


def _look_up(image: Image.Image, table: list[int]) -> Image.Image:
  return image.point(table * len(image.getbands()))


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
  """Takes output pixel (x, y) from (a x + b y + c, d x + e y + f), given (a, b, c, d, e, f)."""
  return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_FILL[image.mode])
