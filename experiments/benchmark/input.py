"""Our input pipeline against torch's DataLoader on the same JPEGs, cores and crops: images per second and
their ratio.

  pip install -r requirements-peers.txt
  python -m experiments.benchmark.input --images=FILE.zip --json=experiments/benchmark/input.json

Each reads files, decodes them, cuts and resizes a random crop (8 to 100 % of the area, bicubic, with a wider
filter when shrinking), flips half of the crops horizontally and batches them. Ours ends with uint8, as in a
run; the work that the device then does inside the step is timed separately. Theirs ends with normalised
floats. Each has a process of its own, and they take turns, so that other load on the machine affects both
equally.
"""

import functools
import importlib.util
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from typing import Any
import zipfile

import numpy as np
from PIL import Image

from experiments.benchmark import result_file
from experiments.benchmark.cpu import processor
from swin_jax.terminal import cli
from swin_jax.terminal.errors import BadInput

WORK = dict(image_size=256, batch=64, crop_scale=(0.08, 1.0), crop_ratio=(3 / 4, 4 / 3))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Both prepare some batches in advance, even during the other's turn; these are consumed before the clock
# starts.
WARM_UP_BATCHES, BATCHES = 12, 32


def ours(folder: str):
  """Returns batches and their settings: the pipeline of a run, with as many threads as there are cores."""
  os.environ["JAX_PLATFORMS"] = "cpu"
  import grain
  import jax

  from configs import common
  from swin_jax.data.feed import pipeline
  from swin_jax.ops import mixing
  from swin_jax.run import bench, inputs

  c = common.base()
  c.data.update(
    source="folder",
    path=folder,
    eval_split="train",
    image_size=(WORK["image_size"],) * 2,
    batch_size=WORK["batch"],
  )
  c.data.num_threads = os.cpu_count()
  c.augment.update(crop_scale=WORK["crop_scale"], crop_ratio=WORK["crop_ratio"], interpolation="bicubic")
  data = inputs.open_input(c)
  normalise = jax.jit(functools.partial(mixing.normalise, mean=MEAN, std=STD))
  images = np.zeros((WORK["batch"], WORK["image_size"], WORK["image_size"], 3), np.uint8)
  seconds = []
  for _ in range(12):
    start = time.perf_counter()
    normalise(images).block_until_ready()
    seconds.append(time.perf_counter() - start)
  how = {
    "threads": c.data.num_threads,
    "processes": c.data.num_workers,
    "device": jax.devices()[0].device_kind,
    "device_seconds_per_image_normalise": statistics.median(seconds) / WORK["batch"],
    "device_seconds_per_image_whole_recipe": 1
    / bench.on_devices(c, 1000)[0],  # with RandAugment, erasing and mixing, which theirs lacks
  }
  return data.train_batches(0, pipeline.Part(0, 1)), how | {
    "jax": jax.__version__,
    "grain": grain.__version__,
  }


class Files:
  """A map-style torch data set: path → normalised image."""

  def __init__(self, folder: str, transform):
    self._paths, self._transform = sorted(pathlib.Path(folder).rglob("*.jpg")), transform

  def __len__(self) -> int:
    return len(self._paths)

  def __getitem__(self, index: int):
    with Image.open(self._paths[index]) as file:
      return self._transform(file.convert("RGB")), 0


class InPillow:
  """torchvision's transforms in Pillow, numpy and torch, for systems where torchvision cannot be imported."""

  def __call__(self, image: Image.Image):
    import torch

    size, (width, height) = WORK["image_size"], image.size
    low, high = np.log(WORK["crop_ratio"])
    for _ in range(10):
      area = width * height * torch.empty(1).uniform_(*WORK["crop_scale"]).item()
      aspect = np.exp(torch.empty(1).uniform_(low, high).item())
      w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
      if 0 < w <= width and 0 < h <= height:
        left, top = (
          torch.randint(0, width - w + 1, (1,)).item(),
          torch.randint(0, height - h + 1, (1,)).item(),
        )
        break
    else:
      w = h = min(width, height)
      left, top = (width - w) // 2, (height - h) // 2
    image = image.crop((left, top, left + w, top + h)).resize((size, size), Image.Resampling.BICUBIC)
    if torch.rand(1) < 0.5:
      image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return pixels.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))


