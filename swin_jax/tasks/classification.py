"""Image classification."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from swin_jax.data.read.targets import Target
from swin_jax.data.view.views import Labelled
from swin_jax.models.backbone import Backbone, Settings
from swin_jax.models.heads import Classifier
from swin_jax.ops import mixing
from swin_jax.tasks import image_input, ranking
from swin_jax.tasks.task import Fields, Measured, Outputs, Task, TaskKind
from swin_jax.terminal import rules

_TOP = 5  # top-5 accuracy needs more classes


def make_task(
  model: Classifier,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  label_smoothing: float,
  mixup_alpha: float,
  cutmix_alpha: float,
  erase_probability: float,
) -> Task:
  """Returns the task of classifying images with a linear head on the pooled features of a backbone.

  Args:
    model: backbone and head.
    mean, std: per band, used to normalise the images.
    label_smoothing: ε; the target is 1 - ε + ε / classes for the true class and ε / classes for the others.
    mixup_alpha, cutmix_alpha: see `mixing.mix`.
    erase_probability: see `mixing.erase`.
  """

  def init(rng, batch):
    return model.init(rng, mixing.normalise(batch["image"], mean, std))["params"]

  def prepare(batch, rng):
    mix_rng, erase_rng, _ = jax.random.split(rng, 3)
    images = mixing.normalise(batch["image"], mean, std)
    targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], model.num_classes), label_smoothing)
    images = mixing.erase(images, erase_rng, erase_probability) if erase_probability else images
    images, targets = mixing.mix(images, targets, mix_rng, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
    return {"image": images, "target": targets}

  def loss(params, batch, rng):
    mixed, dropout_rng = prepare(batch, rng), jax.random.split(rng, 3)[2]
    rngs = {"dropout": dropout_rng}
    logits, losses = model.apply({"params": params}, mixed["image"], train=True, rngs=rngs)
    value = jnp.mean(optax.softmax_cross_entropy(logits, mixed["target"]))
    return value, {"loss": (value, jnp.ones(()))}, losses

  def measure(params, batch):
    logits = model.apply({"params": params}, mixing.normalise(batch["image"], mean, std))
    label, weight = batch["label"], batch["weight"]
    count = jnp.sum(weight)
    # Ties rank the true class last, so a constant or NaN output has an accuracy of 0 rather than 1.
    rank = jnp.sum(~(logits < jnp.take_along_axis(logits, label[:, None], axis=1)), axis=1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    each = jax.nn.one_hot(label, model.num_classes) * weight[:, None]
    sums = {
      "loss": jnp.sum(losses * weight),
      "top1": jnp.sum((rank <= 1) * weight),
      "majority_share": jnp.sum(each, axis=0),
    }
    if model.num_classes > _TOP:
      sums["top5"] = jnp.sum((rank <= _TOP) * weight)
    rows = {"logits": logits, "label": label}
    return Measured({name: (value, count) for name, value in sums.items()}, rows)

  return Task(model, init, prepare, loss, measure, model.encoder.flops, row_metrics=ranking.ONE_VS_REST)


def _make(backbone: Backbone, config: ConfigDict) -> Task:
  c = config.classification
  return make_task(
    _module(backbone, config),
    mean=config.data.mean,
    std=config.data.std,
    label_smoothing=c.label_smoothing,
    mixup_alpha=c.mixup_alpha,
    cutmix_alpha=c.cutmix_alpha,
    erase_probability=c.erase_probability,
  )


def _fields(config: ConfigDict) -> Fields:
  return image_input.fields(config) | {"label": ((), jnp.int32)}


def _views(config: ConfigDict) -> tuple[Labelled, Labelled]:
  return tuple(map(Labelled, image_input.image_views(config)))


def _module(backbone: Backbone, settings: Settings) -> Classifier:
  return Classifier(backbone, settings["classification"]["num_classes"])


def _metrics(settings: Settings) -> dict[str, bool]:
  """Returns the metrics that can rank evaluations; the number of classes is 0 before the data is opened."""
  top5 = {} if 0 < settings["classification"]["num_classes"] <= _TOP else {"top5": True}
  return {"top1": True, **top5, **dict.fromkeys(ranking.ONE_VS_REST.names, True), "loss": False}


def _outputs(settings: Settings) -> Outputs:
  """Returns logits [B, num_classes] float32; without a head, pooled features [B, C]."""
  return Outputs("logits" if settings["classification"]["num_classes"] else "pooled")


def _summarise(settings: Settings) -> str:
  classes = settings["classification"]["num_classes"]
  return f"classifier of {classes} classes" if classes else "backbone without head"


KIND = TaskKind(
  needs=Target.CLASS,
  group="classification",
  reads=("classification", *image_input.READS),
  fields=_fields,
  views=_views,
  augment=image_input.augment,
  rules={
    **image_input.RULES,
    "classification.num_classes": rules.Whole(0, 1_000_000),
    "classification.label_smoothing": rules.Real(0, 0.99),
    "classification.mixup_alpha": rules.Real(0.01, 100, or_zero=True),
    "classification.cutmix_alpha": rules.Real(0.01, 100, or_zero=True),
    "classification.erase_probability": rules.Real(0, 1),
  },
  check=image_input.check,
  warnings=image_input.warnings,
  module=_module,
  make=_make,
  metrics=_metrics,
  describe={"classification": ("num_classes",)},  # 0: no head; the model returns pooled features
  outputs=_outputs,
  summarise=_summarise,
  class_layers=("head",),
)
