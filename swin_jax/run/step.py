"""The train step: loss → gradient → update → sums."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from swin_jax.run.state import TrainState
from swin_jax.tasks.task import Sums, Task

# FLOPs of a step, counted in forward passes of its images: a backward pass has two products for each of a
# forward pass. What remat computes again does not count.
FORWARD_PASSES = 3

# Far from the first few numbers, by which losses divide their key.
_AUGMENT = 1 << 30


def total_loss(task: Task) -> Callable[[Any, dict, jax.Array], tuple[jax.Array, Sums]]:
  """Returns the function (params, batch, rng) → the loss of the task plus those of its backbone, and the sums
  to log, each loss of the backbone under its name.
  """

  def loss(params, batch, rng):
    value, sums, losses = task.loss(params, batch, rng)
    for name, emitted in losses.items():
      value, sums = value + emitted, sums | {name: (emitted, jnp.ones(()))}
    return value, sums | {"loss": (value, sums["loss"][1])}

  return loss


def make_step(
  task: Task,
  augment: Callable[[dict, jax.Array], dict] | None,
  optimizer: optax.GradientTransformation,
  rate: Callable[[Any], jax.Array],
  gradient_shardings: Any,
  *,
  seed: int,
  accumulation_steps: int,
  ema_decay: float,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict]]:
  """Makes the function (state, batch) → (state, sums) of one update.

  A step whose loss or gradient is not finite leaves parameters, moments and average as they were: the old
  state is donated, so the host could not go back. Its random draws depend on the seed and the step alone.

  Args:
    task: gives the loss.
    augment: (batch, rng) → batch, before it; None for nothing.
    optimizer: for the state's parameters.
    rate: optimizer state → the learning rate that its next update applies, to be logged.
    gradient_shardings: a tree like the parameters. Gradients are summed over devices into these parts, never
      whole.
    seed: of RandAugment, mixing, erasing and drop path.
    accumulation_steps: parts of the batch that gradients are averaged over, one after the other.
    ema_decay: of the average, where the state holds one.
  """

  loss = total_loss(task)

  def gradient(params, batch, rng):
    batch = augment(batch, jax.random.fold_in(rng, _AUGMENT)) if augment else batch
    (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, rng)
    return jax.lax.with_sharding_constraint(grads, gradient_shardings), sums

  def accumulate(params, batch, rng):
    if accumulation_steps == 1:
      return gradient(params, batch, rng)
    # Part i is every n-th example from i, so that each device computes on examples it holds.
    parts = jax.tree.map(lambda x: x.reshape(-1, accumulation_steps, *x.shape[1:]).swapaxes(0, 1), batch)
    rngs = jax.random.split(rng, accumulation_steps)

    def add(total, part):
      return constrain(jax.tree.map(jnp.add, total, gradient(params, *part))), None

    def constrain(total):
      return jax.lax.with_sharding_constraint(total[0], gradient_shardings), total[1]

    shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], parts), rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (grads, sums), _ = jax.lax.scan(add, constrain(zeros), (parts, rngs))
    return jax.tree.map(lambda g: g / accumulation_steps, grads), sums

  def step(state, batch):
    grads, sums = accumulate(state.params, batch, jax.random.fold_in(jax.random.key(seed), state.step))
    grad_norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params, ema = optax.apply_updates(state.params, updates), state.ema
    if ema is not None:
      # Early on the average follows faster, or it would remember the initialisation.
      decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
      ema = optax.incremental_update(params, ema, 1.0 - decay)
    finite = jnp.isfinite(sums["loss"][0]) & jnp.isfinite(grad_norm)
    new, old = (params, opt_state, ema), (state.params, state.opt_state, state.ema)
    params, opt_state, ema = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    one = jnp.ones(())
    sums = sums | {"grad_norm": (grad_norm, one), "learning_rate": (rate(state.opt_state), one)}
    return TrainState(state.step + 1, params, opt_state, ema), sums

  return step
