"""Metrics and pictures sent to Weights & Biases, for which a module stands in."""

import json
import sys
import types

import pytest

from swin_jax.run import train, weights_and_biases
from swin_jax.terminal.errors import BadInput
from tests.support import tiny


class StandIn(types.ModuleType):
  """Records what a run sends."""

  def __init__(self):
    super().__init__("wandb")
    self.__spec__ = types.SimpleNamespace(origin="wandb.py")
    self.started, self.logged, self.finished, self.fails = [], [], 0, set()
    self.Image = lambda picture: picture.shape
    self.url = "https://example/run"

  def init(self, **settings):
    self._maybe("init")
    self.started.append(settings)
    return self

  def log(self, values, step):
    self._maybe("log")
    self.logged.append((step, values))

  def finish(self):
    self.finished += 1

  def _maybe(self, name):
    if name in self.fails:
      raise RuntimeError(f"no {name}\ntoday")


@pytest.fixture
def wandb(monkeypatch):
  module = StandIn()
  monkeypatch.setitem(sys.modules, "wandb", module)
  return module


def config(steps=6):
  c = tiny.config(log__wandb="birds")
  c.optim.update(total_epochs=steps / 89, warmup_epochs=0.0)
  return c


def test_a_run_sends_what_its_metrics_file_holds_and_its_pictures(wandb, tmp_path, capsys):
  train.train(config(), str(tmp_path / "run"))
  (started,) = wandb.started
  assert (started["project"], started["name"], started["dir"]) == ("birds", "run", str(tmp_path / "run"))
  assert started["config"]["model"]["embed_dim"] == 16 and wandb.finished == 1
  assert "wandb: https://example/run" in capsys.readouterr().out
  entries = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
  about = ("step", "epoch", "elapsed_seconds", "time")
  expected = [(e["step"], {k: v for k, v in e.items() if k not in about}) for e in entries]
  pictures = [each for each in wandb.logged if "reconstruction" in each[1]]
  assert [each for each in wandb.logged if each not in pictures] == expected
  assert [step for step, _ in pictures] == [6] and pictures[0][1]["reconstruction"][1] == 300


def test_a_run_that_continues_is_the_same_run_there(wandb, tmp_path):
  for _ in range(2):
    weights_and_biases.sinks(str(tmp_path), config())
  first, second = wandb.started
  assert first["id"] == second["id"] and second["resume"] == "allow"


@pytest.mark.parametrize("where", ["init", "log"])
def test_its_failure_is_one_line_and_the_run_goes_on(wandb, tmp_path, capsys, where):
  wandb.fails.add(where)
  (sink,) = weights_and_biases.sinks(str(tmp_path), config())
  for step in (1, 2):
    sink.scalars(step, {"train/loss": 1.0})
  sink.close()
  assert capsys.readouterr().err == f"swin_jax: wandb: no {where} today; the run goes on without it\n"


@pytest.mark.parametrize("folder", [False, True])
def test_not_installed_is_refused_before_anything_is_computed(tmp_path, monkeypatch, folder):
  """A folder named wandb, as wandb makes it, is not the package."""
  if folder:
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, "wandb", raising=False)
  with pytest.raises(BadInput, match="needs wandb, which is not installed: pip install wandb") as error:
    train.train(config(), str(tmp_path / "run"))
  assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_without_a_project_it_is_not_even_imported(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  c = tiny.config()
  weights_and_biases.check(c)
  assert weights_and_biases.sinks(str(tmp_path), c) == ()
