"""Paths of the checkout and of the files next to it."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
_SHARED = ROOT.parent / "shared"
DATA = pathlib.Path(os.environ.get("SWIN_JAX_DATA") or _SHARED / "data")
CASES = _SHARED / "cases"  # small sets and files that were misread
FAULTS = CASES / "faults"  # lists of wrong values, and files that mean harm
# The small golden files are in the repository, the large ones next to it.
SMALL_GOLDEN = ROOT / "tests" / "golden"
GOLDEN = pathlib.Path(os.environ.get("SWIN_JAX_GOLDEN") or _SHARED / "golden")
