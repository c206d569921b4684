"""What `prepare` prints besides its table: how the source was understood, and the commands that come next."""

import shlex

import numpy as np
import pytest

from swin_jax import main as command
from swin_jax.data.prepare import next_commands
from swin_jax.data.read import facts
from swin_jax.run import checks, fit, inputs, reads
from swin_jax.run import config as run_config
from swin_jax.terminal import cli
from tests.support import images, label_sets
from tests.support.paths import ROOT
from tests.support.prepared import main
from tests.support.rasters import scene, write_tif


def test_how_a_source_was_understood_is_printed_once_at_the_start(tmp_path, capsys):
  images.make_folder(tmp_path / "in", {"training_set": 6, "test_set": 4})
  assert main(tmp_path / "in", tmp_path / "out") == 0
  lines = capsys.readouterr().out.splitlines()
  notes = facts.read(str(tmp_path / "out")).origin.notes
  assert len(notes) and list(notes) == lines[: len(notes)]
  assert all(lines.count(note) == 1 for note in notes)
  assert not any("training_set" in line for line in lines[len(notes) :])
  assert main(f"--out={tmp_path / 'out'}") == 0  # without the source, from what the facts keep
  described = capsys.readouterr().out.splitlines()
  assert all(described.count(note) == 1 for note in notes)


# The commands that come next.


def photographs(folder):
  images.make_folder(folder, {"training_set": 6, "test_set": 4})


def without_classes(folder):
  for i in range(4):
    (folder / "train").mkdir(parents=True, exist_ok=True)
    (folder / "train" / f"{i}.png").write_bytes(images.encode(i, (70, 80)))


def one_class(folder):
  images.make_folder(folder, {"train": 4}, ["ant"])


def label_maps(folder):
  label_sets.write(folder, label_sets.files() | {"classes.txt": label_sets.CLASSES})


def value_maps(folder):
  for i in range(3):
    write_tif(folder / "train/values" / f"{i}.tif", scene(i, 20, 25, 1).astype(np.float32))
    (folder / "train/images").mkdir(exist_ok=True)
    (folder / "train/images" / f"{i}.png").write_bytes(images.encode(i, (25, 20)))


def rasters(folder):
  for i in range(3):
    write_tif(folder / "train" / f"{i}.tif", scene(i))


def raster_classes(folder):
  for name in ("forest", "water"):
    for i in range(3):
      write_tif(folder / "train" / name / f"{i}.tif", scene(i))


def raster_labels(folder):
  (folder / "train").mkdir(parents=True)
  (folder / "classes.txt").write_text("field\nwater\n")
  for i in range(3):
    write_tif(folder / "train/images" / f"{i}.tif", scene(i))
    write_tif(folder / "train/labels" / f"{i}.tif", (scene(i, bands=1) % 2).astype(np.uint8))


def raster_values(folder):
  for i in range(3):
    write_tif(folder / "train/images" / f"{i}.tif", scene(i))
    write_tif(folder / "train/values" / f"{i}.tif", scene(i, bands=1).astype(np.float32))


@pytest.mark.parametrize(
  "make, kinds",
  [
    (photographs, {"own_images": "pretrain finetune scratch"}),
    (without_classes, {"own_images": "pretrain"}),
    (one_class, {"own_images": "pretrain"}),
    (label_maps, {"own_images": "pretrain", "own_labels": "finetune scratch"}),
    (value_maps, {"own_images": "pretrain", "own_labels": "regress regress"}),
    (rasters, {"own_rasters": "pretrain"}),
    (raster_classes, {"own_rasters": "pretrain finetune finetune"}),
    (raster_labels, {"own_rasters": "pretrain segment segment"}),
    (raster_values, {"own_rasters": "pretrain regress regress"}),
  ],
)
def test_the_next_commands_are_accepted(make, kinds, tmp_path, capsys, monkeypatch):
  """Each is parsed as a shell and `main` would, and its run opens the data."""
  monkeypatch.chdir(ROOT)
  make(tmp_path / "in")
  out = tmp_path / "a set, 'quoted'"
  assert main(tmp_path / "in", out) == 0
  commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  python -m ")]
  expected = [f"{file}:{kind}" for file in kinds for kind in kinds[file].split()]
  assert [shlex.split(line)[3].removeprefix("--config=") for line in commands] == [
    *expected,
    *(f"{name},cpu" for name in expected),
  ]
  workdirs = set()
  for line in commands:
    words = shlex.split(line)[3:]
    arguments = command._parser().parse_args(words)
    workdirs.add(arguments.workdir)
    given = cli.given_keys(words)
    reads.check_flags(arguments.config, given)
    config = run_config.with_statistics(arguments.config)
    config = fit.apply(config, fit.by_size(config, given))
    checks.check(config)
    if ":pretrain" in line or "scratch" in arguments.workdir:
      assert not config.init_from
    else:
      assert config.init_from in workdirs  # an earlier command writes it
    sources = inputs.open_sources(config)
    assert all(map(len, sources))
    config = fit.apply(config, fit.by_number(config, len(sources[0]), given))
    names = sources[0].class_names
    run_config.resolve(config, names, names)
    run_config.count_steps(config, len(sources[0]))
  assert len(workdirs) == len(expected)


def test_large_sets_need_a_gpu(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(next_commands, "_SMALL", 5)
  photographs(tmp_path / "in")
  assert main(tmp_path / "in", tmp_path / "out") == 0
  printed = capsys.readouterr().out
  assert ":pretrain " in printed and ",cpu" not in printed
