"""Small sets of images with label maps."""

import io

import numpy as np
from PIL import Image

CLASSES = "sky\nroad\ncar\n"


def png(values, mode="L"):
  out = io.BytesIO()
  Image.fromarray(np.asarray(values, np.uint8)).convert(mode).save(out, "PNG")
  return out.getvalue()


def rgb(pixels, kind="PNG", **options):
  out = io.BytesIO()
  Image.fromarray(np.asarray(pixels, np.uint8)).save(out, kind, **options)
  return out.getvalue()


def jpeg(height, width, seed):
  out = io.BytesIO()
  Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)).save(
    out, "JPEG"
  )
  return out.getvalue()


def files(layout="{split}/{kind}", kind="labels", splits=("train", "val"), count=4, size=(20, 30)):
  """Returns {path: bytes} of a data set whose label maps are stripes of 0, 1, 2 and 255."""
  contents = {}
  for split in splits:
    for i in range(count):
      stripes = np.repeat([[0, 1, 2, 255, i % 3]], size[0], 0).repeat(size[1] // 5, 1)
      contents[f"{layout.format(split=split, kind='images')}/{i}.jpg"] = jpeg(*size, i)
      contents[f"{layout.format(split=split, kind=kind)}/{i}.png"] = png(stripes)
  return contents


def write(folder, contents):
  """Writes {path: bytes or text} below a folder; returns the folder's name."""
  for name, data in contents.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
  return str(folder)
