"""The train step on a task with one weight, with numbers worked out by hand."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import optax
import pytest

from swin_jax.run import optim
from swin_jax.run.state import TrainState
from swin_jax.run.step import make_step
from swin_jax.tasks.task import Task
from tests.support import meshes

pytestmark = pytest.mark.every_python

BATCH = {"image": np.float32([[1.0], [3.0]])}


def make_task(drawn=False):
  """Makes a task whose loss is the weight times the mean of the images, and with `drawn` also times a random
  number.
  """

  def loss(params, batch, rng):
    factor = jax.random.uniform(rng) if drawn else 1.0
    value = factor * jnp.sum(params["head"]["kernel"]) * jnp.mean(batch["image"])
    return value, {"loss": (value, jnp.ones(())), "drawn": (jnp.asarray(factor), jnp.ones(()))}, {}

  return Task(None, None, None, loss, None, None)


def run(steps, *, optimizer=None, rate=None, ema=False, task=None, augment=None, **changes):
  """Returns the states before, between and after the given number of steps, and the sums of each step."""
  mesh = meshes.make(1, 1, 1, devices=jax.devices()[:1])
  place = NamedSharding(mesh, PartitionSpec())
  params = jax.device_put({"head": {"kernel": np.float32([[5.0]])}}, place)
  optimizer = optimizer or optax.sgd(0.25)
  settings = dict(seed=0, accumulation_steps=1, ema_decay=0.9)
  step = jax.jit(
    make_step(
      task or make_task(),
      augment,
      optimizer,
      rate or (lambda state: 0.25),
      jax.tree.map(lambda _: place, params),
      **settings | changes,
    )
  )
  average = jax.tree.map(jnp.copy, params) if ema else None
  states, sums = [TrainState(jnp.int32(0), params, optimizer.init(params), average)], []
  for _ in range(steps):
    state, each = step(states[-1], BATCH)
    states, sums = [*states, state], [*sums, {name: float(pair[0]) for name, pair in each.items()}]
  return states, sums


def weights(trees):
  return [float(tree["head"]["kernel"][0, 0]) for tree in trees]


def test_one_update_by_hand():
  """The gradient is the mean of the images, 2, and the rate is 0.25."""
  states, sums = run(3)
  assert weights(state.params for state in states) == [5.0, 4.5, 4.0, 3.5]
  assert [each["loss"] for each in sums] == [10.0, 9.0, 8.0] and sums[0]["grad_norm"] == 2.0
  assert [int(state.step) for state in states] == [0, 1, 2, 3]


# Random numbers.


def drawn(steps=4, **changes):
  return [each["drawn"] for each in run(steps, task=make_task(drawn=True), **changes)[1]]


def test_every_step_draws_other_numbers_and_the_same_again():
  numbers = drawn()
  assert len(set(numbers)) == 4 and drawn() == numbers


def test_every_seed_draws_other_numbers():
  assert not set(drawn()) & set(drawn(seed=1))


def test_the_numbers_of_a_step_follow_from_seed_and_step():
  expected = [float(jax.random.uniform(jax.random.fold_in(jax.random.key(3), step))) for step in range(4)]
  assert drawn(seed=3) == pytest.approx(expected)


def test_augmentation_draws_other_numbers_than_the_loss():
  def augment(batch, rng):
    return {"image": batch["image"] * 0 + jax.random.uniform(rng)}

  states, sums = run(3, task=make_task(drawn=True), augment=augment, optimizer=optax.sgd(0.0))
  factors = [each["loss"] / (5.0 * each["drawn"]) for each in sums]
  assert len({round(factor, 5) for factor in factors}) == 3
  assert not np.isclose(factors, [each["drawn"] for each in sums]).any()


# The moving average.


@pytest.mark.parametrize("decay, steps", [(0.9999, 12), (0.3, 12), (0.15, 3)])
def test_the_average_follows_faster_in_the_first_steps(decay, steps):
  """Its decay is (1 + step) / (10 + step) until that reaches `ema_decay`; the first step counts as 0."""
  states, _ = run(steps, ema=True, ema_decay=decay)
  average, expected = 5.0, [5.0]
  for step, weight in enumerate(weights(state.params for state in states[1:])):
    used = min(decay, (1 + step) / (10 + step))
    average = used * average + (1 - used) * weight
    expected.append(average)
  assert weights(state.ema for state in states) == pytest.approx(expected, rel=1e-6)
  assert weights([states[-1].eval_params]) == weights([states[-1].ema])


def test_without_an_average_the_parameters_are_evaluated():
  states, _ = run(1)
  assert states[-1].ema is None and states[-1].eval_params is states[-1].params


# The rate.


def test_the_logged_rate_is_the_one_applied():
  """Adam without memory moves the weight by exactly the rate, which warms up from 0.01."""
  schedule = functools.partial(
    optim.learning_rate,
    schedule="cosine",
    total_steps=8,
    warmup_steps=4,
    warmup_lr=0.01,
    min_lr=0.02,
    milestones=(),
    decay_rate=0.1,
  )
  optimizer = optim.make_optimizer(
    {"head": {"kernel": jnp.zeros((1, 1))}},
    schedule,
    peak_lr=0.5,
    weight_decay=0.0,
    decay_rules=[(".*", False)],
    backbone=None,
    layer_decay=1.0,
    clip_norm=0.0,
    b1=0.0,
    b2=0.0,
    eps=0.0,
  )
  states, sums = run(8, optimizer=optimizer, rate=lambda state: optim.next_rate(state, schedule, 0.5))
  logged = [each["learning_rate"] for each in sums]
  applied = -np.diff(weights(state.params for state in states))
  np.testing.assert_allclose(logged, applied, rtol=1e-4)
  np.testing.assert_allclose(logged, [float(schedule(step, 0.5)) for step in range(8)], rtol=1e-6)
  assert logged[0] == pytest.approx(0.01) and len(set(logged)) == 8
