"""prepare writes the same examples in shards, however it was stopped or divided, and refuses bad input."""

import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import zipfile

from PIL import Image
import pytest

from swin_jax.data.prepare import __main__ as prepare
from swin_jax.data.prepare import encoding, writing
from swin_jax.data.read import shards
from swin_jax.terminal import cli, progress
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.files import PARTIAL
from tests.support import images
from tests.support.opened import open_source
from tests.support.paths import ROOT
from tests.support.prepared import bad, files, main, read, run


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
  return images.make_folder(tmp_path_factory.mktemp("folder"), {"train": 40, "val": 10})


def command(*arguments, **kwargs):
  return [sys.executable, "-m", "swin_jax.data.prepare", *arguments], dict(cwd=ROOT, text=True, **kwargs)


def make_zip(path, folder, prefix="") -> pathlib.Path:
  with zipfile.ZipFile(path, "w") as file:
    for each in sorted(folder.rglob("*.png")):
      file.write(each, prefix + str(each.relative_to(folder)))
    file.writestr("__MACOSX/train/ant/._0.png", "no image")
  return path


# Layouts.


@pytest.mark.parametrize("prefix", ["", "insects/"])
def test_zip_is_the_folder(folder, tmp_path, prefix):
  run(make_zip(tmp_path / "set.zip", folder, prefix), tmp_path / "out")
  for split in ("train", "val"):
    original = open_source("folder", str(folder), split)
    assert images.contents(read(tmp_path / "out", split)) == images.contents(original)
    assert read(tmp_path / "out", split).class_names == original.class_names


def test_folder_without_splits_and_hold_out(folder, tmp_path):
  run(folder / "train", tmp_path / "whole", split="photos")
  run(folder / "train", tmp_path / "two", hold_out=0.25)
  whole, train, val = (
    read(tmp_path / "whole", "photos"),
    read(tmp_path / "two"),
    read(tmp_path / "two", "val"),
  )
  assert [len(train), len(val)] == [30, 10]
  assert sorted(images.contents(train) + images.contents(val)) == images.contents(whole)
  assert train.class_names == val.class_names == ("ant", "bee", "cat")
  assert images.contents(whole) == images.contents(open_source("folder", str(folder), "train"))


def test_images_without_classes(tmp_path):
  run(images.make_folder(tmp_path / "in", {"photos": 5}, ()), tmp_path / "out")
  assert (
    len(read(tmp_path / "out")) == 5
    and read(tmp_path / "out").num_classes == 0
    and read(tmp_path / "out")[0].label == -1
  )


def test_npz_file_and_pattern(tmp_path):
  for split, count in (("train", 7), ("test", 4)):
    images.make_npz(tmp_path / f"set_{split}.npz", count)
  run(tmp_path / "set_{split}.npz", tmp_path / "both")
  run(tmp_path / "set_test.npz", tmp_path / "one", split="val")
  original = images.contents(open_source("npz", str(tmp_path / "set_{split}.npz"), "test"))
  assert (
    images.contents(read(tmp_path / "both", "test"))
    == images.contents(read(tmp_path / "one", "val"))
    == original
  )
  assert len(read(tmp_path / "both")) == 7


def test_one_split_of_several(folder, tmp_path, capsys):
  run(folder, tmp_path, split="val")
  assert sorted(files(tmp_path)) == [
    "facts.json",
    "manifest.json",
    "val-00000-of-00001.array_record",
    "val.json",
  ]
  assert "--config.data.train_split=val\nThere is one split" in capsys.readouterr().out


# Parts, interruptions, other settings.


def test_parts_give_what_one_run_gives(folder, tmp_path, capsys):
  run(folder, tmp_path / "one", num_shards=3)
  run(folder, tmp_path / "parts", num_shards=3, part=(1, 2))
  assert "2 shards of other parts" not in capsys.readouterr().out.splitlines()[-1]  # four, for both splits
  with pytest.raises(BadInput, match="2 of 3 shards are missing"):
    read(tmp_path / "parts")
  run(folder, tmp_path / "parts", num_shards=3, part=(0, 2), num_threads=1)
  assert files(tmp_path / "one") == files(tmp_path / "parts")
  command = f":finetune --workdir=runs/own/finetune --config.data.path={tmp_path / 'parts'}\n"
  assert command in capsys.readouterr().out


