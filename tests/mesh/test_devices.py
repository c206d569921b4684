"""The devices of a run in words."""

import types

import pytest

from swin_jax.mesh import devices


def several(count, platform, kind, processes=1):
  return [
    types.SimpleNamespace(platform=platform, device_kind=kind, process_index=i % processes)
    for i in range(count)
  ]


@pytest.fixture
def two_cores(monkeypatch, tmp_path):
  monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: {0, 1})
  monkeypatch.setattr(devices, "_NVIDIA_DRIVER", str(tmp_path / "nvidiactl"))
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  return tmp_path / "nvidiactl"


@pytest.mark.parametrize(
  "given, words",
  [
    (several(1, "gpu", "NVIDIA H100"), "1 GPU: NVIDIA H100"),
    (several(8, "gpu", "NVIDIA H200", 2), "8 GPUs: NVIDIA H200, in 2 processes"),
    (several(4, "tpu", "TPU v5 lite"), "4 TPUs: TPU v5 lite"),
    (several(1, "cpu", "cpu"), "no GPU found: training on 2 CPU cores"),
    (several(8, "cpu", "cpu"), "no GPU found: training on 2 CPU cores as 8 devices"),
  ],
)
def test_devices_have_words(given, words, two_cores):
  assert devices.describe(given) == words


def test_a_gpu_that_jax_cannot_use_is_named(two_cores, monkeypatch):
  two_cores.touch()
  said = devices.describe(several(1, "cpu", "cpu"))
  assert said.endswith("(pip install 'jax[cuda12]'): training on 2 CPU cores")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert devices.describe(several(1, "cpu", "cpu")) == "JAX_PLATFORMS=cpu: training on 2 CPU cores"
