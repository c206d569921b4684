"""Every flag of prepare with wrong and unusual values: refused in one line, or legitimate with a reason."""

import math
import shutil

import pytest

from swin_jax.data.read import limits
from tests.support import attacks, images, prepared

OUT = "--out=dst"
OTHERS = ("facts", "manifest", "statistics")  # JSON files of a set that are not of a split
IMAGES, TRAIN, RASTERS = "--source=imgs", "--source=imgs/train", "--source=rasters"


@pytest.fixture(scope="module", name="sets")
def _sets(tmp_path_factory):
  """Returns a folder with a set of images of two splits and a set of rasters."""
  root = tmp_path_factory.mktemp("sets")
  images.make_folder(root / "imgs", {"train": 6, "val": 2})
  for i in range(2):
    attacks.good_raster(root / "rasters" / f"{i}.tif", i)
  return root


@pytest.fixture(name="prepare")
def _prepare(sets, tmp_path, monkeypatch, capsys):
  """Returns a function that runs the command next to the sets: words → (exit code, what stderr says)."""
  for name in ("imgs", "rasters"):
    (tmp_path / name).symlink_to(sets / name)
  monkeypatch.chdir(tmp_path)

  def prepare(*words):
    code = prepared.main(*words)
    return code, capsys.readouterr().err

  return prepare


