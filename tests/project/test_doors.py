"""Files from strangers come in, and text goes out to the terminal, through one function each."""

import ast

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "swin_jax"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
# Call → the files that may make it.
DOORS = {
  "rasterio.open": {"data/read/gdal.py"},
  "rasterio.MemoryFile": {"data/read/gdal.py"},
  "Image.open": {"data/read/formats.py"},
  "np.load": {"data/read/array_files.py"},
  "zlib.decompress": {"run/compilation.py"},  # its own cache
  "zipfile.ZipFile": {"data/read/trees.py", "data/prepare/raster_sources.py", "saved/file_kinds.py"},
  # the last belongs to an exported model, which works without this package
  "print": {"terminal/progress.py", "export/loader.py"},
  **{f"logging.{level}": set() for level in ("info", "warning", "error", "exception", "log")},
}


def doors(text):
  """Returns the calls in a module that are keys of `DOORS`."""
  calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
  return {name for name in map(lambda call: ast.unparse(call.func), calls) if name in DOORS}


@pytest.mark.parametrize("file", FILES)
def test_every_path_goes_through_one_function(file):
  assert not [name for name in doors((PACKAGE / file).read_text()) if file not in DOORS[name]]


def test_each_rule_sees_what_it_forbids():
  assert doors("with rasterio.open(x) as y: print(np.load(z))") == {"rasterio.open", "print", "np.load"}
  assert doors("logging.warning('%s', x)") == {"logging.warning"}
  assert not doors("say(formats.open_image(x))")


def test_exceptions_are_still_needed():
  for name, files in DOORS.items():
    for file in files:
      assert name in doors((PACKAGE / file).read_text()), (name, file)
