"""Evidence for a class in an image: Grad-CAM (Selvaraju et al., 2017, section 3)."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.saved.pretrained import Model
from swin_jax.terminal.errors import BadInput


class GradCam(NamedTuple):
  """The Grad-CAM of one image.

  Attributes:
    heat: float32 [H, W] ≥ 0, on the map of a stage.
    stride: side of a token of that map, in pixels.
    label: the class.
    probability: of the class.
  """

  heat: np.ndarray
  stride: int
  label: int
  probability: float


def image_classes(model: Model) -> int:
  """Returns the number of classes of whole images; 0 for a model without any."""
  return 0 if model.kind.needs.per_pixel else len(model.class_names)


def grad_cam(
  model: Model, params: Any, image: np.ndarray, label: int | None = None, stage: int | None = None
) -> GradCam:
  """Computes Grad-CAM of one image.

  The channels of a stage's output are summed, each weighted by the mean gradient of the class's logit with
  respect to it; negative sums, evidence against the class, become zero.

  Args:
    model, params: from `swin_jax.load`; a classifier.
    image: float32 [height, width, bands], 0..1, as from `images.read`.
    label: class; None for the predicted one.
    stage: whose output is used; None for the last, as in the paper.

  Raises:
    BadInput: there is no such class or stage.
  """
  classes, encoder = image_classes(model), model.module.encoder
  if not classes:
    raise BadInput("the model has no head, so it has no classes to explain; use a fine-tuned model")
  if label is not None and not 0 <= label < classes:
    raise BadInput(f"the model has no class {label}; it has classes 0 to {classes - 1}")
  stage = len(encoder.levels) - 1 if stage is None else stage
  model.check_stage(stage)
  heat, label, probability = _grad_cam(
    model, params, model.normalise(image)[None], -1 if label is None else label, stage
  )
  return GradCam(np.asarray(heat), encoder.levels[stage].stride[0], int(label), float(probability))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _grad_cam(model, params, images, label, stage):
  def logit(change):  # `change` is added to every token of the output, so its gradient is the sum over tokens
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
