"""The devices of a run, in words."""

from collections.abc import Sequence
import os

import jax

_NVIDIA_DRIVER = "/dev/nvidiactl"  # exists where a driver for NVIDIA's GPUs is loaded


def describe(devices: Sequence[jax.Device]) -> str:
  """Returns which devices a run trains on, as in "1 GPU: NVIDIA H100"; on CPUs, how many cores it may use and
  what would give it the GPU that the machine has.
  """
  platform, count = devices[0].platform, len(devices)
  processes = len({device.process_index for device in devices})
  several = f", in {processes} processes" if processes > 1 else ""
  if platform != "cpu":
    name = {"gpu": "GPU", "cuda": "GPU", "rocm": "GPU", "tpu": "TPU"}.get(platform, platform)
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    return f"{count} {name}{'s' * (count > 1)}: {kinds}{several}"
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  each = " each" if processes > 1 else ""
  parts = f" as {count} devices" if count > 1 else ""
  words = f"training on {cores} CPU core{'s' * (cores > 1)}{each}{parts}{several}"
  if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
    return f"JAX_PLATFORMS=cpu: {words}"
  if os.path.exists(_NVIDIA_DRIVER):
    return f"no GPU found by jax, but this machine has an NVIDIA driver (pip install 'jax[cuda12]'): {words}"
  return f"no GPU found: {words}"
