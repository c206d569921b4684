"""Does the jobs of the README and the pages of docs/ with the commands that stand there."""

import importlib.util
import json
import pathlib
import runpy

import numpy as np
from PIL import Image
import pytest

from swin_jax.data.read import labels
from swin_jax.weights import converted
from tests.support import folders, hub, official, pages, rasters, runs
from tests.support.folders import imported, save
from tests.support.pages import block, text
from tests.support.paths import ROOT

PUBLIC = "microsoft/swinv2-tiny-patch4-window8-256"
TWO_STAGES = ("--config.model.depths=1,1", "--config.model.num_heads=2,2", "--config.model.window_sizes=8,8")
SHORT = ("--config.optim.total_epochs=1", "--config.optim.warmup_epochs=0.5")


def run_here(words):
  """Runs a command in this process, which saves the seconds that starting another takes."""
  if words[:2] == ["python", "-c"]:
    exec(words[2], {})
  elif words[0] == "python":
    runpy.run_path(words[1])["main"](*words[2:])
  else:
    assert words[0] == "swin_jax", words
    assert pages.module_of(words[1]).main(words[1:]) == 0, words


def on_a_cpu(page, words, flags):
  """Returns a command; one that trains, of the kind for a CPU, which its page names, and with the flags."""
  config = next((word for word in words if word.startswith("--config=")), None)
  if config is None:
    return words
  if not config.endswith(",cpu"):
    assert f":{config.rpartition(':')[2]},cpu`" in text(page), config
    words = [f"{word},cpu" if word == config else word for word in words]
  return [*runs.changed(words, *flags)]


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
  """A working directory that holds what a clone does."""
  for name in ("configs", "swin_jax", "docs"):
    (tmp_path / name).symlink_to(ROOT / name)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv(converted.CACHE, str(tmp_path / "cache"))
  return tmp_path


@pytest.fixture(name="do")
def _do(folder, capsys):
  """A function that runs the commands of a section and returns what each prints."""
  del folder

  def do(page, heading, *flags):
    printed = []
    for words in block(page, heading).commands:
      run_here(on_a_cpu(page, words, flags))
      printed.append(capsys.readouterr().out)
    return printed

  return do


@pytest.fixture(name="serve")
def _serve(folder, monkeypatch):
  """A function that lets a stand-in of the hub serve a Swin V2 as the one that the pages name."""
  servers = []

  def serve(**model):
    files = folder / "hub"
    save(files / "model.safetensors", official.random(official.state_dict(2, **model, buffers=False)))
    settings = dict(model_type="swinv2", image_size=model["image_size"], window_size=model["window"])
    (files / "config.json").write_text(json.dumps(settings))
    servers.append(hub.Hub(files, PUBLIC).server)
    hub.use(monkeypatch, f"http://localhost:{servers[-1].server_port}", folder / "downloads")

  yield serve
  for server in servers:
    server.shutdown()


@pytest.mark.slow
def test_images(folder, do, serve):
  """Runs the commands of the kinds for a CPU, on 48 images for a step or two."""
  serve(**folders.TINY)
  rng = np.random.default_rng(0)
  for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
    (folder / "my_images" / name).mkdir(parents=True)
    for i in range(24):
      pixels = np.clip(rng.normal(colour, 20, (70 + i, 80, 3)), 0, 255).astype(np.uint8)
      Image.fromarray(pixels).save(folder / "my_images" / name / f"{i}.jpg")
  short = ("--config.data.batch_size=16", "--config.data.eval_batch_size=4", *SHORT)
  page = "docs/images.md"
  evaluated = do(page, "A folder of images", *short, *TWO_STAGES)[-1]
  assert "eval/top1" in evaluated and "eval/majority_share 0." in evaluated
  assert list((folder / "runs/own/pretrain/pictures").glob("*.png"))
  do(page, "Fine-tune public weights", *short)
  assert len((folder / "answers/predictions.csv").read_text().splitlines()) == 49
  do(page, "Probe before you train")
  results = json.loads((folder / "probe.json").read_text())["results"]
  assert {result["examples"] for result in results} == {None, 1, 5}


@pytest.mark.slow
def test_rasters(folder, do):
  """Runs the commands of the kinds for a CPU, on two GeoTIFFs of seven bands with gaps: the loss falls."""
  for name in ("scene", "other"):
    array = rasters.scene(len(name), 400, 420, bands=7)
    array[:60, :200] = -9999
    rasters.write_tif(folder / "my_rasters" / f"{name}.tif", array, nodata=-9999, scales=(0.01,) * 7)
  flags = ["--config.data.batch_size=6", "--config.data.eval_batch_size=1", "--config.optim.lr=0.4"]
  flags += ["--config.optim.total_epochs=20", "--config.optim.warmup_epochs=2", *TWO_STAGES]
  flags += ["--config.mask.patch_size=2", "--config.checkpoint.every_epochs=20"]
  assert len(do("docs/rasters.md", "Rasters", *flags)) == 3
  losses = [line["eval/loss"] for line in runs.lines(folder / "runs/rasters/pretrain") if "eval/loss" in line]
  assert len(losses) == 4 and losses[-1] < 0.95 * losses[0]
  assert [path.name for path in (folder / "pictures").iterdir()] == ["scene-reconstruct.png"]


