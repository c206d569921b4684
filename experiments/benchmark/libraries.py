"""Compares libraries that decode JPEGs or resize crops, each in one thread: microseconds per image, and the
difference from Pillow.

  pip install simplejpeg opencv-python-headless cykooz-resizer pyvips-binary pyvips
  python -m experiments.benchmark.libraries --images=FILE.zip

Libraries that are not installed are left out. pillow-simd replaces Pillow; to measure it, run this script
in an environment that has it.
"""

import importlib.util
import io
import pathlib
import statistics
import sys
import time
import zipfile

import numpy as np
from PIL import Image

from swin_jax.data.read import image_ops
from swin_jax.terminal import cli

SIZE, ROUNDS = 256, 5
# method → range of the fraction of an image's area that the recipe crops
METHODS = {"bicubic": (0.08, 1.0), "bilinear": (0.67, 1.0)}


def decoders():
  """Returns name → (bytes → RGB)."""
  functions = {"Pillow": lambda encoded: np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))}
  if importlib.util.find_spec("simplejpeg"):
    import simplejpeg

    functions["simplejpeg"] = lambda encoded: simplejpeg.decode_jpeg(encoded, "RGB")
    functions["simplejpeg, fastdct and fastupsample"] = lambda encoded: simplejpeg.decode_jpeg(
      encoded, "RGB", fastdct=True, fastupsample=True
    )
  if importlib.util.find_spec("cv2"):
    import cv2

    cv2.setNumThreads(1)
    functions["OpenCV"] = lambda encoded: cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
  return functions


def resizers(method: str):
  """Returns name → (crop → resized)."""
  functions = {
    "Pillow": lambda crop: np.asarray(
      Image.fromarray(crop).resize((SIZE, SIZE), image_ops.INTERPOLATIONS[method])
    )
  }
  if image_ops.resizer:
    functions["cykooz-resizer"] = lambda crop: image_ops.resize(crop, (SIZE, SIZE), method)
  if importlib.util.find_spec("cv2"):
    import cv2

    own = cv2.INTER_CUBIC if method == "bicubic" else cv2.INTER_LINEAR
    functions[f"OpenCV, {method}, which does not filter"] = lambda crop: cv2.resize(
      crop, (SIZE, SIZE), interpolation=own
    )
    functions["OpenCV, INTER_AREA"] = lambda crop: cv2.resize(
      crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA
    )
  if importlib.util.find_spec("pyvips"):
    import pyvips

    def vips(crop):
      image = pyvips.Image.new_from_array(np.ascontiguousarray(crop))
      kernel = "cubic" if method == "bicubic" else "linear"
      return image.resize(SIZE / crop.shape[1], vscale=SIZE / crop.shape[0], kernel=kernel).numpy()[
        :SIZE, :SIZE
      ]

    functions["libvips"] = vips
  return functions


def compare(functions, values) -> None:
  """Times the functions in turns and prints a row for each: µs, mean difference from the first, and PSNR."""
  seconds = {name: [] for name in functions}
  for _ in range(ROUNDS):
    for name, function in functions.items():
      start = time.perf_counter()
      for value in values:
        function(value)
      seconds[name].append((time.perf_counter() - start) / len(values))
  first = next(iter(functions.values()))
  for name, function in functions.items():
    pairs = [(first(value).astype(float), function(value)) for value in values[:100]]
    absolute = np.mean([np.abs(a - b).mean() for a, b in pairs if a.shape == b.shape])
    squared = np.mean([np.mean((a - b) ** 2) for a, b in pairs if a.shape == b.shape])
    psnr = f"{10 * np.log10(255**2 / squared):.1f}" if squared else "equal"
    print(f"| {name} | {1e6 * statistics.median(seconds[name]):.0f} | {absolute:.2f} | {psnr} |", flush=True)


def main(argv: list[str]) -> None:
  parser = cli.Parser(prog="python -m experiments.benchmark.libraries", description=__doc__)
  parser.add_argument("--images", required=True, type=pathlib.Path, help="zip file of JPEGs (.jpg)")
  arguments = parser.parse_args(argv[1:])
  with zipfile.ZipFile(arguments.images) as file:
    encoded = [file.read(name) for name in file.namelist() if name.endswith(".jpg")][:250]
  print(
    f"Pillow {Image.__version__}\n| decode {arguments.images.name} | µs | mean difference | PSNR, dB"
    " |\n|---|---|---|---|"
  )
  compare(decoders(), encoded)
  images = [image_ops.decode(one, 3) for one in encoded]
  for method, scale in METHODS.items():
    rng, crops = np.random.default_rng(0), []
    for image in images:
      share = np.sqrt(rng.uniform(*scale))
      height, width = (int(side * share) for side in image.shape[:2])
      top, left = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
      crops.append(image[top : top + height, left : left + width])
    print(f"| {method} | µs | mean difference | PSNR, dB |\n|---|---|---|---|")
    compare(resizers(method), crops)


if __name__ == "__main__":
  cli.leave(cli.exit_code(lambda: main(sys.argv)))
