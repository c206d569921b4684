"""Image files from strangers: their content decides the format, and only formats that decode pixels open."""

import io
import logging
import os
import subprocess
import sys
from unittest import mock

import numpy as np
from PIL import EpsImagePlugin, Image
import pytest

from swin_jax.data.feed import workers
from swin_jax.data.read import formats, image_ops, labels, limits
from tests.support import attacks, images, prepared
from tests.support.paths import ROOT
from tests.support.rasters import scene, write_tif

# A drawing that Ghostscript, a programming language, would draw.
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 moveto\n%%EOF\n"


def saved(kind: str, **options) -> bytes:
  out = io.BytesIO()
  Image.fromarray(np.full((8, 6, 3), 90, np.uint8)).save(out, kind, **options)
  return out.getvalue()


@pytest.fixture(name="ghostscript")
def _ghostscript(monkeypatch):
  """Counts the starts of Ghostscript."""
  starts = []

  def start(*args, **kwargs):
    starts.append(args)
    raise OSError("started")

  monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
  return starts


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "PPM", "WEBP", "GIF", "JPEG2000", "AVIF"])
def test_allowed_formats_open_under_any_name(kind):
  if kind == "AVIF" and "AVIF" not in Image.SAVE:
    Image.init()
  encoded = saved(kind)
  with formats.open_image(encoded) as image:
    assert image.size == (6, 8) and image.format == kind
  assert image_ops.decode(encoded, 3).shape == (8, 6, 3)


@pytest.mark.parametrize("kind", ["PCX", "TGA", "PDF", "ICO", "SGI"])
def test_other_formats_do_not(kind):
  with pytest.raises(ValueError, match="none of the formats JPEG, PNG, TIFF"):
    formats.open_image(saved(kind))


def test_a_drawing_named_like_a_photograph_starts_no_program(tmp_path, capsys, ghostscript):
  with Image.open(io.BytesIO(EPS)) as image, pytest.raises(OSError, match="started"):
    image.load()  # what would happen
  assert ghostscript.pop()
  folder = images.make_folder(tmp_path / "set", {"train": 3})
  (folder / "train" / "ant" / "x.jpg").write_bytes(EPS)
  for source in (folder, attacks.zipped(folder)):
    out = tmp_path / source.name
    out = out.with_name(f"out-{source.suffix}")
    for side in (0, 8):
      words = f"--source={source}", f"--out={out}-{side}", f"--short_side={side}", "--max_bad_fraction=0.5"
      assert prepared.main(*words) == 0
      assert "left out" in (error := capsys.readouterr().err) and "x.jpg: it has none of the formats" in error
      assert len(attacks.records(out.with_name(f"{out.name}-{side}"))) == 3
  for decode in (lambda: image_ops.decode(EPS, 3), lambda: labels.decode(EPS)):
    with pytest.raises(ValueError, match="it has none of the formats"):
      decode()
  assert not ghostscript


def test_pixels_are_counted_in_the_header(monkeypatch):
  monkeypatch.setattr(limits, "_pixels", 47)
  for kind in ("JPEG", "PNG"):
    for read in (formats.open_image, lambda encoded: image_ops.decode(encoded, 3)):
      with pytest.raises(ValueError, match="has 8 × 6 pixels, more than 47"):
        read(saved(kind))
  monkeypatch.setattr(limits, "_pixels", 48)
  assert image_ops.decode(saved("JPEG"), 3).shape == (8, 6, 3)


def test_a_pipe_is_no_image(tmp_path):
  os.mkfifo(tmp_path / "x.png")
  with pytest.raises(ValueError, match="is not a plain file"):
    formats.open_image(str(tmp_path / "x.png"))


def test_a_program_that_reads_images_keeps_the_log_of_pillow():
  code = (
    "import logging; from swin_jax.data.read import formats; formats._allowed();"
    "print(logging.getLogger('PIL').level, logging.getLogger('PIL.x').isEnabledFor(logging.WARNING))"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
  assert done.stdout == "0 True\n"


def test_a_worker_that_reads_images_has_no_log_of_pillow(monkeypatch):
  logger = logging.getLogger("PIL")
  monkeypatch.setattr(logger, "level", logging.NOTSET)
  monkeypatch.setattr(workers, "threading", mock.Mock())  # or this process would end with its parent
  monkeypatch.setattr(workers.exchange, "name_shared_memory", lambda token: None)
  workers._begin("token", 0, 1)
  assert logger.level == logging.CRITICAL


def test_what_pillow_logs_does_not_reach_the_user(tmp_path):
  """Rasters of many bands are tried as images first; in another process, as pytest catches what is logged."""
  for name in "ab":
    write_tif(tmp_path / "in" / name / "x.tif", scene(bands=13, dtype=np.uint16))
  command = [sys.executable, "-m", "swin_jax.data.prepare", tmp_path / "in", tmp_path / "out"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0 and not done.stderr
