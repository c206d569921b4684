"""Statistics of the bands of a prepared set: mean, deviation, percentiles; measured once by
`data.prepare.measuring`, read by every run.

  {path}/statistics.json   of the training split, one number per band, in the units of its pixels (0..255 for
                           8-bit images):
    mean, std, min, max, p1, p50, p99, valid (number of pixels that hold data); images, unreadable, dtype;
    split, records and made_from identify the set; band_names, if the rasters name their bands
    values: the same for the number of each pixel, if the set has such maps
"""

import os
import sys
from typing import Any

from swin_jax.data.read import manifest
from swin_jax.data.read.targets import Target
from swin_jax.terminal import json_files, rules
from swin_jax.terminal.errors import BadInput

NAME = "statistics.json"
_COLUMNS = {name: [float] for name in ("mean", "min", "max", "p1", "p50", "p99")}
_COLUMNS |= {"std": rules.Items(rules.Real(0, sys.float_info.max), range(1, 4097)), "valid": [int]}
_SCHEMA = {**_COLUMNS, "images": int, "dtype": str, "split": str, f"{Target.VALUES.value}?": _COLUMNS}
_SCHEMA |= {"band_names?": [str]}
_WIDTH = 16  # of the names of bands in the table
_AT_EACH_END = 4  # bands in the table, the first and the last


def path_of(path: str) -> str:
  return os.path.join(path, NAME)


def read(path: str) -> dict[str, Any]:
  """Reads the statistics of a prepared set.

  Raises:
    BadInput: they are missing or damaged; the message names the command that computes them.
  """
  command = f"python -m swin_jax.data.prepare --out={path}"
  if not os.path.exists(path_of(path)):
    raise BadInput(
      f"{path} holds no {NAME}, which data.mean = () and data.std = () need; create it with {command}"
    )
  manifest.check(path, NAME)
  advice = f"delete it and run {command}"
  loaded = json_files.read(path_of(path), _SCHEMA, advice)
  for name, columns in (("", loaded), ("values.", loaded.get(Target.VALUES.value, loaded))):
    if wrong := [key for key in _COLUMNS if len(columns[key]) != len(columns["std"])]:
      raise BadInput(f"{path_of(path)} is damaged: {name}{wrong[0]} needs a number for each band; {advice}")
  if len(loaded.get("band_names", loaded["std"])) != len(loaded["std"]):
    raise BadInput(f"{path_of(path)} is damaged: band_names needs a name for each band; {advice}")
  return loaded


def check_type(path: str, measured: dict[str, Any], dtype: str) -> None:
  """Raises BadInput if the statistics show that the pixels of a set do not fit data.dtype."""
  if dtype == "uint8" and measured["dtype"] != "uint8":
    raise BadInput(
      f"{path} holds {measured['dtype']} of {len(measured['mean'])} bands, but data.dtype is uint8: use "
      "--config=own_rasters or --config.data.dtype=float32"
    )


def describe(path: str) -> list[str]:
  """Returns the lines of a table of the statistics, one per band; of many bands, the first and the last."""
  measured = read(path)
  columns = ("mean", "std", "min", "p1", "p50", "p99", "max")
  lines = [
    f"{path_of(path)}: {measured['images']:,} images of split '{measured['split']}', {measured['dtype']}"
  ]
  names = [name[:_WIDTH] for name in measured.get("band_names", ())]
  width = max(map(len, names), default=-1) + 1
  lines.append(" band" + " " * width + "".join(f"{name:>12}" for name in columns) + "  valid pixels")
  rows = []
  bands = range(len(measured["mean"]))
  between = bands[_AT_EACH_END:-_AT_EACH_END]
  for band in (band for band in bands if band not in between):
    rows.append((f"{band:>5}" + (f" {names[band]}" if names else ""), measured, band))
  rows += [("value", measured[Target.VALUES], 0)] if Target.VALUES in measured else []
  for name, numbers, i in rows:
    lines.append(
      f"{name:<{5 + width}}"
      + "".join(f"{numbers[column][i]:12.5g}" for column in columns)
      + f"{numbers['valid'][i]:14,}"
    )
  if between:
    # below the heads of the table and of its columns, and the first bands
    lines.insert(
      2 + _AT_EACH_END, f"{'…':>5} and {len(between):,} more band{'s' * (len(between) > 1)}, in {NAME}"
    )
  return lines
