"""Settings of a Swin Transformer: those kept with its weights, those filled from weights, and those that may
change for the same weights.
"""

from collections.abc import Sequence
import copy
from typing import Any

from ml_collections import ConfigDict

from swin_jax.models import windows
from swin_jax.models.backbone import Settings, Summary
from swin_jax.models.swin.config import Size, SwinConfig, make_config
from swin_jax.models.swin.geometry import geometry
from swin_jax.terminal.errors import BadInput

# Keys that determine which weights the model has, independently of windows, images and task.
WEIGHTS = (
  "version",
  "patch_size",
  "merge_size",
  "embed_dim",
  "depths",
  "num_heads",
  "mlp_ratio",
  "extra_norm_every",
)
# Keys that change how the same weights are applied; a model folder keeps the values used in training.
APPLIED = ("clamp_windows", "clamp_axes", "padding", "bias_rows")
KEPT = (*WEIGHTS, "window_sizes", "trained_window_sizes", *APPLIED)
# Keys that older runs and model folders lack, with the values that were in effect then.
_OLD = {
  "merge_size": [2, 2],
  "clamp_windows": True,
  "clamp_axes": "each",
  "padding": "masked",
  "bias_rows": "offsets",
}
_NAMES = {  # (width, blocks) → name in the papers and on the hub
  (96, (2, 2, 6, 2)): "T",
  (96, (2, 2, 18, 2)): "S",
  (128, (2, 2, 18, 2)): "B",
  (192, (2, 2, 18, 2)): "L",
  (352, (2, 2, 18, 2)): "H",
  (448, (2, 2, 18, 2)): "giant of 1.06 B",
  (512, (2, 2, 42, 2)): "giant of 2.6 B",
  (512, (2, 2, 42, 4)): "G",
}


def describe(settings: Settings) -> dict[str, dict[str, Any]]:
  """Returns the settings that a model folder keeps: windows per axis, and for V2 the trained windows."""
  given, axes = _OLD | dict(settings["model"]), len(settings["data"]["image_size"])
  model = {key: given[key] for key in KEPT}
  model["window_sizes"] = [list(windows.sides(size, axes)) for size in model["window_sizes"]]
  trained = trained_windows(settings) if model["version"] == 2 else ()
  return {"model": model | {"trained_window_sizes": [list(window) for window in trained]}}


def used_windows(settings: Settings, size: Sequence[int] = ()) -> tuple[Size, ...]:
  """Returns the windows that are used on images of `size` pixels, or of data.image_size, per stage."""
  stages = geometry(_config(settings), tuple(size or settings["data"]["image_size"]))
  return tuple(stage.window for stage in stages)


def windows_and_shifts(settings: Settings) -> tuple[tuple[Size, Size], ...]:
  """Returns window and shift of each stage on images of data.image_size."""
  stages = geometry(_config(settings), tuple(settings["data"]["image_size"]))
  return tuple((stage.window, stage.shift) for stage in stages)


def trained_windows(settings: Settings) -> tuple[Size, ...]:
  """Returns the windows that the weights were trained with, per stage; small maps shrink them."""
  return _config(settings).trained_window_sizes or used_windows(settings)


def summarise(settings: Settings) -> Summary:
  """Returns the name as in the papers, the sizes, and the windows."""
  model = settings["model"]
  size = _NAMES.get((model["embed_dim"], tuple(model["depths"])), "")
  extra = f", an extra norm every {model['extra_norm_every']} blocks" if model["extra_norm_every"] else ""
  trained, used = "", used_windows(settings)
  if model["version"] == 2 and trained_windows(settings) != used:
    trained = f", trained with {_in_words(trained_windows(settings))}"
  return Summary(
    f"Swin V{model['version']}{'-' if size else ''}{size}",
    f"width {model['embed_dim']}, blocks {_list(model['depths'])}, heads {_list(model['num_heads'])}, patch"
    f" {model['patch_size']}{extra}",
    f"windows {_in_words(used)}{trained}",
  )


def resolve(
  config: ConfigDict, *, stored: Settings | None, source: Settings | None, other_sizes: bool
) -> None:
  """Fills V2's trained windows; see `BackboneKind.resolve`.

  Raises:
    BadInput: the trained windows of the config are not those of the weights.
  """
  model = config.model
  if model.version != 2:
    return
  if stored:
    model.trained_window_sizes = model.trained_window_sizes or stored["model"]["trained_window_sizes"]
  elif source:
    given, trained = _config(config).trained_window_sizes, trained_windows(source)
    if given and given != trained:
      raise BadInput(
        f"model.trained_window_sizes = {given}, but the weights were trained with {trained}; leave it ()"
      )
    model.trained_window_sizes = trained
  elif other_sizes:
    # The windows used on training crops; on the larger maps of whole images, larger windows may be used.
    model.trained_window_sizes = trained_windows(config)


def refusal(settings: Settings, size: Sequence[int]) -> str:
  """Returns why V1's bias tables, whose windows belong to data.image_size, do not fit another size; "" if
  they do.
  """
  if settings["model"]["version"] != 1:
    return ""
  used, other = used_windows(settings), used_windows(settings, size)
  if used == other:
    return ""
  return (
    f"V1's bias tables belong to the windows {list(used)}, but images of {' × '.join(map(str, size))} px have"
    f" windows {list(other)}"
  )


def pads(settings: Settings) -> bool:
  """Returns whether images of data.image_size need padding for patches, windows or merging."""
  config, size = _config(settings), tuple(settings["data"]["image_size"])
  return windows.padded_size(size, config.stride(config.stages - 1)) != size or pads_windows(settings)


def pads_windows(settings: Settings) -> bool:
  """Returns whether maps of images of data.image_size need padding for windows."""
  stages = geometry(_config(settings), tuple(settings["data"]["image_size"]))
  return any(stage.padded != stage.map for stage in stages)


def changed(settings: Settings) -> dict[str, Any]:
  """Returns the settings that all other programs fix and this model changes: key → its value."""
  config, default = _config(settings), SwinConfig()
  values = {key: getattr(config, key) for key in ("merge_size", "bias_rows")}
  return {key: value for key, value in values.items() if value != getattr(default, key)}


def further_flags(settings: Settings, other: Settings) -> dict[str, Any]:
  """Returns the windows of the other weights if these have a different number of stages."""
  if len(settings["model"]["depths"]) == len(other["model"]["depths"]):
    return {}
  return {"model.window_sizes": [max(windows.pair(window)) for window in other["model"]["window_sizes"]]}


def adapt(description: dict[str, Any], window: Any) -> dict[str, Any]:
  """Returns the description for one window, a number or one entry per axis, in all stages."""
  changed, axes = copy.deepcopy(description), len(description["data"]["image_size"])
  changed["model"]["window_sizes"] = [list(windows.sides(window, axes))] * len(changed["model"]["depths"])
  return changed


def sizes(settings: Settings) -> dict[str, Any]:
  """Returns only those settings that are kept with weights."""
  return {key: value for key, value in dict(settings["model"]).items() if key in KEPT}


def _config(settings: Settings) -> SwinConfig:
  return make_config(**sizes(settings))


def _list(numbers: Any) -> str:
  return ", ".join(map(str, numbers))


def _in_words(sizes: Any) -> str:
  return ", ".join(str(size[0]) if len(set(size)) == 1 else "×".join(map(str, size)) for size in sizes)
