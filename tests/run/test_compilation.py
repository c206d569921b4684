"""Compiled programs are cached, loaded again, and recompiled if the cache is damaged; and the messages about
it.
"""

import itertools
import re
import types

import jax
import jax.numpy as jnp
import pytest

from swin_jax import main
from swin_jax.run import compilation, program, train
from tests.support.runs import SMALL, steps


@pytest.fixture(autouse=True)
def _keep_whatever_is_compiled():
  before = jax.config.jax_persistent_cache_min_compile_time_secs
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  yield
  jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


def compile_in(folder, capsys):
  """Compiles a program with its cache in a folder; returns the printed lines without seconds, and the cache
  entries.
  """
  x = jnp.ones((8, 8))

  def toy_program(x):
    return jnp.sin(x @ x) + 3

  with compilation.cached_in(folder and str(folder)), compilation.reported("toy"):
    compiled = jax.jit(toy_program).lower(x).compile()
  assert compiled(x)[0, 0] == pytest.approx(3.9893582)
  captured = capsys.readouterr()
  assert not captured.err
  entries = sorted(folder.glob("jit_toy_program-*-cache")) if folder else []
  return [re.sub(r" in \d+ s$", "", line) for line in captured.out.splitlines()], entries


def test_a_program_is_compiled_once(capsys, tmp_path):
  configured = jax.config.jax_compilation_cache_dir
  lines, entries = compile_in(tmp_path / "new", capsys)
  assert lines == ["toy: compiled"] and len(entries) == 1
  assert compile_in(tmp_path / "new", capsys) == (["toy: loaded from the cache"], entries)
  lines, others = compile_in(tmp_path / "other", capsys)
  assert lines == ["toy: compiled"] and len(others) == 1
  assert jax.config.jax_compilation_cache_dir == configured


def test_an_empty_name_keeps_nothing(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
  for _ in range(2):
    assert compile_in("", capsys)[0] == ["toy: compiled"]
  assert not list(tmp_path.iterdir())


def test_without_a_name_it_is_that_of_the_environment(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
  assert compile_in(None, capsys)[0] == ["toy: compiled"]
  assert list(tmp_path.glob("jit_toy_program-*-cache"))


def flip(data):
  return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", flip])
def test_a_damaged_entry_is_compiled_again_and_replaced(capsys, tmp_path, damage):
  _, (entry,) = compile_in(tmp_path, capsys)
  whole = entry.read_bytes()
  other = tmp_path / entry.name.replace("-cache", "0-cache")  # e.g. of another run
  other.write_bytes(whole)
  entry.write_bytes(damage(whole))
  (line, how), entries = compile_in(tmp_path, capsys)
  assert line.startswith(f"the compiled jit_toy_program in {tmp_path} cannot be read and is compiled again: ")
  assert how == "toy: compiled"
  assert set(entries) == {entry, other} and other.read_bytes() == whole
  assert compile_in(tmp_path, capsys)[0] == ["toy: loaded from the cache"]


def test_a_folder_that_cannot_be_written_is_one_line_a_program(capsys, tmp_path):
  (tmp_path / "file").touch()
  (line, how), _ = compile_in(tmp_path / "file", capsys)
  assert line.startswith(f"the compiled jit_toy_program in {tmp_path}/file cannot be read")
  assert how == "toy: compiled"


def test_seconds_are_those_of_the_clock(capsys, monkeypatch):
  clock = itertools.accumulate([100.0, 73.2])
  monkeypatch.setattr(compilation, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
  with compilation.reported("toy", least_seconds=70.0):
    jax.jit(lambda x: x + 2).lower(1.0).compile()
  assert capsys.readouterr().out == "toy: compiled in 74 s\n"


def test_what_takes_no_time_is_not_worth_a_line(capsys):
  with compilation.reported("toy"):
    pass
  with compilation.reported("toy", least_seconds=60.0):
    jax.jit(lambda x: x + 2).lower(1.0).compile()
  assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_run_says_how_its_step_was_compiled(capsys, monkeypatch, tmp_path):
  """Runs twice in one process; the second run loads what the first one cached."""
  monkeypatch.setattr(train, "build", program.build)  # which tests share otherwise
  folder = tmp_path / "compiled"
  for name, how in (("a", "compiled"), ("b", "loaded from the cache")):
    words = [*SMALL, *steps(2, warmup=1), f"--workdir={tmp_path}/{name}", f"--compile_cache={folder}"]
    assert main.main(["main", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("train step: ")]
    assert line.startswith(f"train step: {how} in ") and line.endswith(" s")
    assert lines.index(line) == lines.index("compiling the train step ...") + 1
  assert list(folder.glob("jit_step-*-cache"))
