"""Folders of small sets that were misread: each has a README that says how, and lies next to the checkout."""

import pathlib
import shutil

import pytest

from tests.support.paths import CASES


def copy(name: str, tmp_path: pathlib.Path) -> pathlib.Path:
  """Copies the files of a folder, which may be read-only; skips the test where the folder is absent."""
  if not (CASES / name).is_dir():
    pytest.skip(f"no {CASES / name}: the folders of cases lie next to the checkout")
  target = tmp_path / name
  for path in (CASES / name).rglob("*"):
    if path.is_file():
      (to := target / path.relative_to(CASES / name)).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(path, to)
  return target
