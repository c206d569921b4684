"""What in an image speaks for a class: Grad-CAM (Selvaraju et al., 2017, section 3)."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.saved.pretrained import Model
from swin_jax.terminal.errors import BadInput


class GradCam(NamedTuple):
  """Heat [H, W] ≥ 0 on the map of a stage with a token for each stride × stride pixels, the class it is of
  and its probability.
  """

  heat: np.ndarray
  stride: int
  label: int
  probability: float


def image_classes(model: Model) -> int:
  """Returns how many classes of whole images a model tells apart; 0 for none."""
  return 0 if model.kind.pixels else len(model.class_names)


def grad_cam(
  model: Model, params: Any, image: np.ndarray, label: int | None = None, stage: int | None = None
) -> GradCam:
  """Grad-CAM of one image.

  The channels of a stage's output, each weighed by the mean gradient of the class's logit with respect to it,
  are added up; what speaks against the class counts as nothing.

  Args:
    model, params: of `swin_jax.load`; a classifier.
    image: float32 [height, width, bands], 0..1, as of `images.read`.
    label: class; None for the one that the model takes it for.
    stage: whose output; None for the last, as in the paper.

  Raises:
    BadInput: there is no such class or stage.
  """
  classes, encoder = image_classes(model), model.module.encoder
  if not classes:
    raise BadInput("the model has no head, so there is no class to look for; take a fine-tuned one")
  if label is not None and not 0 <= label < classes:
    raise BadInput(f"there is no class {label}; the model has classes 0 to {classes - 1}")
  stage = len(encoder.levels) - 1 if stage is None else stage
  model.check_stage(stage)
  heat, label, probability = _grad_cam(
    model, params, model.normalise(image)[None], -1 if label is None else label, stage
  )
  return GradCam(np.asarray(heat), encoder.levels[stage].stride[0], int(label), float(probability))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _grad_cam(model, params, images, label, stage):
  def logit(change):  # added to every token of the output: its gradient is the sum of theirs
    features = []

    def add(run, args, kwargs, context):
      out = run(*args, **kwargs)
      if context.module.name != f"stage{stage}":
        return out
      map_, *rest = out if isinstance(out, tuple) else (out,)
      features.append(map_)
      return (map_ + change, *rest) if rest else map_ + change

    with nn.intercept_methods(add):
      logits = model.module.apply({"params": params}, images)[0]
    chosen = jnp.where(label < 0, jnp.argmax(logits), label)
    return logits[chosen], (features[0], chosen, jax.nn.softmax(logits)[chosen])

  encoder = model.module.encoder
  change = jnp.zeros((1, 1, 1, encoder.levels[stage].channels), encoder.dtype)
  gradient, (features, label, probability) = jax.grad(logit, has_aux=True)(change)
  weights = gradient / (features.shape[1] * features.shape[2])
  return jax.nn.relu(jnp.sum(weights * features, axis=-1))[0].astype(jnp.float32), label, probability
