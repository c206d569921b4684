"""Numbers derived from a config: learning rates, steps and intervals."""

import errno
import os

import pytest

from swin_jax.run import config as run_config
from swin_jax.terminal.errors import BadInput, Fault
from tests.support import tiny

pytestmark = pytest.mark.every_python


@pytest.mark.parametrize("batch_size, factor", [(128, 0.25), (512, 1.0), (2048, 4.0)])
def test_rates_are_for_512_images(batch_size, factor):
  """This applies to all three rates: the start of the warm-up, the peak and the floor."""
  config = tiny.config(
    data__batch_size=batch_size,
    optim__lr=0.1,
    optim__warmup_lr=0.01,
    optim__min_lr=0.02,
    optim__warmup_epochs=2.0,
    optim__total_epochs=10.0,
  )
  rate, peak = run_config.learning_rate(config, steps_per_epoch=5, total_steps=50)
  assert peak == pytest.approx(factor * 0.1)
  rates = [float(rate(step, peak)) for step in (0, 5, 10, 30, 50)]
  cosine = [0.01, (0.01 + 0.1) / 2, 0.1, (0.1 + 0.02) / 2, 0.02]
  assert rates == pytest.approx([factor * value for value in cosine])


def test_milestones_are_epochs():
  config = tiny.config(
    data__batch_size=512,
    optim__lr=0.1,
    optim__schedule="multistep",
    optim__milestone_epochs=(1.0, 2.5),
    optim__warmup_epochs=0.0,
    optim__total_epochs=10.0,
  )
  rate, peak = run_config.learning_rate(config, steps_per_epoch=4, total_steps=40)
  rates = [float(rate(step, peak)) for step in (3, 4, 9, 10)]
  assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])


def test_steps_and_intervals_are_of_epochs():
  config = tiny.config(
    data__batch_size=10,
    optim__total_epochs=2.5,
    log__eval_every_epochs=0.5,
    checkpoint__every_epochs=2.0,
    checkpoint__keep_every=3,
  )
  steps_per_epoch, total = run_config.count_steps(config, 49)
  assert (steps_per_epoch, total) == (4, 10)
  assert run_config.intervals(config, steps_per_epoch) == {"evaluate": 2, "save": 8, "keep": 24, "log": 3}


@pytest.mark.parametrize("examples, smaller", [(54, 32), (64, 64), (1, 1)])
def test_a_batch_larger_than_the_set_is_refused_with_one_that_fits(examples, smaller):
  with pytest.raises(BadInput, match=rf"has {examples} examples.*--config.data.batch_size={smaller}$"):
    run_config.count_steps(tiny.config(data__batch_size=128), examples)


@pytest.mark.parametrize("number, kind", [(errno.ENOSPC, Fault), (errno.EACCES, BadInput)])
def test_a_full_disk_is_not_the_fault_of_the_workdir(number, kind, tmp_path, monkeypatch):
  def fail(*_, **__):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(os, "makedirs", fail)
  with pytest.raises(BadInput, match="workdir=.* cannot be written: ") as error:
    run_config.own(str(tmp_path / "run")).__enter__()
  assert type(error.value) is kind
