"""An evaluation gives the same values however its examples are divided over batches, devices and
processes.
"""

import dataclasses
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from swin_jax.data.feed import reading
from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from swin_jax.mesh import sharding
from swin_jax.run import config as run_config
from swin_jax.run import metrics
from swin_jax.run.best import Ranking
from swin_jax.run.evaluate import evaluate
from swin_jax.run.inputs import open_input
from swin_jax.run.program import build
from swin_jax.saved import manifest
from swin_jax.tasks import ranking
from swin_jax.tasks.task import Measured
from swin_jax.terminal.errors import BadInput
from tests.support import batches, slow_block, tiny
from tests.support.runs import SMALL, finish, lines, processes, steps

pytestmark = pytest.mark.devices(8)

RUN = (
  *(flag.replace(":pretrain", ":finetune") for flag in SMALL if "num_pictures" not in flag),
  *steps(1, warmup=0),
  "--config.init_from=",
  "--config.data.eval_batch_size=64",
)
ONE_BLOCK = dict(model__depths=(1,), model__num_heads=(2,), model__window_sizes=(4,))


@dataclasses.dataclass(frozen=True)
class Shades:
  """Images of one shade each, mostly brighter for class 1; some of them are damaged."""

  label: tuple[int, ...]
  damaged: tuple[int, ...] = ()

  targets = Target.NOTHING
  num_classes = 2
  class_names = ("dark", "bright")

  def __len__(self) -> int:
    return len(self.label)

  def shade(self, index: int) -> int:
    return index * 37 % 101 + 60 * self.label[index]

  def __getitem__(self, index: int) -> Example:
    if index in self.damaged:
      raise ValueError("is damaged")
    return Example(np.full((8, 8, 3), self.shade(index), np.uint8), self.label[index], f"shade {index}")


def shades(
  batch,
  damaged=(),
  label=(0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1),
  reads=lambda step: step,
):
  """Returns a program whose output is the brightness, its data, and a state for it, in the form that
  `evaluate` takes.
  """
  source = Shades(label, damaged)
  config = tiny.config()
  mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))

  def measure(params, batch):
    bright = jnp.mean(batch["image"].astype(jnp.float32), axis=(1, 2, 3))
    logits = jnp.stack([jnp.zeros_like(bright), bright * params], axis=1)
    count = jnp.sum(batch["weight"])
    return Measured({"loss": (count, count)}, {"logits": logits, "label": batch["label"]})

  program = types.SimpleNamespace(
    task=types.SimpleNamespace(row_metrics=ranking.ONE_VS_REST),
    mesh=mesh,
    rules=config.sharding_rules,
    eval_batch_sharding=rows,
    eval_step=reads(jax.jit(measure)),
    pictures=None,
  )
  return (
    program,
    batches.make_input(source, batch=batch),
    types.SimpleNamespace(eval_params=np.float32(0.1)),
  )


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
  monkeypatch.setattr(reading, "named", set())


@pytest.mark.parametrize("batch", [1, 4, 11, 16])
@pytest.mark.parametrize("damaged", [(), (2, 7)])
def test_padding_and_repeated_examples_drop_out(batch, damaged):
  """A damaged example is replaced by the next, which must not count twice."""
  program, data, state = shades(batch, damaged)
  values = evaluate(program, data, state, ())
  source = data.eval_source
  kept = [i for i in range(len(source)) if i not in damaged]
  label, score = [source.label[i] for i in kept], [source.shade(i) for i in kept]
  assert 0.5 < values["eval/auroc"] < 1
  assert values["eval/auroc"] == roc_auc_score(label, score)
  assert values["eval/average_precision"] == average_precision_score(label, score)


def test_a_set_of_one_class_is_named(capsys):
  values = evaluate(*shades(4, label=(1,) * 9), ())
  assert values == {"eval/loss": 1.0}
  (line,) = capsys.readouterr().out.splitlines()
  assert "eval/auroc and eval/average_precision left out" in line and "[1]" in line


def test_a_metric_of_rows_ranks_checkpoints():
  ranked = Ranking("eval/average_precision", True)
  ranked.check(evaluate(*shades(4), ()))
  with pytest.raises(BadInput, match="nothing to score: no example defines eval/average_precision"):
    ranked.check(evaluate(*shades(4, label=(1,) * 9), ()))


def test_rows_that_would_be_too_many_are_left_out(monkeypatch, capsys):
  """There are eleven examples, each with two logits and a label."""
  for limit, expected in ((33, True), (32, False)):
    monkeypatch.setattr(metrics, "MOST_NUMBERS", limit)
    assert ("eval/auroc" in evaluate(*shades(4), ())) == expected
  (line,) = capsys.readouterr().out.splitlines()
  assert "eval/auroc and eval/average_precision left out: 11 examples × 3 numbers" in line and "32" in line


def test_rows_are_read_one_batch_late(monkeypatch):
  """The device then always has a batch to compute while the host reads the previous one."""
  events, get = [], jax.device_get
  monkeypatch.setattr(jax, "device_get", lambda x: (events.append("read"), get(x))[1])

  def noted(step):
    return lambda *arguments: (events.append("step"), step(*arguments))[1]

  program, data, state = shades(4, reads=noted)
  state.eval_params = jax.device_put(state.eval_params)
  with jax.transfer_guard("disallow"):
    evaluate(program, data, state, ())
  assert events == ["step", "step", "read", "step", "read", "read"]


# With a model, on any mesh.


def evaluation(batch, **mesh):
  """Evaluates a classifier with random parameters on the held-out digits."""
  config = tiny.config("finetune", data__eval_batch_size=batch, **ONE_BLOCK)
  config.mesh.update(mesh)
  config = run_config.resolve(config, *[tuple("0123456789")] * 2)
  devices = 1 if set(mesh.values()) == {1} else 8
  program = build(config, 89, 20, jax.devices()[:devices])
  params = slow_block.random_params(program.state.params, 0)
  params = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), params, program.state.params)
  return evaluate(program, open_input(config), types.SimpleNamespace(eval_params=params, step=0), ())


@pytest.fixture(scope="module")
def in_one_batch():
  return evaluation(360, data=1, fsdp=1, model=1)


@pytest.mark.slow
@pytest.mark.parametrize(
  "batch, mesh",
  [
    (7, dict(data=1, fsdp=1, model=1)),
    (64, dict(data=1, fsdp=1, model=1)),
    (64, dict(data=8, fsdp=1, model=1)),
    (64, dict(data=1, fsdp=8, model=1)),
    (64, dict(data=2, fsdp=2, model=2)),
  ],
  ids=str,
)
def test_any_batch_size_and_mesh_give_the_same(in_one_batch, batch, mesh):
  values = evaluation(batch, **mesh)
  assert 0.4 < in_one_batch["eval/auroc"] < 0.6
  assert values == pytest.approx(in_one_batch, rel=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Runs one step in one process, and its evaluation."""
  workdir = tmp_path_factory.mktemp("trained")
  finish(processes(1, 1, *RUN, f"--workdir={workdir}"))
  return workdir


@pytest.mark.slow
def test_two_processes_give_the_same(trained, tmp_path):
  """Each process holds half of every batch."""
  shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
  (tmp_path / "checkpoints/1" / manifest.EVALUATION).unlink()  # as if stopped before
  outputs = finish(processes(2, 1, *RUN, f"--workdir={tmp_path}"))
  assert "continuing" in outputs[0] and "compiling the train step" not in outputs[0]
  values, one = (lines(workdir)[-1] for workdir in (tmp_path, trained))
  assert 0 < one["eval/auroc"] < 1 and values == pytest.approx(one, rel=1e-6)
