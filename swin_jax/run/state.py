"""The state of a training run between two steps, and its initialisation directly into its shardings."""

from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import optax

from swin_jax.mesh import sharding


@flax.struct.dataclass
class TrainState:
  """Everything that a train step changes. All leaves are `jax.Array`s or, in an abstract state,
  `jax.ShapeDtypeStruct`s.

  Attributes:
    step: int32 scalar, number of steps done.
    params: float32 tree.
    opt_state: state of the optimizer.
    ema: exponential moving average of params, or None if the run keeps none.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  ema: Any

  @property
  def eval_params(self):
    """The parameters to evaluate: the average if there is one, otherwise `params`."""
    return self.params if self.ema is None else self.ema


def abstract_state(
  init_params: Callable[[jax.Array], Any],
  make_optimizer: Callable[[Any], optax.GradientTransformation],
  with_ema: bool,
  mesh: Mesh,
  rules: Sequence[sharding.Rule],
  state_rules: Sequence[sharding.Rule] | None = None,
  trained: Callable[[Any], Any] = lambda params: params,
) -> tuple[TrainState, optax.GradientTransformation, Any]:
  """Returns the abstract state, its optimizer, and the abstract gradients, all with shardings; computes
  nothing.

  Args:
    init_params: rng → boxed parameters.
    make_optimizer: abstract trained parameters → optimizer (its masks and rates depend on names and shapes).
    with_ema: whether the state holds an average.
    mesh, rules: see `sharding.py`.
    state_rules: sharding rules of gradients, optimizer moments and average; None for those of the parameters.
    trained: parameters → those that are trained; only these have gradients and optimizer moments.

  Raises:
    BadInput: the rules cannot place a parameter.
  """
  boxed = jax.eval_shape(init_params, jax.random.key(0))
  params = sharding.shard_parameters(boxed, mesh, rules)
  divided = sharding.shard_parameters(boxed, mesh, state_rules or rules)
  everywhere = NamedSharding(mesh, PartitionSpec())

  def place(leaf, like=None):
    return jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=everywhere if like is None else like.sharding
    )

  optimizer, gradients = make_optimizer(trained(params)), trained(divided)
  opt_state = optax.tree_utils.tree_map_params(
    optimizer,
    place,
    jax.eval_shape(optimizer.init, trained(params)),
    gradients,
    transform_non_params=place,
  )
  step = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
  return TrainState(step, params, opt_state, divided if with_ema else None), optimizer, gradients


def make_init(
  init_params: Callable[[jax.Array], Any],
  optimizer: optax.GradientTransformation,
  abstract: TrainState,
  trained: Callable[[Any], Any],
) -> Callable[[jax.Array], TrainState]:
  """Returns the function rng → fresh state; every array is created directly on the devices that hold it."""

  def init(rng):
    params = flax.core.meta.unbox(init_params(rng))
    # The average starts as a copy: donating the state must not donate the same buffer twice.
    ema = None if abstract.ema is None else jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(trained(params)), ema)

  return jax.jit(init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))
