"""The train step: loss, gradient, update of the parameters, and sums to log."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from swin_jax.run.state import TrainState
from swin_jax.tasks.task import Sums, Task

# FLOPs of a step, in units of a forward pass: the backward pass has two matrix products for each one of the
# forward pass. Recomputation by remat does not count.
FORWARD_PASSES = 3

# Folded into the key of a step for augmentation; far from the small numbers that losses use.
_AUGMENT = 1 << 30


def total_loss(task: Task) -> Callable[[Any, dict, jax.Array], tuple[jax.Array, Sums]]:
  """Returns a function (params, batch, rng) → loss of the task plus the losses of its backbone, and the sums
  to log, which contain each loss of the backbone under its name.
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
  trained: Callable[[Any], Any] = lambda params: params,
  seed: int,
  accumulation_steps: int,
  ema_decay: float,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict]]:
  """Returns the function (state, batch) → (state, sums) of one update.

  If the loss or the gradient is not finite, the step leaves parameters, moments and average unchanged. This
  is decided on the device because the old state is donated and the host could not restore it. Random draws
  depend only on the seed and the step.

  Args:
    task: model and loss.
    augment: (batch, rng) → batch, applied before the loss; None for no augmentation.
    optimizer: optimizer of the state's parameters.
    rate: optimizer state → learning rate of its next update, for logging.
    gradient_shardings: tree like the trained parameters. Gradients are reduced over devices directly into
      these shards; no device ever holds a whole gradient.
    trained: parameters → those that are trained; the others never change, nor does their average.
    seed: seed of RandAugment, mixing, erasing and drop path.
    accumulation_steps: number of parts of the batch, computed one after the other, whose gradients are
      averaged.
    ema_decay: decay per step of the average, if the state holds one.
  """

  loss = total_loss(task)

  def gradient(params, batch, rng):
    batch = augment(batch, jax.random.fold_in(rng, _AUGMENT)) if augment else batch
    of_trained = jax.value_and_grad(lambda part: loss({**params, **part}, batch, rng), has_aux=True)
    (_, sums), grads = of_trained(trained(params))
    return jax.lax.with_sharding_constraint(grads, gradient_shardings), sums

  def accumulate(params, batch, rng):
    if accumulation_steps == 1:
      return gradient(params, batch, rng)
    # Part i takes every n-th example starting at i, so that each device computes on the examples it holds.
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
    before, ema = trained(state.params), state.ema
    updates, opt_state = optimizer.update(grads, state.opt_state, before)
    params = {**state.params, **optax.apply_updates(before, updates)}
    if ema is not None:
      # The average follows faster in early steps; otherwise it would retain the initialisation for long.
      decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
      ema = {**ema, **optax.incremental_update(trained(params), trained(ema), 1.0 - decay)}
    finite = jnp.isfinite(sums["loss"][0]) & jnp.isfinite(grad_norm)
    new, old = (params, opt_state, ema), (state.params, state.opt_state, state.ema)
    params, opt_state, ema = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    one = jnp.ones(())
    sums = sums | {"grad_norm": (grad_norm, one), "learning_rate": (rate(state.opt_state), one)}
    return TrainState(state.step + 1, params, opt_state, ema), sums

  return step