def theirs(folder: str):
  """Returns batches and their settings: a DataLoader with as many processes as there are cores."""
  import torch

  try:
    import torchvision
    from torchvision import transforms

    crop = transforms.RandomResizedCrop(
      WORK["image_size"],
      WORK["crop_scale"],
      WORK["crop_ratio"],
      interpolation=transforms.InterpolationMode.BICUBIC,
    )
    last = [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    transform, by = transforms.Compose([crop, *last]), f"torchvision {torchvision.__version__}"
  except (ImportError, RuntimeError):  # not installed, or built for another version of torch
    transform, by = InPillow(), "its transforms in Pillow and torch, because torchvision is not there"

  loader = torch.utils.data.DataLoader(
    Files(folder, transform),
    WORK["batch"],
    shuffle=True,
    drop_last=True,
    num_workers=os.cpu_count(),
    persistent_workers=True,
  )
  batches = itertools.chain.from_iterable(itertools.repeat(loader))  # the same processes in every epoch
  return batches, {
    "processes": os.cpu_count(),
    "transforms": by,
    "torch": torch.__version__,
    "pillow": Image.__version__,
  }


def serve(contestant, folder: str, connection) -> None:
  """Sends its settings, then, for each order, the images per second of one turn."""
  batches, how = contestant(folder)
  connection.send(how)
  while connection.recv():
    for _ in range(WARM_UP_BATCHES):
      next(batches)
    began = time.perf_counter()
    for _ in range(BATCHES):
      next(batches)
    took = time.perf_counter() - began
    connection.send(BATCHES * WORK["batch"] / took)
  os._exit(0)  # skips the interpreter's shutdown, in which torch's worker processes sometimes crash


def _is_jpeg(name: str) -> bool:
  return name.lower().endswith((".jpg", ".jpeg"))


def compare(images: pathlib.Path, rounds: int) -> dict[str, Any]:
  """Runs both in turns.

  Returns:
    The content of the file of --json.
  """
  spawn = multiprocessing.get_context("spawn")
  with tempfile.TemporaryDirectory() as folder:
    with zipfile.ZipFile(images) as file:
      for name in file.namelist():
        if _is_jpeg(name):
          path = pathlib.Path(folder, "train", pathlib.Path(name).stem + ".jpg")
          path.parent.mkdir(exist_ok=True)
          path.write_bytes(file.read(name))
    files = list(pathlib.Path(folder).rglob("*.jpg"))
    connections, how = {}, {}
    for contestant in (ours, theirs):
      connection, other = spawn.Pipe()
      spawn.Process(target=serve, args=(contestant, folder, other)).start()
      other.close()  # otherwise this process would not notice that the other process has ended
      connections[contestant.__name__], how[contestant.__name__] = connection, connection.recv()
    rates = {name: [] for name in connections}
    for i in range(rounds):
      for name, connection in connections.items():
        connection.send(True)
        rates[name].append(connection.recv())
      print(
        f"round {i + 1} of {rounds}: " + ", ".join(f"{name} {rate[-1]:.0f}" for name, rate in rates.items()),
        flush=True,
      )
    for connection in connections.values():
      connection.send(False)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    sizes = [Image.open(path).size for path in files]
    return {
      "input_ratio": medians["ours"] / medians["theirs"],
      "images_per_second": medians,
      "images_per_second_per_core": {name: rate / os.cpu_count() for name, rate in medians.items()},
      "rounds": rates,
      "how": how,
      "images": {
        "file": images.name,
        "count": len(files),
        "mean_bytes": statistics.mean(path.stat().st_size for path in files),
        "mean_width_and_height": np.mean(sizes, axis=0).tolist(),
      },
      "work": WORK,
      "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
    }


def main(argv: list[str]) -> None:
  parser = cli.Parser(prog="python -m experiments.benchmark.input", description=__doc__)
  parser.add_argument(
    "--images", required=True, type=pathlib.Path, help="zip file of JPEGs (.jpg or .jpeg), in any folders"
  )
  parser.add_argument("--rounds", type=int, default=7, help="number of turns of each pipeline")
  parser.add_argument("--json", type=pathlib.Path, help="file for all measurements")
  arguments = parser.parse_args(argv[1:])
  if not zipfile.is_zipfile(arguments.images):
    raise BadInput(f"--images={arguments.images} is no zip file")
  with zipfile.ZipFile(arguments.images) as file:
    if not any(_is_jpeg(name) for name in file.namelist()):
      raise BadInput(f"--images={arguments.images} holds no JPEG, .jpg or .jpeg")
  if arguments.rounds < 1:
    raise BadInput("--rounds must be at least 1")
  result_file.check(arguments.json)
  if not importlib.util.find_spec("torch"):
    raise BadInput("torch is not installed: pip install -r requirements-peers.txt")
  result = compare(arguments.images, arguments.rounds)
  if arguments.json:
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
  for name, rate in result["images_per_second"].items():
    print(f"{name}: {rate:.0f} images/s, {rate / os.cpu_count():.0f} per core")
  print(f"input_ratio {result['input_ratio']:.2f}")


if __name__ == "__main__":
  cli.leave(cli.exit_code(lambda: main(sys.argv)))
