"""No folder of cases is without a test of its name."""

import re

import pytest

from tests.support.paths import CASES, ROOT


@pytest.mark.skipif(not CASES.exists(), reason="the folders of cases lie next to the checkout")
def test_every_folder_has_a_test():
  text = "".join(path.read_text() for path in (ROOT / "tests" / "cases").glob("test_*.py"))
  copied = set(re.findall(r'cases\.copy\("([^"]+)"', text))
  names = {path.name for path in CASES.iterdir() if path.is_dir()}
  assert names == copied
  tests = {f"test_{name.replace('-', '_')}(" for name in names if name[:2].isdigit()}
  # 24-import-messages has one test for each kind of file
  assert all(test in text for test in tests)
