"""The pooled features that a trained model gives the images of a set, over all devices."""

from collections.abc import Mapping, Sequence
import os
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from swin_jax.data.feed import pipeline
from swin_jax.data.read import class_names, sources
from swin_jax.data.read.decoding import DecodeImage
from swin_jax.data.read.example import Source
from swin_jax.data.view.views import EvalView, Labelled
from swin_jax.mesh import sharding
from swin_jax.saved.pretrained import Model
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress

_IMAGES = 64  # on each device at once
_MAX_BAD_FRACTION = 0.01  # of unreadable images
# How evaluation shows whole images, where the model does not say it.
_VIEW = {"eval_crop_fraction": 0.875, "interpolation": "bicubic"}


class Features(NamedTuple):
  """The features of the labelled images of a split: float32 [n, d], and their classes, int [n]."""

  values: np.ndarray
  labels: np.ndarray


def open_sources(path: str, splits: tuple[str, str]) -> list[Source]:
  """Opens the images to learn from and to classify: of a prepared set, a folder or a file, or "digits".

  Raises:
    BadInput: see `sources.open_sources`; a split has no classes, or they have none in common.
  """
  name = "folder"
  if path == "digits" and not os.path.exists(path):
    name, path = "digits", ""
  elif path.endswith(".npz"):
    name = "npz"
  elif os.path.isdir(path) and any(file.endswith(".array_record") for file in os.listdir(path)):
    name = "array_record"
  opened = sources.open_sources(name, path, splits)
  for split, source in zip(splits, opened, strict=True):
    if not source.class_names:
      raise BadInput(
        f"split '{split}' of {path} has no classes, so there is nothing to compare features with"
      )
  learned, asked = (source.class_names for source in opened)
  if not set(learned) & set(asked):
    raise BadInput(
      f"splits '{splits[0]}' ({class_names.listed(learned)}) and '{splits[1]}' ({class_names.listed(asked)})"
      f" of {path} have no class in common"
    )
  return opened


def view(model: Model, augment: Mapping[str, Any]) -> EvalView:
  """Returns how evaluation shows whole images to a model.

  Args:
    model: the model.
    augment: group of its run's config, as far as it is known.

  Raises:
    BadInput: the model is one of clips.
  """
  if len(model.image_size) != 2:
    raise BadInput(f"the model reads clips of {model.image_size}, not images")
  known = {key: augment.get(key, default) for key, default in _VIEW.items()}
  return EvalView(model.image_size, known["eval_crop_fraction"], known["interpolation"])


def of_source(
  model: Model, params: Any, source: Source, image_view: EvalView, split: str, classes: Sequence[str]
) -> Features:
  """Computes the features of every readable image of one of these classes; their places are the labels.

  Raises:
    BadInput: too many images cannot be read, or none has a class.
  """
  mesh = sharding.make_mesh({"data": -1})
  rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
  batch_size = _IMAGES * mesh.size
  data = pipeline.Input(
    train_source=source,
    eval_source=source,
    train_view=Labelled(image_view),
    eval_view=Labelled(image_view),
    decode=DecodeImage(len(model.mean), model.description["data"]["dtype"]),
    seed=0,
    batch_size=batch_size,
    eval_batch_size=batch_size,
    max_bad_fraction=_MAX_BAD_FRACTION,
    num_threads=os.cpu_count(),
    num_workers=0,
  )
  params = jax.device_put(params, everywhere)
  compute = jax.jit(lambda params, images: model.pooled(params, model.normalise(images)), out_shardings=rows)
  label_of = np.asarray(class_names.match(source.class_names, classes))
  progress = Progress(f"features of split '{split}'", -(-len(source) // batch_size), "batches")
  values, labels = [], []
  for host, batch in data.evaluation(rows):
    label = np.where(host["label"] < 0, -1, label_of[host["label"]])
    kept = (host["weight"] > 0) & (label >= 0)
    values.append(np.asarray(compute(params, batch["image"]))[kept])
    labels.append(label[kept])
    progress.step()
  if not sum(map(len, labels)):
    raise BadInput(f"no image of split '{split}' has a class")
  return Features(np.concatenate(values), np.concatenate(labels))