REFUSED = [
  ([], "--out is missing"),
  ([IMAGES], "--out is missing"),
  ([OUT], "--source is missing"),
  (["--source=/nonexistent", OUT], "does not exist"),
  (["--source=/etc/passwd", OUT], "is neither a folder, a zip or tar file, nor an image"),
  (["--source=/dev/null", OUT], "is not a plain file"),
  ([IMAGES, "--out=imgs/out"], "is inside the source"),
  ([IMAGES, "--out=imgs"], "is the source"),
  (["--source=imgs/../imgs/.", "--out=imgs/"], "is the source"),
  ([IMAGES, "--out=/proc/x"], "cannot be written"),
  ([IMAGES, "--out=/etc/passwd"], "cannot be written"),
  ([IMAGES, OUT, "--split=foo"], "has no split 'foo'; it has train, val"),
  ([IMAGES, OUT, "--split=../train"], "a split cannot be called '../train'"),
  ([TRAIN, OUT, "--split=../../evil"], "a split cannot be called '../../evil'"),
  ([TRAIN, OUT, "--split=/tmp/evil"], "a split cannot be called"),
  ([TRAIN, OUT, "--split=a/b"], "a split cannot be called 'a/b'"),
  ([TRAIN, OUT, "--split=.."], "a split cannot be called"),
  ([TRAIN, OUT, "--split=.hidden"], "a split cannot be called"),
  ([TRAIN, OUT, "--split=a\nb"], "a split cannot be called"),
  ([TRAIN, OUT, "--split=a*"], "a split cannot be called"),
  ([TRAIN, OUT, "--split=" + "a" * 300], "a split cannot be called"),
  ([TRAIN, OUT, "--split=statistics"], "not statistics, facts or manifest"),
  ([TRAIN, OUT, "--hold_out=nan"], "--hold_out: 'nan' must be at least 0 and at most 0.9"),
  ([TRAIN, OUT, "--hold_out=-0.1"], "--hold_out: '-0.1' must be"),
  ([TRAIN, OUT, "--hold_out=0.0001"], "each split needs at least one"),
  ([TRAIN, OUT, "--hold_out=1"], "--hold_out: '1' must be"),
  ([IMAGES, OUT, "--hold_out=0.1"], "leave out --hold_out, or choose one split by --split"),
  ([IMAGES, OUT, "--short_side=-1"], "--short_side: '-1' must be 0, or at least 8 and at most 65,500"),
  ([IMAGES, OUT, "--short_side=1"], "--short_side: '1' must be"),
  ([IMAGES, OUT, "--short_side=99999999999"], "--short_side: '99999999999' must be"),
  ([IMAGES, OUT, "--short_side=nan"], "--short_side: 'nan' must be"),
  ([IMAGES, OUT, "--quality=0"], "--quality: '0' must be"),
  ([IMAGES, OUT, "--quality=80"], "--quality applies to images that --short_side shrinks"),
  ([RASTERS, OUT, "--tile=16", "--short_side=16"], "--short_side applies to images"),
  ([IMAGES, OUT, "--quality=100"], "--quality: '100' must be at least 1 and at most 95"),
  ([IMAGES, OUT, "--shards=-1"], "--shards: '-1' must be"),
  ([IMAGES, OUT, "--shards=1000000000"], "--shards: '1000000000' must be at least 0 and at most 99,999"),
  ([IMAGES, OUT, "--part=0/0"], "is not i/n"),
  ([IMAGES, OUT, "--part=8/8"], "is not i/n"),
  ([IMAGES, OUT, "--part=-1/8"], "is not i/n"),
  ([IMAGES, OUT, "--part=0/999999999999"], "n of at most 99,999"),
  ([IMAGES, OUT, "--part=0/" + "9" * 5000], "is not i/n"),
  ([IMAGES, OUT, "--part=foo"], "is not i/n"),
  ([IMAGES, OUT, "--part="], "is not i/n"),
  ([IMAGES, OUT, "--part=0/٨"], "is not i/n"),
  (
    [IMAGES, OUT, "--max_bad_fraction=nan"],
    "--max_bad_fraction: 'nan' must be",
  ),
  ([IMAGES, OUT, "--max_bad_fraction=2"], "--max_bad_fraction: '2' must be"),
  ([IMAGES, OUT, "--max_pixels=0"], "--max_pixels: '0' must be"),
  ([IMAGES, OUT, "--max_pixels=inf"], "--max_pixels: 'inf' must be"),
  ([IMAGES, OUT, "--max_pixels=79", "--max_bad_fraction=0.5"], "cannot be read (named above)"),
  ([IMAGES, OUT, "--tile=-5"], "--tile: '-5' must be"),
  ([IMAGES, OUT, "--nodata=16"], "--tile, --nodata, --array and --keep_alpha apply to rasters"),
  ([RASTERS, OUT, "--tile=-5"], "--tile: '-5' must be"),
  ([RASTERS, OUT, "--tile=1"], "--tile: '1' must be 0, or at least 8 and at most 65,536"),
  ([RASTERS, OUT, "--tile=1000000"], "--tile: '1000000' must be"),
  ([RASTERS, OUT, "--nodata=nan"], "--nodata: 'nan' must be a finite number"),
  ([RASTERS, OUT, "--nodata=inf"], "--nodata: 'inf' must be"),
  ([RASTERS, OUT, "--nodata=abc"], "--nodata: 'abc' must be"),
  ([RASTERS, OUT, "--array=foo"], "--array=foo chooses an array of .npz files; rasters holds none"),
  ([RASTERS, OUT, "--values_nodata=0"], "--values_nodata applies to maps of numbers"),
  ([RASTERS, OUT, "--values_nodata=nan"], "--values_nodata: 'nan' must be"),
  ([IMAGES, OUT, "--num_threads=0"], "--num_threads: '0' must be"),
  ([IMAGES, OUT, "--num_threads=100000"], "--num_threads: '100000' must be at least 1 and at most 1,024"),
  ([IMAGES, OUT, "--foo=1"], "--foo is unknown"),
  ([IMAGES, OUT, "extra"], "unexpected 'extra': only SOURCE and FOLDER are words"),
  (["--source=tfds:", OUT], "is not a name like"),
  (["--source=tfds:nonexistent_set", OUT], "has no data set"),
  (["--source=tfds:../../etc", OUT], "is not a name like"),
  (["--source=tfds:mnist/../../etc", OUT], "is not a name like"),
  (["--source={split}", OUT], "cannot be read as an npz file"),
  (["--source={split}/{split}.npz", OUT], "does not exist"),
  (["--source=imgs/*.jpg", OUT], "does not exist"),
  (["--source=hf://a/b", OUT], "is an address"),
  (["--source=s3://bucket/x", OUT], "mount the bucket"),
  ([IMAGES, "--out=gs://bucket/x"], "mount the bucket"),
  (["--source=/vsicurl/http://127.0.0.1/x.tif", OUT, "--tile=32"], "does not exist"),
  (["--source=/vsizip/vrt/z.zip/raw.tif", OUT, "--tile=32"], "does not exist"),
]

