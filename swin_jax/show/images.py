"""Reads images for pictures: files, folders and arrays → float32 [height, width, bands], 0..1, resized."""

from collections.abc import Iterator
import pathlib
import zipfile

import numpy as np

from swin_jax.data.read import array_files, image_files, image_ops, plain_files, ranges, rasters
from swin_jax.saved.pretrained import Model
from swin_jax.terminal.errors import BadInput

ARRAYS = (".npy", ".npz")


def find(path: str) -> list[pathlib.Path]:
  """Returns the file `path`, or the image files and arrays in a folder and its subfolders, sorted.

  Hidden files and folders are skipped.

  Raises:
    BadInput: no such file, or no image in the folder.
  """
  root = pathlib.Path(path)
  if not root.exists():
    raise BadInput(f"{path}: no such file or folder")
  if root.suffix.lower() == ".zip":
    raise BadInput(f"{path} is a zip; unpack it, and give files or the folder")
  if not root.is_dir():
    return [root]
  suffixes = tuple(dict.fromkeys((*image_files.EXTENSIONS, *rasters.EXTENSIONS)))
  names = sorted(
    file.relative_to(root)
    for file in root.rglob("*")
    if file.name.lower().endswith(suffixes) and file.is_file()
  )
  if files := [root / name for name in names if not any(part.startswith(".") for part in name.parts)]:
    return files
  raise BadInput(f"{path} holds no image ({' '.join(suffixes)})")


def read(model: Model, path: str) -> Iterator[tuple[str, np.ndarray]]:
  """Reads the images in a file or folder as input of a model.

  The largest central box with the model's aspect ratio is resized to its size, so nothing is distorted and
  only the ends of the longer side are cropped. uint8 is divided by 255, as in training; float is used
  unscaled. Grey and RGB are converted into each other if the model requires it, see `image_ops.decode`. For a
  model trained on floats, values of any type are used unscaled, and files are rasters, see `rasters.read`;
  pixels without data are NaN.

  Args:
    model: determines the size and the number of bands.
    path: an image file; a .npy or .npz with an array [height, width, bands] or [n, height, width, bands],
      uint8 or float (of an .npz, the one whose last dimension is the model's number of bands); or a folder of
      these.

  Yields:
    (name, image): the name without folder and suffix, numbered if an array holds several images; float32
    [height, width, bands].

  Raises:
    BadInput: an image cannot be read, or has a different number of bands.
  """
  bands, of_floats = len(model.mean), model.description["data"]["dtype"] == "float32"
  for file in find(path):
    try:
      if file.suffix.lower() in ARRAYS:
        array = _array(file, bands)
        if array.ndim == 4:
          if not len(array):
            raise ValueError("holds no image")
          for i, image in enumerate(array):
            yield (
              f"{file.stem}-{i:0{len(str(len(array) - 1))}}",
              _view(image, bands, model.image_size, of_floats),
            )
          continue
        image = array
      elif of_floats and rasters.one_to_a_file(file.name):
        keep_alpha = rasters.shape(str(file), file.name)[-1] < bands  # trained with prepare --keep_alpha
        image = rasters.read(str(file), file.name, keep_alpha=keep_alpha)
      else:
        image = plain_files.read(str(file))
      yield file.stem, _view(image, bands, model.image_size, of_floats)
    except OSError as error:
      raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
      raise BadInput(f"{file} {error}") from error


def prepare(model: Model, image: np.ndarray | bytes) -> np.ndarray:
  """Converts one image to input of a model, see `read`.

  Args:
    model: determines the size and the number of bands.
    image: uint8, or float in 0..1, [height, width, bands] or, for grey, [height, width]; or the bytes of an
      image file.

  Returns:
    float32 [height, width, bands] of the model's size, 0..1.

  Raises:
    BadInput: the image has a different number of bands or another type.
  """
  try:
    return _view(image, len(model.mean), model.image_size, model.description["data"]["dtype"] == "float32")
  except ValueError as error:
    raise BadInput(f"the image {error}") from error


def _array(file: pathlib.Path, bands: int) -> np.ndarray:
  try:
    opened = array_files.load(str(file))
    if isinstance(opened, np.ndarray):
      return opened
    arrays = {name: array_files.member(opened, name) for name in opened.files}
  except (EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"cannot be read as an array: {' '.join(str(error).split())}") from error
  fitting = [name for name, array in arrays.items() if array.ndim in (3, 4) and array.shape[-1] == bands]
  if len(fitting) != 1:
    held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    raise ValueError(
      f"must hold one array [..., height, width, {bands}], the model's bands; it holds {held or 'nothing'}"
    )
  return arrays[fitting[0]]


def _view(image: np.ndarray | bytes, bands: int, size: tuple[int, int], of_floats: bool) -> np.ndarray:
  if isinstance(image, bytes):
    image = image_ops.decode(image, bands)
  if of_floats and image.dtype.kind in "ui":
    image = image.astype(np.float32)
  elif not of_floats:
    ranges.check(image)
  if image.dtype.kind not in "uif":
    raise ValueError(f"is of type {image.dtype}, not of numbers")
  if image.dtype.kind == "f":
    image = _convert(image.astype(np.float32), bands, of_floats)
  else:
    image = image_ops.decode(image.astype(np.uint8), bands)
  height, width = image.shape[:2]
  h, w = min(height, round(width * size[0] / size[1])), min(width, round(height * size[1] / size[0]))
  top, left = (height - h) // 2, (width - w) // 2
  image = image_ops.resize(image[top : top + max(h, 1), left : left + max(w, 1)], size, "bicubic")
  return image.astype(np.float32) / 255.0 if image.dtype == np.uint8 else image


def _convert(image: np.ndarray, bands: int, may_lack_data: bool) -> np.ndarray:
  """Does the same as `image_ops.decode` for float32; NaN where there is no data."""
  image = image[:, :, None] if image.ndim == 2 else image
  if image.ndim != 3 or not image.size:
    raise ValueError(f"is {list(image.shape)}, not [height, width, bands]")
  if image.shape[-1] == 1 and bands == 3:
    image = np.repeat(image, 3, axis=-1)
  elif image.shape[-1] == 3 and bands == 1:
    image = image @ np.float32([[0.299], [0.587], [0.114]])  # luma of ITU-R 601, as Pillow's "L"
  if image.shape[-1] != bands:
    raise ValueError(f"has {image_ops.count_bands(image.shape[-1])}, not {bands}")
  if may_lack_data:
    return np.where(np.isinf(image), np.float32(np.nan), image)
  if not np.isfinite(image).all():
    raise ValueError("holds numbers that are not finite")
  return image
