"""No file grows beyond what one purpose needs."""

import pytest

from tests.support.paths import ROOT

LIMIT = 300  # lines
FILES = sorted(path for package in ("swin_jax", "configs") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_has_one_purpose(path):
  assert len(path.read_text().splitlines()) <= LIMIT
