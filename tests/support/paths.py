"""Paths of the checkout and of the files next to it."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
_SHARED = ROOT.parent / "shared"
DATA = pathlib.Path(os.environ.get("SWIN_JAX_DATA") or _SHARED / "data")
FAULTS = _SHARED / "cases" / "faults"  # lists of wrong values
# The small golden files are in the repository, the large ones next to it.
SMALL_GOLDEN = ROOT / "tests" / "golden"
GOLDEN = pathlib.Path(os.environ.get("SWIN_JAX_GOLDEN") or _SHARED / "golden")
