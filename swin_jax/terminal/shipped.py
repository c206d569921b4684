"""The configs that ship with this package, by name: `swin_jax.configs` where it is installed, `configs/` in a
clone.
"""

import importlib
import importlib.util
import pathlib
import sys
import textwrap
from types import ModuleType

PACKAGE = "swin_jax.configs"
_PARTS = ("__init__", "common", "kinds", "recipes", "sizes")  # modules that the configs share
_WIDTH = 110
_ROOT = pathlib.Path(__file__).parent.parent


def in_clone() -> bool:
  """Returns whether this code is a clone, and not an installed package."""
  return not (_ROOT / "configs").is_dir()


def folder() -> pathlib.Path:
  """Returns the folder of the configs."""
  return (_ROOT.parent if in_clone() else _ROOT) / "configs"


def names() -> list[str]:
  """Returns the names of the configs."""
  return sorted(path.stem for path in folder().glob("*.py") if path.stem not in _PARTS)


def path_of(name: str) -> str:
  """Returns the path of a config."""
  return str(folder() / f"{name}.py")


def module(name: str) -> ModuleType:
  """Returns the module of a config, or of what they share."""
  provide()
  return importlib.import_module(f"{PACKAGE}.{name}")


def provide() -> None:
  """Makes `swin_jax.configs` importable in a clone too, where the folder is not inside the package."""
  if PACKAGE in sys.modules or importlib.util.find_spec(PACKAGE):
    return
  place = folder()
  spec = importlib.util.spec_from_file_location(
    PACKAGE, place / "__init__.py", submodule_search_locations=[str(place)]
  )
  sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(sys.modules[PACKAGE])


def kinds(name: str) -> tuple[str, ...]:
  """Returns the kinds of run of a config: the default first, "" for one that needs no name.

  A file that a user has put into the folder of a clone may have none, or fail: it counts as one unnamed kind.
  """
  try:
    module(name).get_config("?")
  except Exception as error:
    return getattr(error, "kinds", ("",))
  return ("",)


def _summary(name: str) -> str:
  try:
    return " ".join((module(name).__doc__ or "").partition("\n\n")[0].split())
  except Exception:  # as above
    return ""


def described() -> list[str]:
  """Returns the lines that list the configs, their kinds of run and what they are."""
  lines = ["configs that ship with swin_jax, and their kinds of run; NAME alone takes the first kind:"]
  for name in names():
    every = kinds(name)
    words = [f":{kind}" for kind in every if kind and not kind.endswith("cpu")]
    smaller = "; also with ,cpu" if "cpu" in every else ""
    lines.append("  " + " ".join([name, *words]) + smaller)
    lines += textwrap.wrap(_summary(name), _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
  return lines
