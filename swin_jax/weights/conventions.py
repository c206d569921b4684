"""How the programs of other layouts treat maps that windows do not divide and maps that are no larger than a
window; import and export follow the same rules.
"""

from typing import Any

from swin_jax.models import levels_of, windows
from swin_jax.models.swin.settings import pads_windows, windows_and_shifts
from swin_jax.weights.layouts import Layout

# Programs that let the padding of a map take part in attention. None of the others accepts maps that need
# padding, except timm, which shifts a map before it pads it.
_ATTENDING = ("hf", "torchvision", "openmmlab")
# Programs in which a map with one side no larger than the window has square windows and no shift.
_CLAMP_ALL = ("official", "hf", "openmmlab")
# Programs whose windows are squares.
_SQUARE = ("official", "hf", "openmmlab")
# Settings of the backbones of all other programs' UPerNet, which is for images of any size.
_OF_DENSE = {"clamp_windows": False, "padding": "attended"}


def clamping(layout: Layout, version: int) -> dict[str, Any]:
  """Returns how the program of a file clamps windows, as settings; see `windows.window_and_shift`."""
  return {
    # V2 of Hugging Face clamps in dense models too
    "clamp_windows": not (layout.dense and version == 1),
    "clamp_axes": "all" if layout.name in _CLAMP_ALL else "each",
  }


def imported(layout: Layout, description: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
  """Returns the settings under which an imported model computes what its program does, and notes on what no
  setting represents.

  Where they make no difference on images of the model's own size, a classifier of the official code, timm or
  Hugging Face gets the default settings, and so the better behaviour on other sizes.

  Args:
    layout: of the file.
    description: of the model, with its sizes and `clamping`.
  """
  model, padded = description["model"], pads_windows(description)
  settings = {"clamp_axes": model["clamp_axes"]}
  each = description | {"model": model | {"clamp_axes": "each"}}
  if windows_and_shifts(each) == windows_and_shifts(description):
    settings["clamp_axes"] = "each"
  attended = layout.dense or (layout.name in _ATTENDING and (layout.name != "hf" or padded))
  settings["padding"] = "attended" if attended else "masked"
  ours = windows_and_shifts(description)
  if _of_program(description, layout.name) != ours or _pads_otherwise(description, layout.name):
    size = " × ".join(map(str, description["data"]["image_size"]))
    return settings, [
      f"note: on images of {size} px, {layout.name} has windows, shifts or padding that swin_jax does not"
      " have, so that outputs differ"
    ]
  return settings, []


def unlike(description: dict[str, Any], layout: str, dense: bool = False) -> dict[str, Any]:
  """Returns the settings of a model that make a difference on images of its own size, or of a dense model on
  any, and that the program of a layout does not have. For what images of that size prevent, see
  `refused_size`.
  """
  model, settings = description["model"], {}
  if dense:
    return {key: model[key] for key, value in _OF_DENSE.items() if model[key] != value}
  if pads_windows(description) and model["padding"] == "attended" and layout not in _ATTENDING:
    settings["padding"] = model["padding"]
  key = _different(description, layout)
  return settings | ({key: model[key]} if key in model else {})


def refused_size(description: dict[str, Any], layout: str) -> str:
  """Returns why the program of a layout computes something else on images of a model's own size, whatever the
  other settings are, as the end of a sentence about these images; "" if it does not.
  """
  if description["model"]["padding"] == "masked" and pads_windows(description):
    return "need padding, which this model masks; no other program does"
  if _different(description, layout) == "image_size":
    return f"have other windows or shifts in {layout}, whatever model.clamp_axes and model.clamp_windows are"
  return ""


def _different(description: dict[str, Any], layout: str) -> str:
  """Returns the key of a config because of which windows or shifts are not those of the program of a layout;
  "" if they are, or if no program has the patches or merging of the model.
  """
  model, ours = description["model"], windows_and_shifts(description)
  if any(len(set(windows.pair(model[key]))) > 1 for key in ("patch_size", "merge_size")):
    return ""
  if layout in _SQUARE and any(
    len(set(windows.pair(window))) > 1 and len(set(used)) > 1
    for window, (used, _) in zip(model["window_sizes"], ours, strict=True)
  ):
    return "window_sizes"
  if not model["clamp_windows"] and layout == "openmmlab":  # its code can be told not to clamp
    return ""
  theirs = _of_program(description, layout, clamp=True)
  if ours == theirs:
    return ""
  clamped = (model | {"clamp_windows": True, "clamp_axes": axes} for axes in ("each", "all"))
  if all(windows_and_shifts(description | {"model": each}) != theirs for each in clamped):
    return "image_size"
  return "clamp_axes" if model["clamp_windows"] else "clamp_windows"


def _of_program(description: dict[str, Any], layout: str, clamp: bool | None = None) -> tuple:
  """Returns window and shift of each stage in the program of a layout.

  Args:
    description: of the model.
    layout: name of the layout.
    clamp: whether the program clamps windows; None for what the description says.
  """
  model, image = description["model"], tuple(description["data"]["image_size"])
  clamp = model["clamp_windows"] if clamp is None else clamp
  axes = "all" if layout in _CLAMP_ALL else "each"
  stages = []
  for level, window in zip(levels_of(description), model["window_sizes"], strict=True):
    size = level.map_size(image)
    window = windows.sides(window, len(size))
    if layout == "hf" and model["version"] == 2:  # it compares the height alone, as if nothing was padded
      whole = tuple(side // stride for side, stride in zip(image, level.stride, strict=True))
      used, shift = windows.window_and_shift(whole, window, True)
      stages.append(((used[0],) * len(size), (shift[0],) * len(size)))
      continue
    used, shift = windows.window_and_shift(size, window, True, clamp=clamp, axes=axes)
    stages.append((used, shift))
  return tuple(stages)


def _pads_otherwise(description: dict[str, Any], layout: str) -> bool:
  """Returns whether the program of a layout pads a map in a way that no setting represents."""
  for level, window, (used, shift) in zip(
    levels_of(description), description["model"]["window_sizes"], windows_and_shifts(description), strict=True
  ):
    size = level.map_size(tuple(description["data"]["image_size"]))
    padded = windows.padded_size(size, used) != size
    if layout == "timm" and any(shift) and padded:  # it shifts before it pads
      return True
    if layout == "torchvision" and used != windows.pair(window):  # it pads small maps to a window
      return True
  return False
