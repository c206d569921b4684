"""Everything the README says can be done is done here as it says."""

import importlib
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from swin_jax.data.read import labels
from swin_jax.terminal import shipped
from tests.support import folders, official, rasters, runs
from tests.support.folders import imported
from tests.support.paths import ROOT

TEXT = (ROOT / "README.md").read_text()
TWO_STAGES = ("--config.model.depths=1,1", "--config.model.num_heads=2,2", "--config.model.window_sizes=8,8")


def block(heading, language):
  section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)[1]
  return re.search(rf"^```{language}\n(.*?)^```", section, re.M | re.S)[1].strip().splitlines()


@pytest.mark.parametrize("heading", ["Quick start", "Run the tests"])
def test_one_line_does_it_all(heading):
  lines = block(heading, "sh")
  assert len(lines) == 1
  assert lines[0].startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_the_configs_it_names_are_all_there_are():
  names = set()
  for cell in re.findall(r"^\| (`.*?) \|", re.search(r"## Recipes(.*?)## ", TEXT, re.S)[1], re.M):
    stem = ""
    for name in re.findall(r"`([^`]*)`", cell):
      name = name.split(":")[0]
      prefix = re.match(r"swinv2_\{[^}]*\}", stem)
      name = name.replace("…", prefix[0] if prefix else "")
      stem = name
      match = re.search(r"\{([^}]*)\}", name)
      names |= {name.replace(match[0], part) for part in match[1].split(",")} if match else {name}
  assert names == {*shipped.names()} - {"quickstart"}


def commands_of(heading, flags):
  """Returns the commands of a section as lists of words; those that train are of the kind for a CPU, as the
  section says, and get the given flags.
  """
  commands = []
  for words in map(shlex.split, block(heading, "")):
    training = [word for word in words if word.startswith("--config=")]
    assert all(f":{word.partition(':')[2]},cpu`" in TEXT for word in training)
    words = [f"{word},cpu" if word in training else word for word in words]
    commands.append([*runs.changed(words, *flags)] if training else words)
  return commands


def run_here(words):
  """Runs a command of this package in this process, which saves the seconds that starting another takes."""
  assert words[:2] == ["python", "-m"], words
  name = words[2] if words[2] == "swin_jax.main" else f"{words[2]}.__main__"
  assert importlib.import_module(name).main([words[2], *words[3:]]) == 0, words


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
  """A working directory that holds the configs and the package, as a clone does."""
  for name in ("configs", "swin_jax"):
    (tmp_path / name).symlink_to(ROOT / name)
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.fixture(name="do")
def _do(folder, capsys):
  """A function that runs the commands of a section and returns what each prints."""
  del folder

  def do(heading, flags):
    said = []
    for words in commands_of(heading, flags):
      run_here(words)
      said.append(capsys.readouterr().out)
    return said

  return do


@pytest.mark.slow
def test_own_images(folder):
  """Runs the commands as they stand, each as a process, of the kinds for a CPU, on 48 images for a
  step or two.
  """
  rng = np.random.default_rng(0)
  for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
    (folder / "my_images" / name).mkdir(parents=True)
    for i in range(24):
      pixels = np.clip(rng.normal(colour, 20, (70 + i, 80, 3)), 0, 255).astype(np.uint8)
      Image.fromarray(pixels).save(folder / "my_images" / name / f"{i}.jpg")
  short = ["--config.data.batch_size=16", "--config.data.eval_batch_size=4", "--config.optim.total_epochs=1"]
  short += ["--config.optim.warmup_epochs=0.5", *TWO_STAGES]
  for words in commands_of("Your own images", short):
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
  assert "eval/top1" in done.stdout and "eval/majority_share 0." in done.stdout
  assert list((folder / "runs/own/pretrain/pictures").glob("*.png"))


@pytest.mark.slow
def test_rasters(folder, do):
  """Runs the commands as they stand, of the kinds for a CPU, on two GeoTIFFs of seven bands with
  gaps: the loss falls.
  """
  for name in ("scene", "other"):
    array = rasters.scene(len(name), 400, 420, bands=7)
    array[:60, :200] = -9999
    rasters.write_tif(folder / "my_rasters" / f"{name}.tif", array, nodata=-9999, scales=(0.01,) * 7)
  flags = [
    "--config.data.batch_size=6",
    "--config.data.eval_batch_size=1",
    "--config.optim.total_epochs=20",
    "--config.optim.lr=0.4",
  ]
  flags += ["--config.optim.warmup_epochs=2", *TWO_STAGES]
  flags += ["--config.mask.patch_size=2", "--config.checkpoint.every_epochs=20"]
  assert len(do("Rasters of any bands", flags)) == 3
  losses = [line["eval/loss"] for line in runs.lines(folder / "runs/rasters/pretrain") if "eval/loss" in line]
  assert len(losses) == 4 and losses[-1] < 0.95 * losses[0]
  assert [path.name for path in (folder / "pictures").iterdir()] == ["scene-reconstruct.png"]