def test_goes_on_where_it_was_killed(tmp_path):
  images.make_npz(tmp_path / "set_train.npz", 3000)
  out = tmp_path / "out"
  line, options = command(
    f"--source={tmp_path}/set_{{split}}.npz", f"--out={out}", "--shards=30", "--num_threads=1"
  )
  process = subprocess.Popen(line, stdout=subprocess.DEVNULL, **options)
  while len(list(out.glob("*.array_record"))) < 3 and process.poll() is None:
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL, "the machine was too fast for this test"
  whole = {path: path.stat().st_mtime_ns for path in out.glob("*.array_record")}
  assert 3 <= len(whole) < 30
  with pytest.raises(BadInput, match="shards are missing"):
    read(out)
  run(tmp_path / "set_{split}.npz", out, num_shards=30)
  run(tmp_path / "set_{split}.npz", tmp_path / "other", num_shards=30)
  assert files(out) == files(tmp_path / "other")
  # complete shards were not written again
  assert all(path.stat().st_mtime_ns == then for path, then in whole.items())


def test_what_was_left_or_cut_is_written_again(folder, tmp_path):
  run(folder, tmp_path, num_shards=4)
  before = files(tmp_path)
  cut = tmp_path / "train-00002-of-00004.array_record"
  cut.write_bytes(cut.read_bytes()[:-100])
  gone = tmp_path / "train-00003-of-00004.array_record"
  gone.rename(f"{gone}.999{PARTIAL}")  # the state that a killed process leaves
  run(folder, tmp_path, num_shards=4)
  assert files(tmp_path) == before


@pytest.mark.parametrize(
  "options,message",
  [
    (dict(num_shards=3), "shards (4, now 3)"),
    (dict(num_shards=4, short_side=4), "short_side (0, now 4), quality (0, now 90)"),
  ],
)
def test_other_settings_are_refused(folder, tmp_path, options, message):
  run(folder, tmp_path, num_shards=4)
  before = files(tmp_path)
  assert message in bad(folder, tmp_path, **options)
  assert files(tmp_path) == before


def test_other_images_are_refused(tmp_path):
  images.make_folder(tmp_path / "in", {"train": 12})
  run(tmp_path / "in", tmp_path / "out")
  images.make_folder(tmp_path / "in", {"train": 13})
  assert "number of images (12, now 13), files or order" in bad(tmp_path / "in", tmp_path / "out")
  (tmp_path / "in" / "train" / "ant" / "012.png").rename(tmp_path / "in" / "train" / "bee" / "012.png")
  (tmp_path / "in" / "train" / "bee" / "012.png").unlink()
  (tmp_path / "in" / "train" / "bee" / "001.png").rename(tmp_path / "in" / "train" / "bee" / "renamed.png")
  assert "prepared with other files or order;" in bad(tmp_path / "in", tmp_path / "out")


def test_a_part_with_other_settings_at_the_same_time_is_refused(folder, tmp_path, monkeypatch):
  """The second part starts after the first, before any shard exists; then the first must stop."""
  write = writing.write_split

  def second_part_starts(out, split, *rest):
    header = json.loads((tmp_path / f"{split}.json").read_text())
    (tmp_path / f"{split}.json").write_text(json.dumps(header | {"num_shards": 9}))
    write(out, split, *rest)

  monkeypatch.setattr(writing, "write_split", second_part_starts)
  assert "other shards (9, now 1)" in bad(folder, tmp_path)
  assert sorted(files(tmp_path)) == ["train.json", "val.json"]


# Shrinking.