@pytest.mark.slow
def test_segmentation(folder, do):
  """Runs the commands of the kinds for a CPU, for a step or two on images whose left and right halves are
  two classes.
  """
  rng = np.random.default_rng(0)
  for split, count in (("train", 8), ("val", 2)):
    for i in range(count):
      classes = np.repeat([[0, 1]], 70, 0).repeat(50, 1).astype(np.uint8)
      pixels = np.clip(rng.normal(np.where(classes[..., None], 60, 190), 20, (70, 100, 3)), 0, 255)
      for kind, image in (("images", pixels.astype(np.uint8)), ("labels", classes)):
        (folder / "my_set" / split / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "my_set" / split / kind / f"{i}.png")
  (folder / "my_set/classes.txt").write_text("light\ndark\n")
  page, heading = "docs/segmentation.md", "Images with label maps"
  flags = ["--config.data.batch_size=4", "--config.data.eval_batch_size=2", *SHORT, *TWO_STAGES]
  _, trained, evaluated, _ = do(page, heading, *flags, "--config.log.eval_every_epochs=1")
  assert "eval/mean_iou" in trained and "2 images at 64 × 64 px by a sliding window" in evaluated
  assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["0-segment.png", "1-segment.png"]
  assert sorted(path.name for path in (folder / "found").iterdir()) == ["0.png", "1.png", "classes.txt"]
  names = {}
  exec("\n".join(block(page, heading, "python").lines), names)
  class_map = labels.decode((folder / "found/0.png").read_bytes())
  # once from the file, and once as fitted into 256 × 128 px
  assert class_map.shape == (70, 100) and names["classes"].shape == (128, 183)


@pytest.mark.slow
def test_regression(folder, do):
  """Runs the commands of the kinds for a CPU, for a step or two on rasters whose values are one of their
  bands.
  """
  for split in ("train", "val"):
    array = rasters.scene(len(split), 330, 340, bands=3)
    rasters.write_tif(folder / f"my_heights/{split}/images/1.tif", array)
    rasters.write_tif(folder / f"my_heights/{split}/values/1.tif", array[..., :1].astype(np.float32))
  flags = ["--config.data.batch_size=2", "--config.data.eval_batch_size=2", *SHORT, *TWO_STAGES]
  heading = "Rasters with maps of numbers"
  _, trained, _ = do("docs/regression.md", heading, *flags, "--config.log.eval_every_epochs=1")
  assert "eval/mean_absolute_error" in trained
  assert [path.name for path in (folder / "pictures").iterdir()] == ["1-regress.png"]
  assert [path.name for path in (folder / "found").iterdir()] == ["1.tif"]


def create_models(folder):
  """Creates tiny model folders under the names that the pages use."""
  for name, changes in {
    "runs/own/finetune": {},
    "runs/quickstart/pretrain": dict(bands=1, simmim=True),
    "runs/quickstart/finetune": dict(bands=1),
  }.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    imported(folder, name=name, depths=(2, 1, 1, 1), num_heads=(2, 2, 4, 4), **changes)


@pytest.mark.slow
def test_weights_serving_and_answers(folder, do, serve):
  """Runs the commands and the notebook's lines on tiny models."""
  create_models(folder)
  serve(**folders.TINY | dict(depths=(2, 1, 1, 1), num_heads=(2, 2, 4, 4)))
  from_file, *others = block("docs/weights.md", "Import, adapt, export").commands
  if importlib.util.find_spec("torch"):
    import torch

    state = official.random(official.state_dict(2, **folders.TINY))
    torch.save({"model": {key: torch.from_numpy(value) for key, value in state.items()}}, from_file[3])
    run_here(from_file)
  for words in others:
    run_here(words)
  names = {"pixels": np.random.default_rng(0).random((1, 512, 512, 3), np.float32)}
  exec("\n".join(block("docs/weights.md", "In a notebook", "python").lines), names)
  assert names["logits"].shape == (1, 5) and names["c2"].shape == (1, 64, 64, 32)
  export, load = block("docs/serving.md", "Export").commands
  run_here(export)
  runpy.run_path(load[1], run_name="__main__")
  (folder / "my_images").mkdir()
  for i in range(3):
    Image.new("RGB", (40, 50), (80 * i, 90, 30)).save(folder / "my_images" / f"{i}.png")
  do("docs/predict.md", "Classes, maps, values and features")
  assert len((folder / "answers/predictions.jsonl").read_text().splitlines()) == 3
  assert np.load(folder / "features/features.npy").shape == (3, 128)
  for name in ("pretrain", "finetune"):
    lines = [{"step": i, "train/loss": 1 / i} for i in (1, 2, 3)]
    file = folder / "runs/quickstart" / name / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
  do("docs/predict.md", "Curves")
  assert (folder / "curves/curves.png").exists()


@pytest.mark.slow
def test_pictures(folder, do):
  """Draws the pictures of the README with tiny models, and those of digits again with other commands."""
  create_models(folder)
  do(
    "docs/pictures.md",
    "Commands",
    "--config.optim.total_steps=2",
    "--config.optim.warmup_epochs=0",
    "--config.data.batch_size=4",
    *TWO_STAGES,
  )
  assert Image.open(folder / "strip.png").width == Image.open(ROOT / "docs/pictures/strip.png").width
  assert (ROOT / "docs/pictures/strip.png").stat().st_size < 300_000
  for path in pathlib.Path("pictures").glob("digits*"):
    path.unlink()
  do("docs/predict.md", "Pictures")
  assert len(list(pathlib.Path("pictures").glob("digits*.png"))) == 12


@pytest.mark.slow
def test_features_in_a_notebook(folder, serve, capsys):
  """Runs the lines on random weights of a Swin V2-T, which have the shapes that the page prints."""
  serve(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window=8, image_size=256, classes=1000)
  Image.new("RGB", (300, 280), (90, 60, 30)).save(folder / "photo.jpg")
  heading = "Features in a notebook"
  exec("\n".join(block("README.md", heading, "python").lines), {})
  printed = [line.partition("# prints ")[2] for line in block("README.md", heading, "python").lines]
  assert capsys.readouterr().out.splitlines()[-2:] == [line for line in printed if line]
