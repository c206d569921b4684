"""Learning-rate schedules, weight-decay rules, layer-wise rates, and the optimizer chain (AdamW as in the
official recipes).
"""

from collections.abc import Sequence
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from swin_jax.mesh import sharding
from swin_jax.models.backbone import Backbone

# (pattern of a parameter's path, whether weight decay applies). The first full match wins, and every
# parameter must match a rule.
DecayRules = Sequence[tuple[str, bool]]
_DECAY_RULES = ((r".*/(bias|scale|mean|variance)", False), (r"(.*/)?mask_token", False), (r".*/kernel", True))

WITH_FLOOR, WITH_MILESTONES = ("cosine", "polynomial"), ("step", "multistep")
SCHEDULES = (*WITH_FLOOR, "linear", *WITH_MILESTONES)  # the first end at `min_lr`


ENCODER = "encoder"  # name of the backbone among the parameters of every model


def trained(params: dict[str, Any], freeze_encoder: bool) -> dict[str, Any]:
  """Returns the parameters that are trained: all, or all but those of the encoder."""
  return {name: tree for name, tree in params.items() if not (freeze_encoder and name == ENCODER)}


def learning_rate(
  step,
  peak,
  *,
  schedule: str,
  total_steps: int,
  warmup_steps: int,
  warmup_lr: float,
  min_lr: float,
  milestones: Sequence[int],
  decay_rate: float,
):
  """Returns the learning rate of an update under one of the official schedules.

  All are affine in the peak, so that layer-wise peaks share the start of the warm-up and the floor. Each
  starts with a linear warm-up from `warmup_lr`. Over the remaining steps, "cosine" falls to `min_lr`;
  "linear" falls to 1 % of the peak; "polynomial", with power 1, falls linearly to `min_lr`; "step" multiplies
  by `decay_rate` every milestones[0] steps, counted from step 0; "multistep" multiplies by `decay_rate` at
  each milestone.

  Args:
    step: number of updates done, scalar.
    peak: rate after warm-up, scalar or array.
    schedule: one of `SCHEDULES`.
    total_steps, warmup_steps: in updates; the total includes warm-up.
    warmup_lr, min_lr: rates, scalars.
    milestones: in updates.
    decay_rate: factor of "step" and "multistep".

  Returns:
    The rate of this update, of the shape of `peak`.

  Raises:
    ValueError: there is no such schedule.
  """
  step = jnp.asarray(step, jnp.float32)
  progress = jnp.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0.0, 1.0)
  if schedule == "cosine":
    rate = min_lr + 0.5 * (peak - min_lr) * (1.0 + jnp.cos(jnp.pi * progress))
  elif schedule == "linear":
    rate = peak * (1.0 - 0.99 * progress)
  elif schedule == "polynomial":
    rate = min_lr + (peak - min_lr) * (1.0 - progress)
  elif schedule == "step":
    rate = peak * decay_rate ** jnp.floor(step / milestones[0])
  elif schedule == "multistep":
    rate = peak * decay_rate ** jnp.sum(step >= jnp.asarray(milestones, jnp.float32))
  else:
    raise ValueError(f"unknown schedule '{schedule}'; known are {', '.join(SCHEDULES)}")
  warmup = warmup_lr + step * (peak - warmup_lr) / max(warmup_steps, 1)
  return jnp.where(step < warmup_steps, warmup, rate)


def decay_rules(own: DecayRules) -> DecayRules:
  """Returns the rules for all parameters: first `own`, those of the backbone (`BackboneKind.decay`)."""
  return (*own, *_DECAY_RULES)


def decay_mask(params: Any, rules: DecayRules) -> Any:
  """Returns the tree of params with True where weight decay applies.

  Raises:
    ValueError: no rule covers a parameter.
  """

  def applies(path, _):
    name = sharding.path_name(path)
    for pattern, decays in rules:
      if re.fullmatch(pattern, name):
        return decays
    raise ValueError(f"no weight-decay rule covers the parameter {name}")

  return jax.tree_util.tree_map_with_path(applies, params)


def layer_scales(params: Any, backbone: Backbone, decay: float) -> Any:
  """Returns the layer-wise learning-rate factors decay^(number of layers above).

  The backbone numbers the layers. The mask token replaces patch embeddings, so it has the factor of the first
  layer; heads have the factor 1.

  Returns:
    The tree of params with a float per leaf, or a float32 array [groups, 1, …] where the leaf stacks the
    blocks of a stage.
  """

  def scale(path, leaf):
    name = sharding.path_name(path)
    if name == "mask_token":
      return decay**backbone.num_layers
    if not name.startswith(f"{ENCODER}/"):
      return 1.0
    factor = decay ** (backbone.num_layers - backbone.layer_of(name.removeprefix(f"{ENCODER}/")))
    if isinstance(factor, float):
      return factor
    return factor.astype(np.float32).reshape(-1, *(1,) * (leaf.ndim - 1))

  return jax.tree_util.tree_map_with_path(scale, params)


def make_optimizer(
  params: Any,
  rate,
  *,
  peak_lr: float,
  weight_decay: float,
  decay_rules: DecayRules,
  backbone: Backbone,
  layer_decay: float,
  clip_norm: float,
  b1: float,
  b2: float,
  eps: float,
) -> optax.GradientTransformation:
  """Returns the optimizer: clipping by global norm, Adam, decoupled weight decay, layer-wise learning rates.

  Args:
    params: those that are trained, abstract or real; names and shapes determine decay and layer.
    rate: (step, peak) → learning rate; see `learning_rate`.
    peak_lr: peak rate of the top layer.
    weight_decay: of AdamW, multiplied by the learning rate in each update.
    decay_rules: rules for all parameters, see `decay_rules`.
    backbone: numbers the layers.
    layer_decay: factor from the rate of a layer to that of the layer below.
    clip_norm: largest global norm of the gradient; 0 for no clipping.
    b1, b2, eps: of Adam.
  """
  scales = layer_scales(params, backbone, layer_decay)
  distinct = np.unique(np.concatenate([np.ravel(scale) for scale in jax.tree.leaves(scales)]))

  def scale_by_rates(updates, state, params=None):
    del params
    # The schedule is evaluated once per distinct factor, not once per parameter.
    rates = -rate(state.count, peak_lr * distinct.astype(np.float32))
    updates = jax.tree.map(
      lambda update, scale: rates[np.searchsorted(distinct, scale)] * update, updates, scales
    )
    return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))

  return optax.chain(
    optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
    optax.scale_by_adam(b1, b2, eps),
    optax.add_decayed_weights(weight_decay, decay_mask(params, decay_rules)),
    optax.GradientTransformation(
      lambda _: optax.ScaleByScheduleState(jnp.zeros([], jnp.int32)), scale_by_rates
    ),
  )


def next_rate(opt_state: Any, rate, peak_lr: float) -> jax.Array:
  """Returns the learning rate that the next update applies to the top layer; skipped steps do not count."""
  return rate(opt_state[-1].count, peak_lr)