@pytest.mark.slow
def test_every_pixel(folder, do):
  """Runs the commands as they stand, of the kinds for a CPU, for a step or two on images whose left
  and right halves are two classes.
  """
  rng = np.random.default_rng(0)
  for split, count in (("train", 8), ("val", 2)):
    for i in range(count):
      classes = np.repeat([[0, 1]], 70, 0).repeat(50, 1).astype(np.uint8)
      pixels = np.clip(rng.normal(np.where(classes[..., None], 60, 190), 20, (70, 100, 3)), 0, 255).astype(
        np.uint8
      )
      for kind, image in (("images", pixels), ("labels", classes)):
        (folder / "my_set" / split / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "my_set" / split / kind / f"{i}.png")
  (folder / "my_set/classes.txt").write_text("light\ndark\n")
  flags = ["--config.data.batch_size=4", "--config.data.eval_batch_size=2", "--config.optim.total_epochs=1"]
  flags += [*TWO_STAGES, "--config.optim.warmup_epochs=0.5", "--config.log.eval_every_epochs=1"]
  _, trained, evaluated, _ = do("Every pixel", flags)
  assert "eval/mean_iou" in trained and "2 images at 64 × 64 px by a sliding window" in evaluated
  assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["0-segment.png", "1-segment.png"]
  assert sorted(path.name for path in (folder / "found").iterdir()) == ["0.png", "1.png", "classes.txt"]
  names = {}
  exec("\n".join(block("Every pixel", "python")), names)
  class_map = labels.decode((folder / "found/0.png").read_bytes())
  # once from the file, and once as fitted into 256 × 128 px
  assert class_map.shape == (70, 100) and names["classes"].shape == (128, 183)


@pytest.mark.slow
def test_a_number_for_every_pixel(folder, do):
  """Runs the commands as they stand, of the kinds for a CPU, for a step or two on rasters whose
  values are one of their bands.
  """
  for split in ("train", "val"):
    array = rasters.scene(len(split), 330, 340, bands=3)
    rasters.write_tif(folder / f"my_heights/{split}/images/1.tif", array)
    rasters.write_tif(folder / f"my_heights/{split}/values/1.tif", array[..., :1].astype(np.float32))
  flags = [
    "--config.data.batch_size=2",
    "--config.data.eval_batch_size=2",
    "--config.optim.total_epochs=1",
    "--config.optim.warmup_epochs=0.5",
  ]
  flags += [*TWO_STAGES, "--config.log.eval_every_epochs=1"]
  _, trained, _ = do("A number for every pixel", flags)
  assert "eval/mean_absolute_error" in trained
  assert [path.name for path in (folder / "pictures").iterdir()] == ["1-regress.png"]
  assert [path.name for path in (folder / "found").iterdir()] == ["1.tif"]


@pytest.mark.slow
def test_weights_serving_and_pictures(tmp_path, monkeypatch, capsys):
  """Runs the commands and the notebook's lines as they stand on tiny models; models that a hub would serve
  are created here.
  """
  for name, changes in {
    "runs/own/finetune": {},
    "runs/quickstart/pretrain": dict(bands=1, simmim=True),
    "runs/quickstart/finetune": dict(bands=1),
    "models/tiny": {},
  }.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    imported(tmp_path, name=name, depths=(2, 1, 1, 1), num_heads=(2, 2, 4, 4), **changes)
  monkeypatch.chdir(tmp_path)
  try:
    import torch
  except ImportError:
    torch = None
  for command in block("Weights in and out", ""):
    if ".pth" in command:
      if not torch:
        continue
      state = official.random(official.state_dict(2, **folders.TINY))
      torch.save(
        {"model": {key: torch.from_numpy(value) for key, value in state.items()}}, command.split()[4]
      )
    if "hf://" not in command:  # fetching from the hub is tested in tests/saved/test_hub.py
      run_here(shlex.split(command))
  pixels = np.random.default_rng(0).random((1, 512, 512, 3), np.float32)
  names = {"pixels": pixels}
  exec("\n".join(block("Weights in and out", "python")), names)
  assert names["logits"].shape == (1, 5) and names["c2"].shape == (1, 64, 64, 32)
  export, load = re.search(r"\*\*Serving\.\*\*.*?^```\n(.*?)^```", TEXT, re.M | re.S)[1].strip().splitlines()
  run_here(shlex.split(export))
  subprocess.run([sys.executable, *shlex.split(load)[1:]], check=True, timeout=100)
  digits, *commands = block("See what a model does", "")
  words = shlex.split(digits)
  assert words[:2] == ["python", "-c"]
  exec(words[2], {})
  for command in commands:
    run_here(shlex.split(command))
  assert len(list(pathlib.Path("pictures").glob("*.png"))) == 12
  capsys.readouterr()


def test_the_files_it_points_to_are_there():
  links = re.findall(r"\]\((?!http)([^)#]+)", TEXT)
  assert len(links) > 5 and not [path for path in links if not (ROOT / path).exists()]
  named = set(re.findall(r"`([\w/]*test_\w+\.py)`", TEXT))
  assert len(named) > 10 and not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.slow
def test_the_quick_start_learns_digits(folder):
  """Runs the line as it stands, in this environment instead of a new one, and with fewer epochs."""
  environment, requirements, *commands = block("Quick start", "sh")[0].split(" && ")
  assert environment == "python3 -m venv .venv" and requirements.startswith(".venv/bin/pip install")
  for command, epochs in zip(commands, (1, 12), strict=True):
    words = shlex.split(command)
    assert words[0] == ".venv/bin/python"
    shorter = [f"--config.optim.total_epochs={epochs}", "--config.optim.warmup_epochs=1"]
    done = subprocess.run(
      [sys.executable, *runs.changed(words[1:], *shorter)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
  workdirs = folder / "runs" / "quickstart"
  assert list((workdirs / "pretrain" / "pictures").glob("reconstruction-*.png"))
  assert "loaded   encoder/" in (workdirs / "finetune" / "transfer.txt").read_text()
  assert runs.lines(workdirs / "finetune")[-1]["eval/top1"] > 0.5  # chance level is 0.1
