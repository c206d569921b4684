"""The operations of RandAugment in Pillow, as the augmentation library of the official configs calls them:
the reference for ours.
"""

from PIL import Image, ImageEnhance, ImageOps

_FILL = {"RGB": (124, 116, 104), "L": 117}


def apply(image: Image.Image, name: str, value: float) -> Image.Image:
  """Applies one operation at a `rand_augment.level` to an image of mode "RGB" or "L"."""
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
      # Pillow's own function refuses to keep zero bits
      return _look_up(image, [v & (0xFF << (8 - value)) for v in range(256)])
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
  """Maps output pixel (x, y) to input (a x + b y + c, d x + e y + f), given (a, b, c, d, e, f)."""
  return image.transform(
    image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_FILL[image.mode]
  )