LEGITIMATE = [
  # the plain command
  ([IMAGES, OUT], "dst"),
  # any name that a file system allows
  ([IMAGES, "--out=dst/a%20b[0:3]"], "dst/a%20b[0:3]"),
  # 0 is the default, rasters stay whole
  ([RASTERS, OUT, "--tile=0", "--nodata=-1e30"], "dst"),
  # more shards than images are as many as images
  ([IMAGES, OUT, "--shards=99999"], "dst"),
  # a part of more parts than shards writes nothing or little, as in a job array of fixed size
  ([IMAGES, OUT, "--part=0/99999"], "dst"),
  ([IMAGES, OUT, "--short_side=8", "--quality=1"], "dst"),
  ([IMAGES, OUT, "--max_pixels=80", "--num_threads=1024"], "dst"),
  ([TRAIN, OUT, "--split=my photos-2.b+c", "--max_bad_fraction=1"], "dst"),
  ([TRAIN, OUT, "--split=文", "--hold_out=0.5"], "dst"),
]


@pytest.mark.parametrize("words, message", REFUSED)
def test_refused(words, message, prepare, tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
  before = {path for path in tmp_path.rglob("*") if path.parts[len(tmp_path.parts)] != "dst"}
  code, error = prepare(*words)
  last = error.splitlines()[-1]
  assert code == 2 and message in last and last.startswith("swin_jax: "), error
  assert len(error.splitlines()) == 1 or "named above" in last
  after = {path for path in tmp_path.rglob("*") if path.parts[len(tmp_path.parts)] != "dst"}
  assert before == after
  assert not list(tmp_path.glob("dst/*.array_record"))


@pytest.mark.parametrize("words, out", LEGITIMATE)
def test_legitimate(words, out, prepare, tmp_path):
  code, error = prepare(*words)
  assert code == 0 and not error
  split = next(path.stem for path in sorted((tmp_path / out).glob("*.json")) if path.stem not in OTHERS)
  assert len(prepared.read(tmp_path / out, split)) > 0


def test_a_limit_on_pixels_holds_for_the_command_alone(prepare):
  assert prepare(IMAGES, OUT, "--max_pixels=80")[0] == 0
  assert limits.pixels() == limits.MAX_PIXELS


def test_images_that_training_cannot_read_are_shrunk_or_refused(prepare, monkeypatch, tmp_path):
  monkeypatch.setattr(limits, "MAX_PIXELS", 79)  # of training; the images have 80
  code, error = prepare(IMAGES, OUT, "--max_pixels=100")
  assert code == 2 and "has 80 pixels, more than training reads; give --short_side" in error
  monkeypatch.setattr(limits, "MAX_PIXELS", math.prod((32, 32)) // 8)
  code, error = prepare(RASTERS, OUT, "--max_pixels=2000", "--nodata=300")
  assert code == 2 and "holds 1,024 numbers, more than training reads at once; give --tile" in error
  shutil.rmtree(tmp_path / "dst", ignore_errors=True)
  assert prepare(RASTERS, OUT, "--max_pixels=2000", "--tile=8")[0] == 0


@pytest.mark.parametrize("words, missing", [((OUT, "--source="), "--source"), (("--verify=",), "--verify")])
def test_empty_values_do_not_choose_another_operation(prepare, words, missing):
  assert prepare(IMAGES, OUT)[0] == 0
  code, error = prepare(*words)
  assert code == 2 and f"{missing} is missing" in error


@pytest.mark.parametrize(
  "word", ["--nodata=3", "--short_side=20", "--part=0/2", "--split=bogus", "--tile=64"]
)
def test_statistics_alone_refuse_flags_that_they_would_ignore(prepare, word):
  assert prepare(IMAGES, OUT)[0] == 0
  code, error = prepare(OUT, word)
  assert code == 2 and f"{word} would be ignored; leave it out, or give --source" in error
  assert prepare(OUT, "--num_threads=1") == (0, "")
