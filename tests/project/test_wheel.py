"""The wheel outside the clone: its files, its commands, and its imports with the packages of the core alone.

`.ci/run` trains with it in an environment of its own.
"""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.support.paths import ROOT

# What the core does without; the tests' environment has it.
ABSENT = ("rasterio", "sklearn", "tensorflow_datasets", "torch", "configs", "tests")
START = f"""
import importlib
import pkgutil
import sys

class Absent:
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in {ABSENT}:
      raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
if sys.argv[1:] == ["--import"]:
  import swin_jax
  names = [module.name for module in pkgutil.walk_packages(swin_jax.__path__, "swin_jax.")]
  print(len([*map(importlib.import_module, names)]))
else:
  from swin_jax.__main__ import run
  run()
"""


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory):
  """The wheel, built offline from a copy of the files that it is made of."""
  copy = tmp_path_factory.mktemp("copy")
  for name in ("swin_jax", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
    subprocess.run(["cp", "-r", str(ROOT / name), str(copy)], check=True)
  build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(copy)]
  subprocess.run([*build, str(copy)], check=True, timeout=300, capture_output=True)
  (path,) = copy.glob("*.whl")
  return path


@pytest.fixture(name="swin_jax", scope="module")
def _swin_jax(wheel, tmp_path_factory):
  """A function that runs the program from the unpacked wheel, in a folder outside the clone."""
  site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("outside")
  with zipfile.ZipFile(wheel) as file:
    file.extractall(site)
  (site / "start.py").write_text(START)
  env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

  def run(*words):
    done = subprocess.run(
      [sys.executable, str(site / "start.py"), *words],
      cwd=folder,
      env=env,
      capture_output=True,
      text=True,
      timeout=300,
    )
    return done.returncode, done.stdout, done.stderr

  run.folder = folder
  return run


def test_it_holds_the_configs_the_digits_and_nothing_beside_the_package(wheel):
  with zipfile.ZipFile(wheel) as file:
    names = file.namelist()
    (entry_points,) = (file.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    (licence,) = (
      file.read(name).decode() for name in names if name.endswith("licenses/swin_jax/data/read/digits.txt")
    )
  assert {name.split("/")[0] for name in names} == {"swin_jax", "swin_jax-0.1.0.dist-info"}
  for folder, place in (("swin_jax", "swin_jax"), ("configs", "swin_jax/configs")):
    files = {f"{place}/{path.relative_to(ROOT / folder)}" for path in (ROOT / folder).rglob("*.py")}
    assert files <= {*names}
  assert {"swin_jax/py.typed", "swin_jax/data/read/digits.csv.gz", "swin_jax/data/read/digits.txt"} <= {
    *names
  }
  assert "swin_jax = swin_jax.__main__:run" in entry_points and "CC BY 4.0" in licence


def test_a_mistyped_config_is_refused_with_the_nearest(swin_jax):
  code, _, line = swin_jax("train", "--config=configs/quickstart.py:pretrain", "--workdir=w")
  assert code == 2 and "did you mean --config=quickstart:pretrain?" in line and line.count("\n") == 1


@pytest.mark.parametrize(
  "words, extra",
  [
    (("prepare", "scene.tif", "out", "--tile=16"), "rasters"),
    (("prepare", "--source=tfds:mnist", "--out=out"), "tfds"),
  ],
)
def test_what_the_core_lacks_is_named_with_its_extra(swin_jax, words, extra):
  (swin_jax.folder / "scene.tif").write_bytes(b"II*\0" + bytes(60))
  code, _, line = swin_jax(*words)
  assert code == 2 and f"pip install 'swin_jax[{extra}]'" in line and line.count("\n") == 1
  assert not (swin_jax.folder / "out").exists()


def test_every_module_is_imported_with_the_packages_of_the_core(swin_jax):
  code, out, error = swin_jax("--import")
  assert code == 0, error
  assert int(out) > 150