def test_short_side(tmp_path):
  folder = tmp_path / "in" / "train"
  folder.mkdir(parents=True)
  originals = {"wide.png": (60, 40), "high.png": (30, 90), "small.png": (8, 9), "equal.png": (20, 70)}
  for i, (name, size) in enumerate(originals.items()):
    (folder / name).write_bytes(images.encode(i, size))
  run(tmp_path / "in", tmp_path / "out", short_side=20)
  source = read(tmp_path / "out")
  written = {example.name.rpartition("/")[2]: example.image for example in (source[i] for i in range(4))}
  sizes = {name: Image.open(io.BytesIO(image)).size for name, image in written.items()}
  assert sizes == {"wide.png": (30, 20), "high.png": (20, 60), "small.png": (8, 9), "equal.png": (20, 70)}
  kinds = {name: Image.open(io.BytesIO(image)).format for name, image in written.items()}
  assert kinds == {"wide.png": "JPEG", "high.png": "JPEG", "small.png": "PNG", "equal.png": "PNG"}
  assert all(written[name] == (folder / name).read_bytes() for name in ("small.png", "equal.png"))


@pytest.mark.parametrize(
  "mode,expected", [("1", "L"), ("L", "L"), ("LA", "L"), ("P", "RGB"), ("RGBA", "RGB")]
)
def test_shrinking_modes(mode, expected):
  out = io.BytesIO()
  Image.open(io.BytesIO(images.encode(0, (30, 30)))).convert(mode).save(out, "PNG")
  assert Image.open(io.BytesIO(encoding.shrink(out.getvalue(), 10, 90)[0])).mode == expected


def test_sixteen_bits_are_kept_or_named():
  out = io.BytesIO()
  Image.new("I;16", (30, 30), 40_000).save(out, "TIFF")
  assert encoding.shrink(out.getvalue(), 0, 90)[0] == out.getvalue()
  with pytest.raises(ValueError, match="without --short_side"):
    encoding.shrink(out.getvalue(), 10, 90)


# Unreadable images.


