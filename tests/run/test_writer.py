"""What writes the output of a run loads no other framework."""

import importlib.util
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

WRITE = """
import sys
from swin_jax.run.writer import Writer
Writer(sys.argv[1], 0, True).scalars(1, {"train/loss": 1.0})
assert "tensorboardX" in sys.modules
assert not {"torch", "tensorflow"} & set(sys.modules), "a framework was loaded"
"""


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
def test_events_are_written_without_torch(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert len(list((tmp_path / "tensorboard").iterdir())) == 1
