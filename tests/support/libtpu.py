"""The marker for tests that compile for a TPU."""

import importlib.util

import pytest

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="compiling for a TPU needs libtpu: pip install -e '.[plan]'",
)
