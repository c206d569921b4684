"""Libraries print no banners."""

import importlib.util
import subprocess
import sys

import pytest

from swin_jax.terminal import quiet
from tests.support.paths import ROOT

DEVICES = "from swin_jax.terminal import quiet; {}; import jax; jax.devices()"


def banner(silenced):
  """Returns what jax prints while it looks for devices, in an environment of its own."""
  code = DEVICES.format("quiet.libraries()" if silenced else "pass")
  # without the lock, with which a second process gets no banner
  environment = {"PATH": "/usr/bin", "HOME": "/nowhere", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment
  )
  assert done.returncode == 0, done.stderr
  return done.stderr


def test_looking_for_devices_prints_nothing():
  assert banner(silenced=True) == ""


@pytest.mark.skipif(
  not importlib.util.find_spec("libtpu") or quiet.has_tpu(), reason="libtpu is missing, or has its TPU"
)
def test_libtpu_would_print_a_banner():
  assert "TPU" in banner(silenced=False)


def test_what_the_user_sets_stays(monkeypatch):
  monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
  quiet.libraries()
  assert quiet.os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
