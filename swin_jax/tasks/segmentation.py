"""Semantic segmentation: a class for every pixel, by UPerNet (Swin V1, section 4.3; Swin V2, section 4.1)."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
import optax

from swin_jax.data.read.labels import NONE
from swin_jax.drawing import label_pictures, legend
from swin_jax.drawing.pixels import as_rgb
from swin_jax.models import upernet
from swin_jax.models.backbone import Backbone
from swin_jax.ops import mixing
from swin_jax.ops.pixels import holds_data, valid
from swin_jax.tasks import dense
from swin_jax.tasks.task import Task


def make_task(
  encoder: Backbone,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  num_classes: int,
  channels: int,
  views: dense.Views,
) -> Task:
  """Segmentation by UPerNet on a backbone.

  Args:
    encoder: the backbone.
    mean, std: of the images, per band.
    num_classes, channels: of the head, see `upernet.UPerNet`.
    views: of evaluation.
  """
  model = upernet.UPerNet(encoder, num_classes, channels)

  def probabilities(params, batch):
    return dense.predict(
      functools.partial(model.apply, {"params": params}), mixing.normalise(batch["image"], mean, std), views
    )

  def init(rng, batch):
    return model.init(rng, mixing.normalise(batch["image"], mean, std))["params"]

  def loss(params, batch, rng):
    images = mixing.normalise(batch["image"], mean, std)
    both, losses = model.apply({"params": params}, images, train=True, rngs={"dropout": rng})
    main, auxiliary = (cross_entropy(logits, batch["label"]) for logits in both)
    value, one = main + upernet.AUXILIARY_WEIGHT * auxiliary, jnp.ones(())
    sums = {"loss": (value, one), "main_loss": (main, one), "auxiliary_loss": (auxiliary, one)}
    return value, sums, losses

  def eval_sums(params, batch):
    seen = probabilities(params, batch)
    labels = jnp.where(batch["weight"][:, None, None] > 0, batch["label"].astype(jnp.int32), NONE)
    known = labels != NONE
    right = jnp.take_along_axis(seen, jnp.where(known, labels, 0)[..., None], axis=-1)[..., 0]
    losses = jnp.where(known, -jnp.log(jnp.maximum(right, 1e-12)), 0.0)
    confusion = confusion_matrix(labels, jnp.argmax(seen, axis=-1), num_classes)
    return {"loss": (jnp.sum(losses), jnp.sum(known)), **score_sums(confusion)}

  def pictures(params, batch, bands=()):
    classes = jnp.where(holds_data(batch["image"]), jnp.argmax(probabilities(params, batch), axis=-1), NONE)
    pixels = as_rgb(mixing.normalise(batch["image"], mean, std), valid(batch["image"]), mean, std, bands)
    return label_pictures.label_views(pixels, classes, batch["label"].astype(jnp.int32), num_classes)

  return Task(
    model,
    init,
    loss,
    eval_sums,
    pictures,
    ("eval/mean_iou", True),
    functools.partial(upernet.flops, model),
    pictures_show="segmentation",
    legend=legend.with_legend,
  )


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean over the pixels of the batch that have a class; 0 where none has.

  Args:
    logits: float32 [B, H, W, classes], resized to the labels' size.
    labels: int [B, height, width]; NONE: no class.
  """
  known = labels != NONE
  logits = dense.resize(logits, labels.shape[1:3])
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.where(known, labels, 0).astype(jnp.int32)
  )
  return jnp.sum(jnp.where(known, losses, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def confusion_matrix(labels: jax.Array, predicted: jax.Array, num_classes: int) -> jax.Array:
  """int32 [classes, classes]: in row i, column j the pixels of class i that are taken for j; those without a
  class do not count.

  Args:
    labels, predicted: int, of one shape.
    num_classes: of them.
  """
  # One place more, for what has no class; counted there, so that no pixel changes a place that counts.
  place = jnp.where(labels == NONE, num_classes**2, labels * num_classes + predicted)
  counts = jnp.zeros((num_classes**2 + 1,), jnp.int32).at[place.ravel()].add(1)
  return counts[:-1].reshape(num_classes, num_classes)


def score_sums(confusion: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Sums for the scores of a confusion matrix.

  Returns:
    iou: intersection and union of every class, [classes] each; accuracy: right pixels, and all.
  """
  right = jnp.diagonal(confusion)
  union = jnp.sum(confusion, axis=0) + jnp.sum(confusion, axis=1) - right
  return {"iou": (right, union), "pixel_accuracy": (jnp.sum(right), jnp.sum(confusion))}
