"""Small image sets for tests."""

import contextlib
import io
import pathlib

import numpy as np
from PIL import Image
import pytest

from tests.support.paths import DATA


def real_data(name: str) -> pathlib.Path:
  """Returns the path of a file of real data; skips the test if the file is absent."""
  if not (DATA / name).exists():
    pytest.skip(f"no {DATA / name}; SWIN_JAX_DATA names the folder of real images")
  return DATA / name


def encode(seed: int, size: tuple[int, int] = (10, 8), kind: str = "PNG") -> bytes:
  """Returns a random image file of (width, height)."""
  pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, kind)
  return out.getvalue()


def make_folder(root: pathlib.Path, splits: dict[str, int], classes=("ant", "bee", "cat")) -> pathlib.Path:
  """Writes root/split/class/N.png: the given number of images per split, distributed over the classes."""
  for split, count in splits.items():
    for i in range(count):
      path = root / split / (classes[i % len(classes)] if classes else "") / f"{i:03}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(encode(len(split) * 1000 + i))
  return root


def make_npz(path: pathlib.Path, count: int, **changes) -> pathlib.Path:
  """Writes an npz file of PNG images; `changes` replace arrays, and None omits one."""
  images = [encode(i) for i in range(count)]
  arrays = dict(
    jpeg=np.frombuffer(b"".join(images), np.uint8),
    offsets=np.cumsum([0] + [len(image) for image in images]),
    labels=np.arange(count) % 3,
    class_names=np.array(["ant", "bee", "cat"]),
  )
  np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})
  return path


def contents(source) -> list[tuple[bytes, int]]:
  """Returns (image, label) of every example, sorted."""
  return sorted((source[i].image, source[i].label) for i in range(len(source)))


@contextlib.contextmanager
def away(path):
  """Simulates a storage failure while the context is open: the file is replaced by a link to itself, which
  cannot be resolved.
  """
  kept = path.with_name("away")
  path.rename(kept)
  path.symlink_to(path)
  try:
    yield
  finally:
    kept.replace(path)
