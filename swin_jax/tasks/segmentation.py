"""Semantic segmentation with UPerNet: one class per pixel (Swin V1, section 4.3; Swin V2, section 4.1)."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import optax

from swin_jax.data.read.decoding import DecodeMapped
from swin_jax.data.read.labels import NONE
from swin_jax.data.read.targets import Target
from swin_jax.drawing import label_pictures, legend
from swin_jax.drawing import pixels as drawn
from swin_jax.models import upernet
from swin_jax.models.backbone import Backbone, Settings
from swin_jax.ops import mixing
from swin_jax.tasks import dense, pixel_input
from swin_jax.tasks.task import Drawing, Measured, Outputs, PixelAnswers, Task, TaskKind, normalised
from swin_jax.terminal import rules


def make_task(
  model: upernet.UPerNet, *, mean: Sequence[float], std: Sequence[float], views: dense.TestTimeViews
) -> Task:
  """Returns the task of semantic segmentation with UPerNet.

  Args:
    model: backbone and head.
    mean, std: per band, used to normalise the images.
    views: views that evaluation averages over.
  """

  def probabilities(params, batch):
    return dense.predict(
      functools.partial(model.apply, {"params": params}), mixing.normalise(batch["image"], mean, std), views
    )

  def init(rng, batch):
    return model.init(rng, mixing.normalise(batch["image"], mean, std))["params"]

  def loss(params, batch, rng):
    images = mixing.normalise(batch["image"], mean, std)
    both, losses = model.apply({"params": params}, images, train=True, rngs={"dropout": rng})
    main, auxiliary = (cross_entropy(logits, batch["label_map"]) for logits in both)
    value, one = main + upernet.AUXILIARY_WEIGHT * auxiliary, jnp.ones(())
    sums = {"loss": (value, one), "main_loss": (main, one), "auxiliary_loss": (auxiliary, one)}
    return value, sums, losses

  def measure(params, batch):
    predictions = probabilities(params, batch)
    labels = jnp.where(batch["weight"][:, None, None] > 0, batch["label_map"].astype(jnp.int32), NONE)
    known = labels != NONE
    right = jnp.take_along_axis(predictions, jnp.where(known, labels, 0)[..., None], axis=-1)[..., 0]
    losses = jnp.where(known, -jnp.log(jnp.maximum(right, 1e-12)), 0.0)
    confusion = confusion_matrix(labels, jnp.argmax(predictions, axis=-1), model.num_classes)
    return Measured({"loss": (jnp.sum(losses), jnp.sum(known)), **score_sums(confusion)})

  def pictures(params, batch, bands=()):
    classes, valid = jnp.argmax(probabilities(params, batch), axis=-1), batch.get("valid")
    classes = classes if valid is None else jnp.where(valid, classes, NONE)
    pixels = drawn.as_rgb(mixing.normalise(batch["image"], mean, std), valid, mean, std, bands)
    truth, inside = batch["label_map"].astype(jnp.int32), drawn.inside(batch.get("extent"), pixels)
    return label_pictures.label_panels(pixels, classes, truth, model.num_classes, inside)

  return Task(
    model,
    init,
    normalised(mean, std),
    loss,
    measure,
    functools.partial(upernet.flops, model),
    pictures,
    pictures_show="segmentation",
    titles=drawn.TITLES,
    legend=legend.with_legend,
    exchanged=functools.partial(upernet.exchanged, model),
  )


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the mean cross-entropy over all pixels of the batch that have a class; 0 if none has.

  Args:
    logits: float32 [B, H, W, classes]; resized here to the size of the labels.
    labels: int [B, height, width], NONE where a pixel has no class.
  """
  known = labels != NONE
  logits = dense.resize(logits, labels.shape[1:3])
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.where(known, labels, 0).astype(jnp.int32)
  )
  return jnp.sum(jnp.where(known, losses, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def confusion_matrix(labels: jax.Array, predicted: jax.Array, num_classes: int) -> jax.Array:
  """Returns the confusion matrix, int32 [classes, classes].

  Row i, column j counts the pixels of class i that are predicted as class j. Pixels without a class are
  ignored.

  Args:
    labels, predicted: int, of one shape; NONE in the labels where a pixel has no class.
    num_classes: number of classes.
  """
  # An extra last bin collects the pixels without a class; it is dropped below.
  place = jnp.where(labels == NONE, num_classes**2, labels * num_classes + predicted)
  counts = jnp.zeros((num_classes**2 + 1,), jnp.int32).at[place.ravel()].add(1)
  return counts[:-1].reshape(num_classes, num_classes)


def score_sums(confusion: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Returns the sums of the segmentation metrics from a confusion matrix.

  Returns:
    iou: intersection and union per class, [classes] each.
    pixel_accuracy: number of correct pixels and of all pixels.
    majority_share: number of pixels of each class, [classes], and of all pixels.
  """
  right = jnp.diagonal(confusion)
  union = jnp.sum(confusion, axis=0) + jnp.sum(confusion, axis=1) - right
  shares = {"pixel_accuracy": jnp.sum(right), "majority_share": jnp.sum(confusion, axis=1)}
  return {"iou": (right, union)} | {name: (value, jnp.sum(confusion)) for name, value in shares.items()}


def to_map(scores: np.ndarray) -> np.ndarray:
  """Returns the class with the largest score per pixel, uint8 [height, width].

  Args:
    scores: [height, width, classes].
  """
  return scores.argmax(-1).astype(np.uint8)


def draw(
  settings: Settings,
  class_names: Sequence[str],
  pixels: jax.Array,
  predictions: np.ndarray,
  truth: np.ndarray | None,
) -> Drawing:
  """Draws the predicted classes of the pixels over their image; see `task.PixelAnswers`."""
  del settings
  known = np.full(predictions.shape, NONE) if truth is None else truth.astype(np.int32)
  panels = label_pictures.label_panels(
    pixels, predictions[None].astype(np.int32), known[None], len(class_names)
  )
  shown = sorted({*np.unique(predictions), *np.unique(known)} - {NONE})
  labelled = known != NONE
  wrong = np.mean((known != predictions)[labelled]) if labelled.any() else 0
  return Drawing(
    np.asarray(panels)[0],
    None if truth is None else f"{wrong:.1%} of pixels",
    lambda picture: legend.with_legend(picture, class_names, shown, errors=truth is not None),
  )


def _module(backbone: Backbone, settings: Settings) -> upernet.UPerNet:
  return upernet.UPerNet(backbone, **settings["segmentation"])


def _make(backbone: Backbone, config: ConfigDict) -> Task:
  views = pixel_input.test_time_views(config)
  return make_task(_module(backbone, config), mean=config.data.mean, std=config.data.std, views=views)


def _outputs(settings: Settings) -> Outputs:
  """Returns logits [B, H, W, num_classes], for each patch."""
  del settings
  return Outputs("logits")


KIND = TaskKind(
  needs=Target.LABELS,
  group="segmentation",
  reads=("segmentation", *pixel_input.READS),
  fields=lambda config: pixel_input.fields(config, "label_map", jnp.uint8),
  views=lambda config: pixel_input.views(config, "label_map"),
  decode=DecodeMapped,
  augment=pixel_input.augment,
  rules={
    **pixel_input.RULES,
    "segmentation.num_classes": rules.Whole(0, NONE),
    **{f"segmentation.{key}": rule for key, rule in pixel_input.HEAD.items()},
  },
  check=lambda config: pixel_input.check(config, "segmentation"),
  warnings=pixel_input.warnings,
  check_saved=lambda settings: pixel_input.check_head(settings, "segmentation"),
  module=_module,
  make=_make,
  metrics=lambda settings: {"mean_iou": True, "pixel_accuracy": True, "iou/": True, "loss": False},
  describe={"segmentation": ("num_classes", *pixel_input.HEAD), **pixel_input.DESCRIBE},
  outputs=_outputs,
  summarise=lambda settings: f"UPerNet of {settings['segmentation']['num_classes']} classes",
  evaluation=pixel_input.evaluation,
  head=tuple(pixel_input.HEAD),
  class_layers=("classifier", "auxiliary_classifier"),
  defaults_of_old_formats=pixel_input.OLD_HEAD,
  pixels=PixelAnswers("segment", "class", to_map, draw),
)
