"""Image classification."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from swin_jax.models.backbone import Backbone
from swin_jax.models.heads import Classifier
from swin_jax.ops import mixing
from swin_jax.tasks.task import Task


def make_task(
  encoder: Backbone,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  num_classes: int,
  label_smoothing: float,
  mixup_alpha: float,
  cutmix_alpha: float,
  erase_probability: float,
) -> Task:
  """Classification by a linear head on the pooled features of a backbone.

  Args:
    encoder: the backbone.
    mean, std: of the images, per band.
    num_classes: of the head.
    label_smoothing: ε; a target is 1 - ε + ε / classes for its class and ε / classes for the others.
    mixup_alpha, cutmix_alpha: see `mixing.mix`.
    erase_probability: see `mixing.erase`.
  """
  model = Classifier(encoder, num_classes)

  def init(rng, batch):
    return model.init(rng, mixing.normalise(batch["image"], mean, std))["params"]

  def loss(params, batch, rng):
    mix_rng, erase_rng, dropout_rng = jax.random.split(rng, 3)
    images = mixing.normalise(batch["image"], mean, std)
    targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], num_classes), label_smoothing)
    images = mixing.erase(images, erase_rng, erase_probability) if erase_probability else images
    images, targets = mixing.mix(images, targets, mix_rng, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
    logits, losses = model.apply({"params": params}, images, train=True, rngs={"dropout": dropout_rng})
    value = jnp.mean(optax.softmax_cross_entropy(logits, targets))
    return value, {"loss": (value, jnp.ones(()))}, losses

  def eval_sums(params, batch):
    logits = model.apply({"params": params}, mixing.normalise(batch["image"], mean, std))
    label, weight = batch["label"], batch["weight"]
    count = jnp.sum(weight)
    # Among equal scores the label counts as last, so an output that is constant, or NaN, scores 0 and not 1.
    rank = jnp.sum(~(logits < jnp.take_along_axis(logits, label[:, None], axis=1)), axis=1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    sums = {
      "loss": jnp.sum(losses * weight),
      "top1": jnp.sum((rank <= 1) * weight),
      "top5": jnp.sum((rank <= 5) * weight),
    }
    return {name: (value, count) for name, value in sums.items()}

  return Task(model, init, loss, eval_sums, None, ("eval/top1", True), encoder.flops)
