"""Which metric ranks evaluations (`checkpoint.best_by`), and runs that end early (`checkpoint.patience`)."""

import math

import pytest

from swin_jax.run import best, loop, train
from swin_jax.run.best import Best, Ranking
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Preempted
from tests.support import tiny
from tests.support.runs import assert_same, lines, saved

UP, DOWN = Ranking("eval/top1", True), Ranking("eval/loss", False)


def after(ranking, values):
  so_far = Best(ranking.metric)
  for step, value in enumerate(values, 1):
    so_far = so_far.after(ranking, step, {ranking.metric: value})
  return so_far


@pytest.mark.parametrize(
  "ranking, values, expected",
  [
    (UP, [0.1, 0.5, 0.4, 0.5, 0.3], Best("eval/top1", 0.5, 2, 3)),
    (DOWN, [3.0, 2.0, 2.5, 1.0], Best("eval/loss", 1.0, 4, 0)),
    (DOWN, [math.nan, 2.0, math.nan], Best("eval/loss", 2.0, 2, 1)),
    (UP, [math.nan, math.nan], Best("eval/top1", None, 0, 2)),
  ],
)
def test_the_best_evaluation_and_those_since(ranking, values, expected):
  assert after(ranking, values) == expected


@pytest.mark.parametrize("patience, over", [(0, False), (1, True), (3, True), (4, False)])
def test_patience_counts_evaluations_and_zero_is_endless(patience, over):
  assert after(UP, [0.5, 0.1, 0.1, 0.1]).is_over(patience) == over


@pytest.mark.parametrize(
  "task, name, ranking",
  [
    ("classification", "", ("eval/top1", True)),
    ("classification", "loss", ("eval/loss", False)),
    ("classification", "eval/auroc", ("eval/auroc", True)),
    ("segmentation", "iou/road", ("eval/iou/road", True)),
    ("segmentation", "pixel_accuracy", ("eval/pixel_accuracy", True)),
    ("pixel_regression", "mean_squared_error", ("eval/mean_squared_error", False)),
  ],
)
def test_any_metric_of_the_task_may_rank(task, name, ranking):
  assert best.ranking_of(tiny.config(task=task, checkpoint__best_by=name)) == ranking


@pytest.mark.parametrize(
  "task, name, message",
  [
    (
      "classification",
      "mean_iou",
      "not a metric of task=classification; it has top1, top5, auroc, av",
    ),
    ("classification", "aurok", "did you mean auroc[?]; it has top1"),
    ("classification", "loss/cat", "not a metric"),
    ("masked_pixels", "top1", "it has loss$"),
    ("segmentation", "iou", "it has mean_iou, pixel_accuracy, iou/CLASS, loss"),
  ],
)
def test_another_metric_is_refused_before_anything_is_opened(task, name, message, tmp_path):
  c = tiny.config(task=task, checkpoint__best_by=name, data__path="nowhere", data__source="folder")
  if task == "segmentation":
    c.dense.photometric = False
  with pytest.raises(BadInput, match=message) as error:
    train.train(c, str(tmp_path / "run"))
  assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_metrics_that_need_the_data_are_checked_once_it_is_known():
  c = tiny.config(task="classification", checkpoint__best_by="top5")
  best.ranking_of(c)
  c.classification.num_classes = 3
  with pytest.raises(BadInput, match="did you mean top1[?]; it has top1, auroc"):
    best.ranking_of(c)
  c = tiny.config(task="segmentation", checkpoint__best_by="iou/rode")
  best.ranking_of(c)
  c.data.class_names = ("road", "sky")
  with pytest.raises(BadInput, match="'iou/rode' is not a metric"):
    best.ranking_of(c)


def test_a_metric_that_would_be_left_out_cannot_rank(monkeypatch, tmp_path):
  """There are 360 images with ten logits and a label each."""
  monkeypatch.setattr(best, "MOST_NUMBERS", 360 * 11 - 1)
  c = tiny.config("finetune", checkpoint__best_by="auroc")
  with pytest.raises(BadInput, match="eval/auroc cannot rank checkpoints: 360 examples × 11 numbers"):
    train.train(c, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


# Values of the metric, evaluation by evaluation.
VALUES = {2: 0.5, 4: 0.7, 6: 0.6, 8: 0.6, 10: 0.6, 12: 0.9, 14: 0.1, 16: 0.1, 18: 0.1, 20: 0.1}


def config(patience=3, **changes):
  c = tiny.config("finetune", optim__total_epochs=20 / 89, **changes)
  c.log.update(eval_every_epochs=2 / 89, num_pictures=0)
  c.checkpoint.update(every_epochs=2 / 89, patience=patience, best_by="loss")
  return c


@pytest.fixture
def values(monkeypatch):
  """Evaluations return these losses."""
  monkeypatch.setattr(
    loop, "evaluate", lambda program, data, state, *rest: {"eval/loss": 1 - VALUES[int(state.step)]}
  )


def steps(workdir):
  return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_a_run_ends_early_and_names_its_best_checkpoint(values, tmp_path, capsys):
  train.train(config(), str(tmp_path))
  assert steps(tmp_path) == [4, 8, 10]
  said = capsys.readouterr().out
  assert "stopped early at step 10 of 20: 3 evaluations in a row were not better" in said
  assert f"best eval/loss 0.3000 at step 4: {tmp_path}/checkpoints/4" in said
  assert f"checkpoint {tmp_path}/checkpoints/10" in said


def test_the_same_command_finds_it_over_and_more_patience_continues(values, tmp_path, capsys):
  train.train(config(), str(tmp_path))
  train.train(config(), str(tmp_path))
  assert steps(tmp_path)[-1] == 10 and capsys.readouterr().out.count("stopped early at step 10 of 20") == 2
  train.train(config(patience=4), str(tmp_path))
  assert steps(tmp_path) == [12, 18, 20]
  assert "stopped early at step 20" not in capsys.readouterr().out


@pytest.mark.parametrize("stopped_at", [3, 4, 5, 8, 9])
def test_an_interrupted_run_ends_at_the_same_step(values, tmp_path, stopped_at, monkeypatch):
  """It is stopped after an evaluation, or between two."""
  train.train(config(), str(tmp_path / "whole"))
  with monkeypatch.context() as patch, pytest.raises(Preempted):
    asked = iter([False] * stopped_at)
    patch.setattr(preemption, "requested", lambda: next(asked, True))
    train.train(config(), str(tmp_path / "run"))
  train.train(config(), str(tmp_path / "run"))
  assert steps(tmp_path / "run")[-1] == 10
  assert_same(saved(tmp_path / "run", 10), saved(tmp_path / "whole", 10))
  assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_another_metric_starts_to_count_anew():
  stored = Best("eval/top1", 0.5, 4, 3)._asdict()
  assert best.restored(stored, UP) == Best("eval/top1", 0.5, 4, 3)
  assert best.restored(stored, DOWN) == best.restored(None, DOWN) == Best("eval/loss")


def test_without_the_best_checkpoint_the_end_says_so(tmp_path):
  (line,) = best.describe(Best("eval/loss", 0.25, 4, 2), 8, 8, tmp_path)
  assert line == "best eval/loss 0.2500 at step 4, whose checkpoint was not kept (checkpoint.keep_best)"
  assert best.describe(Best("eval/loss", 0.25, 8, 0), 8, 8, tmp_path) == []
