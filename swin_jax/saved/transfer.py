"""Transfers a trained encoder to a new task, window, image size, bands or classes.

Parameters are loaded, adapted or dropped, and a report lists each by path.

The kernel that reads pixels is adapted to other bands, and a head to other classes, see `class_rows`. The
backbone adapts its other arrays: Swin V2 weights need no change for another window, as the bias is a function
of offsets in units of the trained window; V1's bias tables are interpolated.
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
import pathlib
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.models import backbone_of
from swin_jax.models.backbone import BackboneKind
from swin_jax.saved import class_rows
from swin_jax.saved import workdir as saved_workdir
from swin_jax.saved.saved import Saved
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import printable

ENCODER = "encoder/"  # prefix of the paths of the backbone's parameters


@dataclasses.dataclass(frozen=True)
class Rules:
  """How arrays of a different shape are adapted.

  Attributes:
    bias_tables: V1 bias tables for another window: "geometric" as in fine-tuning after SimMIM, "bicubic" as
      from ImageNet-22K to 1K.
    bands: patch embedding for other bands: "repeat" the saved bands in turn, use their "mean" for every
      band, or keep the first and set the rest to "zero". The first two scale the kernel by old / new bands,
      so that the magnitude of the output is preserved.
    class_map: file with one line for each class: the saved class whose row of the head it takes. "": by name.
    class_names: names of the model's classes, by label. () for classes by number: the head is fresh if their
      number differs.
  """

  bias_tables: str = "geometric"
  bands: str = "repeat"
  class_map: str = ""
  class_names: tuple[str, ...] = ()


DEFAULT = Rules()


@dataclasses.dataclass(frozen=True)
class Report:
  """How every parameter was transferred, by path."""

  source: str
  loaded: list[str]
  adapted: list[str]
  dropped: list[str]
  fresh: list[str]

  def lines(self) -> list[str]:
    """Returns a summary, and a line for every parameter."""
    lines = [
      f"from {self.source}: {len(self.loaded)} arrays loaded, {len(self.adapted)} adapted, "
      f"{len(self.dropped)} dropped, {len(self.fresh)} newly initialised"
    ]
    for title in ("adapted", "dropped", "fresh", "loaded"):
      lines += [printable(f"  {title:8} {path}") for path in getattr(self, title)]
    return lines


class Plan(NamedTuple):
  """A planned transfer, before anything is read.

  Attributes:
    adapt: path → the function that adapts an array of a different shape.
    report: the report.
  """

  adapt: dict[str, Callable[[np.ndarray], np.ndarray]]
  report: Report


def plan(saved: Saved, shapes: Mapping[str, tuple[int, ...]], rules: Rules) -> Plan:
  """Determines which parameters a model takes from a saved one: the encoder, and heads by their classes.

  Args:
    saved: the source.
    shapes: of every parameter of the model, by path.
    rules: for arrays of a different shape.

  Raises:
    BadInput: the encoders differ, or the rules do not apply; the message names the parameters.
  """
  backbone, bands, adapt = backbone_of(saved.config), len(saved.config["data"]["mean"]), {}
  rows = class_rows.choose(saved, rules.class_map, rules.class_names)
  of_classes = {path for path in saved.shapes if rows and class_rows.is_of_classes(path, saved)}
  for path in sorted(saved.shapes.keys() & shapes.keys()):
    if path in of_classes:
      rows.check(saved.shapes[path][-1], shapes[path][-1])
      if rows.known.any():
        adapt[path] = rows.how, rows.take
    elif how := _adaptation(path, saved.shapes[path], shapes[path], backbone, bands, rules):
      adapt[path] = how
  same = sorted(
    path
    for path, shape in saved.shapes.items()
    if shapes.get(path) == shape and path not in of_classes | adapt.keys()
  )
  if rules.class_map and not of_classes & shapes.keys():
    raise BadInput(f"{saved.source} has no head for {rules.class_map} to choose rows from")
  taken = {*same, *adapt}
  report = Report(
    source=str(saved.source),
    loaded=same,
    adapted=[f"{path} {saved.shapes[path]} → {shapes[path]}, {how}" for path, (how, _) in adapt.items()],
    dropped=sorted(saved.shapes.keys() - taken),
    fresh=sorted(shapes.keys() - taken),
  )
  if wrong := [path for path in report.fresh + report.dropped if path.startswith(ENCODER)]:
    shown = [
      f"{path} {saved.shapes.get(path, '(absent)')} ≠ {shapes.get(path, '(absent)')}" for path in wrong
    ]
    raise BadInput(f"the encoder in {saved.source} differs (saved ≠ this model's): {listed(shown, 3)}")
  return Plan({path: function for path, (_, function) in adapt.items()}, report)


def check_whole(saved: Saved, shapes: Mapping[str, tuple[int, ...]], report: Report) -> None:
  """Checks that a transfer leaves no parameter fresh and drops none.

  Raises:
    BadInput: the models differ; the message names a parameter.
  """
  for path in report.fresh + report.dropped:
    ours, theirs = shapes.get(path, "(absent)"), saved.shapes.get(path, "(absent)")
    raise BadInput(f"{saved.source} belongs to another model: {path} {theirs} ≠ {ours} here")


def read(
  saved: Saved, expected: Mapping[str, jax.ShapeDtypeStruct], rules: Rules
) -> tuple[dict[str, jax.Array], Report]:
  """Reads the parameters that a model takes from a saved one.

  Args:
    saved, rules: as in `plan`.
    expected: every parameter of the model by path, with its sharding.

  Returns:
    The parameters by path, without those to be initialised, and the report.

  Raises:
    BadInput: as `plan`.
  """
  adapt, report = plan(saved, {path: leaf.shape for path, leaf in expected.items()}, rules)
  everywhere = _whole(next(iter(expected.values())).sharding)
  arrays = saved.read(
    {path: expected[path] for path in report.loaded}
    | {
      path: jax.ShapeDtypeStruct(saved.shapes[path], expected[path].dtype, sharding=everywhere)
      for path in adapt
    }
  )
  for path, function in adapt.items():
    value = function(np.asarray(arrays[path])).astype(expected[path].dtype)
    # Every process has computed the value; `device_put` would compare the copies over the network.
    arrays[path] = jax.make_array_from_callback(value.shape, expected[path].sharding, value.__getitem__)
  return arrays, report


def read_all(
  saved: Saved, expected: Mapping[str, jax.ShapeDtypeStruct], rules: Rules = Rules()
) -> tuple[dict[str, jax.Array], Report]:
  """Reads all parameters of a model from a saved one. See `read`.

  Raises:
    BadInput: as `plan` and `check_whole`.
  """
  arrays, report = read(saved, expected, rules)
  check_whole(saved, {path: leaf.shape for path, leaf in expected.items()}, report)
  return arrays, report


def start_from(saved: Saved, params: Any, rules: Rules, workdir: str) -> tuple[Any, Report]:
  """Replaces the encoder in fresh parameters by a saved one, and a head by its classes.

  Args:
    saved: the source.
    params: fresh parameters, as sharded arrays.
    rules: for arrays of a different shape.
    workdir: folder for the report, see `saved.workdir`.

  Returns:
    The parameters, sharded as before, and the report.

  Raises:
    BadInput: as `plan`.
  """
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  expected = {
    path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for path, leaf in flat.items()
  }
  arrays, report = read(saved, expected, rules)
  rows = class_rows.choose(saved, rules.class_map, rules.class_names)
  for path in arrays:
    if rows and class_rows.is_of_classes(path, saved):  # a class without a saved one keeps its fresh weights
      arrays[path] = jnp.where(rows.known, arrays[path], flat[path])
  if jax.process_index() == 0:
    files.write(pathlib.Path(workdir, saved_workdir.TRANSFER), "\n".join(report.lines()) + "\n")
  return flax.traverse_util.unflatten_dict(flat | arrays, sep="/"), report


def _whole(sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
  """Returns the sharding that replicates an array on every device of the given one."""
  if isinstance(sharding, jax.sharding.NamedSharding):
    return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
  return sharding


def _adaptation(
  path: str,
  shape: tuple[int, ...],
  new_shape: tuple[int, ...],
  backbone: BackboneKind,
  bands: int,
  rules: Rules,
) -> tuple[str, Callable[[np.ndarray], np.ndarray]] | None:
  """Returns how to adapt an array of a different shape, as (label, function); None if it cannot be adapted.

  Args:
    path, shape, new_shape: path, saved shape and new shape of the array.
    backbone, bands: of the saved model.
    rules: see `Rules`.
  """
  if shape == new_shape or not path.startswith(ENCODER):
    return None
  name, pixels = path.removeprefix(ENCODER), math.prod(shape[:-1]) // bands
  if name == backbone.pixel_kernel and shape[-1] == new_shape[-1] and math.prod(new_shape[:-1]) % pixels == 0:
    new = math.prod(new_shape[:-1]) // pixels
    return f"bands by {rules.bands}", lambda x: change_bands(x, bands, new, rules.bands).reshape(new_shape)
  return backbone.adapt_array(name, shape, new_shape, rules)


def change_bands(kernel: np.ndarray, old: int, bands: int, rule: str) -> np.ndarray:
  """Returns a kernel that reads pixels for a different number of bands.

  Args:
    kernel: float [..., C]; the dimensions before the last are pixels, then bands.
    old, bands: the saved and the new number of bands.
    rule: see `Rules`.

  Returns:
    float [pixels · bands, C].
  """
  kernel = kernel.reshape(-1, old, kernel.shape[-1])
  if rule == "repeat":
    changed = kernel[:, np.arange(bands) % old] * (old / bands)
  elif rule == "mean":
    changed = np.repeat(kernel.mean(1, keepdims=True), bands, 1) * (old / bands)
  else:
    changed = np.pad(kernel[:, :bands], ((0, 0), (0, max(0, bands - old)), (0, 0)))
  return changed.reshape(-1, kernel.shape[-1])
