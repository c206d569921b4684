"""On CPUs memory is allocated in large pages."""

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import subprocess
import sys

import pytest

from swin_jax.terminal import host_memory

FAULTS = """
import resource
import jax, jax.numpy as jnp
run = jax.jit(lambda x: 2 * x)
x = jnp.ones((16, 1 << 20))
run(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
  run(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")


def large_pages_are_for_those_who_ask():
  setting = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
  return setting.exists() and "[madvise]" in setting.read_text()


@GLIBC
@pytest.mark.skipif(
  not large_pages_are_for_those_who_ask(), reason="this system gives large pages to all or to none"
)
def test_large_pages_are_cleared_at_once():
  def faults(environment):
    return int(
      subprocess.run(
        [sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True, env=environment
      ).stdout
    )

  small = {**os.environ, "JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": ""}
  pages = 4 * 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # for one buffer of 64 MiB, in every run
  assert faults(host_memory.on_large_pages(small)) < pages / 20 < pages <= faults(small)


@pytest.mark.skipif(not host_memory.is_supported(), reason="this system has no large pages to give")
@pytest.mark.parametrize("platforms, told", [("cpu", host_memory.TUNABLES), ("cuda", "")])
def test_the_command_starts_again_on_a_cpu(tmp_path, platforms, told):
  config = tmp_path / "config.py"
  config.write_text(
    "import os\n\ndef get_config():\n  print('told', os.environ['GLIBC_TUNABLES'])\n  raise SystemExit\n"
  )
  command = [sys.executable, "-m", "swin_jax.main", f"--config={config}", f"--workdir={tmp_path}"]
  environment = {**os.environ, "JAX_PLATFORMS": platforms, "GLIBC_TUNABLES": ""}
  environment.pop("SWIN_JAX_ON_LARGE_PAGES", None)
  done = subprocess.run(command, capture_output=True, text=True, env=environment)
  assert done.stdout.split() == ["told", told][: 1 + bool(told)]


@pytest.mark.parametrize(
  "platforms, libtpu, plugins, cpu",
  [
    ("cpu", True, ["cuda"], True),
    ("cuda,cpu", False, ["cuda"], False),
    ("", False, ["cuda"], False),
    ("", True, [], False),
    ("", False, [], True),
  ],
)
def test_it_is_known_whether_a_cpu_computes(monkeypatch, platforms, libtpu, plugins, cpu):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: libtpu)
  monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
  assert (host_memory.on_large_pages({"JAX_PLATFORMS": platforms}) is not None) == cpu


def test_what_malloc_has_been_told_stands():
  assert (
    host_memory.on_large_pages({"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}) is None
  )
  environment = host_memory.on_large_pages(
    {"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.cpu.x86_shstk=off"}
  )
  assert environment["GLIBC_TUNABLES"] == "glibc.cpu.x86_shstk=off:" + host_memory.TUNABLES


@pytest.mark.parametrize(
  "words, libc, pages, restarted, again",
  [
    ("-m swin_jax.main", ("glibc", "2.35"), "always [madvise] never", False, True),
    ("-m swin_jax.main", ("glibc", "2.36"), "[always] madvise never", False, True),
    ("-m swin_jax train", ("glibc", "2.36"), "always [madvise] never", False, True),
    ("/usr/bin/swin_jax train", ("glibc", "2.36"), "always [madvise] never", False, True),
    ("-m ipykernel_launcher", ("glibc", "2.36"), "always [madvise] never", False, False),
    ("script.py swin_jax", ("glibc", "2.36"), "always [madvise] never", False, False),
    ("-m swin_jax.main", ("glibc", "2.34"), "always [madvise] never", False, False),
    ("-m swin_jax.main", ("", ""), "always [madvise] never", False, False),
    ("-m swin_jax.main", ("glibc", "2.36"), "always madvise [never]", False, False),
    ("-m swin_jax.main", ("glibc", "2.36"), None, False, False),
    ("-m swin_jax.main", ("glibc", "2.36"), "always [madvise] never", True, False),
  ],
)
def test_it_starts_again_only_where_it_gains(monkeypatch, tmp_path, words, libc, pages, restarted, again):
  started = []
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
  monkeypatch.delenv("SWIN_JAX_ON_LARGE_PAGES", raising=False)
  if restarted:
    monkeypatch.setenv("SWIN_JAX_ON_LARGE_PAGES", "1")
  if pages:
    (tmp_path / "enabled").write_text(pages)
  monkeypatch.setattr(host_memory, "_LARGE_PAGES", tmp_path / "enabled")
  monkeypatch.setattr(platform, "libc_ver", lambda: libc)
  monkeypatch.setattr(sys, "orig_argv", ["python", *words.split(), "--flag"])
  monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
  host_memory.restart_on_large_pages("swin_jax.main")
  assert len(started) == again
  if again:
    assert (
      started[0][1] == [sys.executable, *words.split(), "--flag"]
      and started[0][2]["GLIBC_TUNABLES"] == host_memory.TUNABLES
    )
