"""The config that a run in a workdir was trained with, for an evaluation without a config file."""

from collections.abc import Mapping
import copy
from typing import Any

from ml_collections import ConfigDict

from swin_jax.models import backbone_name, backbone_of
from swin_jax.run import checks
from swin_jax.saved import folder
from swin_jax.saved.description import DEFAULTS_OF_OLD_FORMATS
from swin_jax.terminal.errors import BadInput


def config_of(workdir: str) -> ConfigDict:
  """Returns the config of the newest checkpoint, locked; what the run read from its data is left to the data.

  Raises:
    BadInput: there is no checkpoint, or it does not hold a whole config.
  """
  saved = folder.open_saved(workdir)
  if saved.step is None:
    raise BadInput(f"{workdir} holds a model, not a run: this mode also needs --config=FILE and its data")
  backbone = {"model": {"backbone": backbone_name(saved.config)}}
  described = backbone_of(saved.config).describe(saved.config)
  values = _merged(DEFAULTS_OF_OLD_FORMATS, backbone, described, saved.config)
  config = ConfigDict(with_tuples(values))
  config.data.class_names = ()
  try:
    checks.check_values(config)
  except BadInput as error:
    raise BadInput(f"the config in {workdir} is not complete ({error}): give --config=FILE too") from error
  return config.lock()


def _merged(*each: Mapping[str, Any]) -> dict[str, Any]:
  """Returns nested dictionaries as one; the last one that has a key decides."""
  values = {}
  for mapping in copy.deepcopy(each):
    for key, value in mapping.items():
      values[key] = _merged(values.get(key, {}), value) if isinstance(value, Mapping) else value
  return values


def with_tuples(value: Any) -> Any:
  """Returns values read from JSON with tuples in place of lists, as a config has them."""
  if isinstance(value, Mapping):
    return {key: with_tuples(each) for key, each in value.items()}
  return tuple(map(with_tuples, value)) if isinstance(value, (list, tuple)) else value
