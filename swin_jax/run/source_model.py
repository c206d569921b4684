"""Takes the model of a run from the weights that it starts from (`model_of_source`): sizes, bands and their
normalisation.
"""

from collections.abc import Collection
import os
from typing import Any

from ml_collections import ConfigDict

from swin_jax.data.read import statistics
from swin_jax.models import backbone_name, backbone_of
from swin_jax.models.backbone import Settings
from swin_jax.run import checks
from swin_jax.run.stored import with_tuples
from swin_jax.saved import description, folder
from swin_jax.saved.saved import Saved
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import converted

_EXAMPLE = "runs/own/pretrain"
_NORMALISATION = ("dtype", "mean", "std")


def open_start(config: ConfigDict) -> Saved | None:
  """Opens the weights that a run starts from; None if it starts from scratch.

  Raises:
    BadInput: they cannot be opened, or none are given to take the model from.
  """
  if not config.init_from:
    if config.model_of_source:
      raise BadInput(
        "--config.init_from is missing: this config takes its model from public or trained weights; for"
        f" example --config.init_from={_EXAMPLE}"
      )
    return None
  try:
    return folder.open_saved(converted.path(config.init_from))
  except BadInput as error:
    scratch = "" if config.model_of_source else "; --config.init_from= starts from scratch"
    raise BadInput(f"config.init_from: {error}{scratch}") from error


def with_model(config: ConfigDict, given: Collection[str] = ()) -> ConfigDict:
  """Returns the config of a run that has not begun, with the model of init_from if it takes it from there.

  Raises:
    BadInput: see `open_start`.
  """
  if not config.model_of_source:
    return config
  start = open_start(config)
  return adopt(config, start.config, start.source, given)


def adopt(
  config: ConfigDict, trained: dict[str, Any], source: str, given: Collection[str] = ()
) -> ConfigDict:
  """Returns the config with the model of trained weights.

  Taken are the keys that describe the backbone, the size of the images of a task whose input is whole images,
  the sizes of the head if the weights belong to the same task, and the normalisation of the bands if the data
  can have it.

  Args:
    config: as given.
    trained: config of the weights, or the part of it that a model folder keeps. A run that continues takes
      the model from its own stored config.
    source: name of the weights, for messages.
    given: keys that flags set; they keep their value.

  Raises:
    BadInput: a value of either config is invalid.
  """
  checks.check_values(config)
  kind, settings = kind_of(config), description.describe(trained, source)
  values = dict(backbone_of(settings).describe(settings))
  values["model"] = values["model"] | {"backbone": backbone_name(settings)}
  if kind_of(settings) is kind:
    values[kind.group] = {key: settings[kind.group][key] for key in kind.head}
  if not kind.needs.per_pixel:
    values["data"] = {"image_size": settings["data"]["image_size"]}
  if _fits(config, settings) and not {f"data.{key}" for key in _NORMALISATION}.intersection(given):
    values["data"] = values.get("data", {}) | {key: settings["data"][key] for key in _NORMALISATION}
  config = config.copy_and_resolve_references()
  for group, keys in values.items():
    config[group].update(
      {key: with_tuples(value) for key, value in keys.items() if f"{group}.{key}" not in given}
    )
  return config


def _fits(config: ConfigDict, trained: Settings) -> bool:
  """Returns whether the data can be normalised as that of the weights: its pixels have the same type and, as
  far as its statistics tell, the same number of bands.
  """
  d, dtype, bands = config.data, trained["data"]["dtype"], len(trained["data"]["mean"])
  if d.source != "array_record" or not os.path.exists(statistics.path_of(d.path)):
    return dtype == d.dtype
  measured = statistics.read(d.path)
  in_data = len(measured["mean"])
  if dtype == "uint8":  # grey and RGB images are converted into each other
    return measured["dtype"] == dtype and (in_data == bands or {in_data, bands} <= {1, 3})
  return in_data == bands


def describe(config: ConfigDict, source: Saved) -> list[str]:
  """Returns lines that say which model a run takes from the weights, and what it reads of its own config."""
  settings = description.describe(source.config, source.source)
  summary, taken = backbone_of(config).summarise(config), backbone_of(settings).describe(settings)
  own = [key for key in config.model if key not in taken["model"] and key != "backbone"]
  same = all(with_tuples(settings["data"][key]) == config.data[key] for key in _NORMALISATION)
  bands, trained = len(config.data.mean), settings["data"]
  pixels = " × ".join(map(str, config.data.image_size))
  normalised = "there" if same else "data.mean and data.std of this run say"
  lines = [
    f"the model is that of {source.source}: {summary.name}, {summary.sizes}"
    + (f", {summary.geometry}" if summary.geometry else ""),
    f"images of {pixels} px, {bands} band{'s' * (bands > 1)} normalised as {normalised}"
    + ("" if same else f" (the weights: {trained['dtype']} of {len(trained['mean'])} bands)")
    + f"; of config.model it reads only {', '.join(own)}",
  ]
  return lines


def refuse_flags(config: ConfigDict, keys: Collection[str]) -> None:
  """Refuses flags for keys that describe the weights, where the model is taken from them.

  Raises:
    BadInput: a flag sets such a key.
  """
  backbone = backbone_of(config)
  fixed = {"model.backbone", *backbone.weights, *backbone.applied}
  if config.model_of_source and (wrong := [key for key in keys if key.partition("[")[0] in fixed]):
    raise BadInput(
      f"--config.{wrong[0]} has no effect: this config takes its model from the weights in init_from; leave"
      " it out, or use a kind of run with a model of its own"
    )