def spoil(folder) -> list[pathlib.Path]:
  """Damages images in four ways."""
  paths = [folder / "train" / "bad" / f"{i}.jpg" for i in range(4)]
  paths[0].parent.mkdir()
  whole = images.encode(0, (90, 90), "JPEG")
  for path, content in zip(paths, (b"", b"rubbish", whole[: len(whole) // 2], b""), strict=True):
    path.write_bytes(content)
  paths[3].unlink()
  paths[3].symlink_to("nowhere")
  return paths


def test_bad_images_are_named_left_out_and_counted(tmp_path, capsys):
  folder = images.make_folder(tmp_path / "in", {"train": 40})
  paths = spoil(folder)
  run(folder, tmp_path / "out", num_shards=3, max_bad_fraction=0.1)
  printed = capsys.readouterr()
  for path in paths:
    assert re.search(f"^swin_jax: left out .*train/bad/{path.name}", printed.err, re.MULTILINE)
  assert printed.err.count("\n") == 4 and "4 unreadable and left out" in printed.out
  assert len(read(tmp_path / "out")) == 40
  run(folder, tmp_path / "out", num_shards=3, max_bad_fraction=0.1)
  assert "44 images in 0.0 s, 44 existed before, 4 unreadable and left out" in capsys.readouterr().out


def test_too_many_bad_images_leave_nothing_that_looks_whole(tmp_path):
  folder = images.make_folder(tmp_path / "in", {"train": 40})
  paths = spoil(folder)
  message = "2 images of split 'train' cannot be read (named above), more than --max_bad_fraction=0.04 of 44"
  assert message in bad(folder, tmp_path / "out", num_shards=44, max_bad_fraction=0.04)
  kept = {path.name for path in (tmp_path / "out").glob("*.array_record")}
  assert kept and all(shards.count_records(str(tmp_path / "out" / name)) == 1 for name in kept)
  assert not list((tmp_path / "out").glob(f"*{PARTIAL}"))
  # running it again does not get around the limit
  assert message in bad(folder, tmp_path / "out", num_shards=44, max_bad_fraction=0.04)
  paths[3].unlink()
  for path in paths:
    path.write_bytes(images.encode(0))
  run(folder, tmp_path / "out", num_shards=44)
  assert len(read(tmp_path / "out")) == 44


# Every bad input gives a one-line message.


def test_bad_sources(folder, tmp_path):
  out = tmp_path / "out"
  assert "has no 'none'" in bad(tmp_path / "none", out)
  assert "has no split 'test'; it has train, val" in bad(folder, out, split="test")
  assert "leave out --hold_out, or choose one split by --split" in bad(folder, out, hold_out=0.1)
  assert "--hold_out=0.01 of 40 images is 0" in bad(folder / "train", out, hold_out=0.01)
  (tmp_path / "empty").mkdir()
  assert "holds no image" in bad(tmp_path / "empty", out)
  (tmp_path / "text.txt").write_text("text")
  assert "is neither a folder, a zip or tar file, nor an image" in bad(tmp_path / "text.txt", out)
  assert "no file matches" in bad(tmp_path / "{split}.npz", out)
  assert "tfds" in bad("tfds:nosuchset", out)
  assert "is inside the source" in bad(folder, folder / "train" / "prepared")
  assert not out.exists()
  assert "cannot be written: " in bad(folder, tmp_path / "text.txt" / "out")


@pytest.mark.parametrize("part", ["", "1", "1/1", "2/1", "a/b", "-1/2", "0/0"])
def test_bad_parts(part):
  with pytest.raises(BadInput, match="is not i/n"):
    prepare.parse_part(part)


@pytest.mark.parametrize(
  "arguments,message",
  [
    (["--sorce=x"], "--sorce is unknown; did you mean --source?"),
    (["--source=x"], "--out is missing; for example --out=data/prepared"),
    (["--source=x", "--out=y", "z"], "unexpected 'z': only SOURCE and FOLDER are words"),
    (
      ["--source=x", "--out=y", "--quality=200"],
      "--quality: '200' must be at least 1 and at most 95",
    ),
    (["--source=nowhere", "--out=y"], "nowhere does not exist"),
  ],
)
def test_bad_commands_end_with_one_line_and_2(arguments, message):
  line, options = command(*arguments, capture_output=True)
  result = subprocess.run(line, check=False, **options)
  assert result.returncode == 2 and result.stderr.startswith("swin_jax: ") and result.stderr.count("\n") == 1
  assert message in result.stderr


def test_command(folder, tmp_path):
  line, options = command(
    f"--source={folder}", f"--out={tmp_path / 'out'}", "--part=0/1", capture_output=True
  )
  result = subprocess.run(line, check=True, **options)
  assert (
    result.stdout.startswith("train  40 images in ")
    and f"--config.data.path={tmp_path / 'out'}\n" in result.stdout
  )
  assert not result.stderr and len(read(tmp_path / "out", "val")) == 10
  help_line, options = command("--help", capture_output=True)
  result = subprocess.run(help_line, check=True, **options)
  assert "Converts an image set to ArrayRecord shards" in result.stdout and "--hold_out" in result.stdout


def test_progress_says_rate_and_time_left(folder, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
  run(folder, tmp_path)
  assert re.search(r"^train  20/40  [\d,]+ images/s  \d:\d\d left$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_a_fault(folder, tmp_path, monkeypatch, capsys):
  open_writer = shards.open_writer
  with monkeypatch.context() as patch:
    patch.setattr(shards, "open_writer", lambda path: open_writer("/dev/full"))
    assert main(f"--source={folder}", f"--out={tmp_path}") == cli.FAULT
  assert capsys.readouterr().err == (
    f"swin_jax: {tmp_path} cannot be written: no space left on the disk; once that is solved, the same"
    " command continues\n"
  )
  assert sorted(files(tmp_path)) == ["train.json", "val.json"]
  assert main(f"--source={folder}", f"--out={tmp_path}") == 0


def test_real_zip(tmp_path):
  run(images.real_data("imagenet1k_sample/imagenet1k_sample_256.zip"), tmp_path, short_side=32, hold_out=0.1)
  assert [len(read(tmp_path)), len(read(tmp_path, "val"))] == [900, 100]
