"""Configs are found by name, as `configs` in a clone and as `swin_jax.configs` in the installed package."""

import importlib
import pathlib
import shutil
import subprocess
import sys
import types

import pytest

from swin_jax.terminal import cli, shipped, user_config
from swin_jax.terminal.errors import BadInput
from tests.support.paths import ROOT


@pytest.fixture(name="elsewhere")
def _elsewhere(tmp_path, monkeypatch):
  """A working directory without configs."""
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_a_name_is_the_file_in_a_clone(elsewhere):
  for kind in ("pretrain", "finetune"):
    by_name = user_config.load(f"quickstart:{kind}")
    assert by_name.to_dict() == user_config.load(f"{ROOT}/configs/quickstart.py:{kind}").to_dict()
  assert user_config.load("quickstart").task == "masked_pixels"
  (elsewhere / "quickstart").mkdir()  # a folder of that name is no config
  assert user_config.load("quickstart").task == "masked_pixels"


@pytest.mark.parametrize("name", shipped.names())
def test_every_config_loads_under_both_names(name):
  """The names belong to two copies of the modules, which must be the same files."""
  first, second = (importlib.import_module(f"{package}.{name}") for package in ("configs", shipped.PACKAGE))
  assert first is not second and first.common is not second.common
  assert pathlib.Path(first.__file__).samefile(second.__file__)
  for kind in shipped.kinds(name):
    assert first.get_config(kind).to_dict() == second.get_config(kind).to_dict()


@pytest.mark.parametrize("package", ["swin_jax.configs", "configs"])
def test_a_config_of_ones_own_imports_the_shipped_ones(elsewhere, monkeypatch, package):
  monkeypatch.syspath_prepend(ROOT)
  text = (
    f"from {package} import common\ndef get_config(arg=None):\n  c = common.base()\n  c.seed = 7\n  return c"
  )
  (elsewhere / "own.py").write_text(text)
  assert user_config.load("own.py").seed == 7


def test_a_copy_of_a_shipped_config_works_elsewhere(elsewhere):
  shutil.copy(shipped.path_of("own_labels"), elsewhere / "mine.py")
  assert user_config.load("mine.py:regress").task == "pixel_regression"


def test_without_a_clone_the_message_names_the_package_to_import(elsewhere):
  (elsewhere / "own.py").write_text("from configs import common\n")
  code = "import sys; from swin_jax.terminal import user_config; user_config.load('own.py')"
  code = f"import sys; sys.path = [p for p in sys.path if p != {str(ROOT)!r}]; {code}"
  code = f"import sys; sys.path.append({str(ROOT)!r}); import swin_jax; sys.path.pop(); {code}"
  done = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True)
  assert "import from swin_jax.configs, which works everywhere (line 1)" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
  "name, advice",
  [
    (
      "quickstrat:pretrain",
      "--config=quickstrat: no such file or config; did you mean --config=quickstart:pret",
    ),
    ("configs/quickstart.py:finetune", "did you mean --config=quickstart:finetune?"),
    ("quickstart.py", "did you mean --config=quickstart?"),
    ("swinv2_tiny_w8_265", "did you mean --config=swinv2_tiny_w8_256?"),
    ("zzz", "--help lists the configs"),
    ("recipes", "--config=recipes: no such file or config"),
  ],
)
def test_a_mistyped_name_is_refused_with_the_nearest(elsewhere, name, advice):
  with pytest.raises(BadInput) as error:
    user_config.load(name)
  assert advice in str(error.value)


def test_help_lists_every_config_with_its_kinds(capsys):
  with pytest.raises(SystemExit) as ended:
    cli.ConfigParser(prog="command").parse_args(["--help"])
  assert not ended.value.code
  listed = capsys.readouterr().out.splitlines()
  assert "  quickstart :pretrain :finetune" in listed
  assert "  own_rasters :pretrain :finetune :segment :regress :from_public; also with ,cpu" in listed
  assert [line.split()[0] for line in listed if line.startswith("  ") and line[2:3].strip("- ")][
    -len(shipped.names()) :
  ] == shipped.names()


@pytest.mark.parametrize(
  "text", ["def get_config():\n  return None", "def get_config(arg=None):\n  return arg", "1 +"]
)
def test_help_lists_a_file_of_the_users_in_the_folder_too(monkeypatch, text):
  def module(name):
    made = types.ModuleType(name)
    exec(text, vars(made))
    return made

  monkeypatch.setattr(shipped, "names", lambda: ["mine"])
  monkeypatch.setattr(shipped, "module", module)
  assert shipped.described()[1:] == ["  mine"]
