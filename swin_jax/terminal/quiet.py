"""Keeps the banners of libraries out of the output of a command."""

import glob
import importlib.util
import logging
import os

# What libtpu otherwise asks a metadata server for, and complains about; any values do without a TPU.
WITHOUT_TPU = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-16",
  "TPU_MIN_LOG_LEVEL": "3",
}


def libraries() -> None:
  """Silences what XLA, its plugins and Pillow log. Their errors are exceptions too. Call it before importing
  jax.
  """
  pillow()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  if importlib.util.find_spec("libtpu") and not has_tpu():
    for name, value in WITHOUT_TPU.items():
      os.environ.setdefault(name, value)


def pillow() -> None:
  """Silences what Pillow logs in this process, such as too many bands: it raises that too."""
  logging.getLogger("PIL").setLevel(logging.CRITICAL)


def has_tpu() -> bool:
  """Returns whether this machine has the device files of TPUs."""
  return bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
