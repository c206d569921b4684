"""Builds the mesh, model, optimizer and train step that a config describes, without computing anything.

Apart from the rest of `run/` and `plan/`, only the functions of a `TaskKind` or `BackboneKind` read a whole
config. The modules below them receive config groups or plain values.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from swin_jax.mesh import sharding
from swin_jax.models import backbone_of
from swin_jax.run import config as run_config
from swin_jax.run import optim
from swin_jax.run.state import TrainState, abstract_state, make_init
from swin_jax.run.step import FORWARD_PASSES, make_step
from swin_jax.tasks import kind_of
from swin_jax.tasks.task import Measured, Task


class Program(NamedTuple):
  """The functions and shardings of a run on given devices; nothing is computed or allocated yet.

  Attributes:
    task: model and objective.
    mesh, rules: mesh and sharding rules; trace the functions below in `sharding.trace_on(mesh, rules)`.
    batch_sharding, eval_batch_sharding: sharding of every array of a training or evaluation batch.
    batch: abstract training batch with shardings.
    state: abstract `TrainState` with shardings.
    gradients: abstract gradients with shardings.
    init: () → newly initialised state.
    step: (state, batch) → (state, sums).
    eval_step: (params, batch) → `Measured`; its sums are replicated, its rows are sharded like the batch.
    pictures: (params, batch) → uint8 pictures; None if the run logs none.
    flops: FLOPs of the forward pass of one image.
    train_flops: FLOPs of a train step for one image.
  """

  task: Task
  mesh: jax.sharding.Mesh
  rules: tuple
  batch_sharding: jax.sharding.NamedSharding
  eval_batch_sharding: jax.sharding.NamedSharding
  batch: dict[str, jax.ShapeDtypeStruct]
  state: TrainState
  gradients: Any
  init: Callable[[], TrainState]
  step: Any
  eval_step: Any
  pictures: Any
  flops: int
  train_flops: int


def build(
  config: ConfigDict, steps_per_epoch: int, total_steps: int, devices: Sequence[jax.Device] | None = None
) -> Program:
  """Builds the functions and shardings of a run.

  Args:
    config: resolved config.
    steps_per_epoch, total_steps: determine the learning-rate schedule.
    devices: devices of the mesh; None for all devices of the run. Given devices may stand in for others, as
      in a plan, so their platform is not checked.

  Raises:
    BadInput: the config does not fit the devices.
  """
  # Mesh and sharding.
  mesh = sharding.make_mesh(config.mesh, devices)
  rules = sharding.whole_parameters(config.sharding_rules) if config.zero1 else config.sharding_rules
  part = config.data.batch_size // config.optim.accumulation_steps
  batch_sharding = sharding.shard_batch(mesh, rules, part, "data.batch_size / optim.accumulation_steps")
  eval_batch_sharding = sharding.shard_batch(mesh, rules, config.data.eval_batch_size, "data.eval_batch_size")

  # Model.
  kind, backbone_kind = kind_of(config), backbone_of(config)
  if devices is None:
    backbone_kind.check_platform(config, mesh.devices.flat[0].platform)
  backbone = backbone_kind.make(config, mesh.devices.flat[0])
  task, fields = kind.make(backbone, config), kind.fields(config)
  parts = sharding.batch_parts(mesh, rules)
  batch = {
    name: jax.ShapeDtypeStruct((config.data.batch_size, *shape), dtype, sharding=batch_sharding)
    for name, (shape, dtype) in fields.items()
  }

  def init_params(rng):
    return task.init(
      rng, {name: jnp.zeros((parts, *shape), dtype) for name, (shape, dtype) in fields.items()}
    )

  # Optimizer and state.
  rate, peak_lr = run_config.learning_rate(config, steps_per_epoch, total_steps)
  o = config.optim

  def make_optimizer(params):
    return optim.make_optimizer(
      params,
      rate,
      peak_lr=peak_lr,
      weight_decay=o.weight_decay,
      backbone=backbone,
      layer_decay=o.layer_decay,
      decay_rules=optim.decay_rules(backbone_kind.decay(config)),
      clip_norm=o.clip_norm,
      b1=o.b1,
      b2=o.b2,
      eps=o.eps,
    )

  trained = functools.partial(optim.trained, freeze_encoder=o.freeze_encoder)
  state, optimizer, gradients = abstract_state(
    init_params, make_optimizer, o.ema_decay > 0, mesh, rules, config.sharding_rules, trained
  )
  state_shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
  init = make_init(init_params, optimizer, state, trained)

  # Steps.
  step = make_step(
    task,
    kind.augment(config),
    optimizer,
    lambda opt_state: optim.next_rate(opt_state, rate, peak_lr),
    jax.tree.map(lambda leaf: leaf.sharding, gradients),
    trained=trained,
    seed=config.seed,
    accumulation_steps=o.accumulation_steps,
    ema_decay=o.ema_decay,
  )

  def first_pictures(params, batch):
    count = config.log.num_pictures
    images = jax.tree.map(lambda x: x[: -(-count // parts) * parts], batch)  # same number per device
    return task.pictures(params, images, config.log.picture_bands)[:count]

  size = config.data.image_size, len(config.data.mean)
  flops, frozen_flops = task.flops(*size), backbone.flops(*size) if o.freeze_encoder else 0
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  shows_pictures = task.pictures is not None and config.log.num_pictures > 0
  on_params = dict(in_shardings=(state_shardings.params, eval_batch_sharding))
  return Program(
    task=task,
    mesh=mesh,
    rules=rules,
    batch_sharding=batch_sharding,
    eval_batch_sharding=eval_batch_sharding,
    batch=batch,
    state=state,
    gradients=gradients,
    init=lambda: init(jax.random.key(config.seed)),
    step=jax.jit(
      step,
      in_shardings=(state_shardings, batch_sharding),
      out_shardings=(state_shardings, everywhere),
      donate_argnums=0,
    ),
    eval_step=jax.jit(task.measure, **on_params, out_shardings=Measured(everywhere, eval_batch_sharding)),
    pictures=jax.jit(first_pictures, **on_params, out_shardings=everywhere) if shows_pictures else None,
    flops=flops,
    train_flops=FORWARD_PASSES * flops - (FORWARD_PASSES - 1) * frozen_flops,
  )
