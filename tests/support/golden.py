"""Golden files: outputs of the official code, timm and transformers."""

import pathlib

import pytest

from tests.support.paths import GOLDEN, SMALL_GOLDEN


def golden(name: str) -> pathlib.Path:
  """Returns the path of a golden file; skips the test where the file is absent."""
  folder = next((folder for folder in (SMALL_GOLDEN, GOLDEN) if (folder / name).exists()), None)
  if folder is None:
    pytest.skip(
      f"golden file {name} of the official code is not in {GOLDEN}; SWIN_JAX_GOLDEN says where it is"
    )
  return folder / name
