"""Imports foreign weights into our parameters, strictly: every tensor is used and every parameter filled."""

import collections
from collections.abc import Callable, Collection, Iterable, Mapping
import os
from typing import Any, NamedTuple

import numpy as np

from swin_jax.models.swin import official
from swin_jax.models.swin.settings import used_windows
from swin_jax.saved import description as descriptions
from swin_jax.saved.tensors import Tensors
from swin_jax.saved.transfer import ENCODER
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.weights import detection, inference, layouts, upernet


class Import(NamedTuple):
  """The import of a foreign file; no weights are read before `read` is called.

  Attributes:
    description: of the model.
    layout: of the file.
    shapes: of our parameters, by path.
    read: path → the parameter, float32.
    notes: where windows and image size come from, and what was ignored.
  """

  description: dict[str, Any]
  layout: layouts.Layout
  shapes: dict[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]
  notes: list[str]


def plan(tensors: Tensors, hints: inference.Hints, layout: str = "auto") -> Import:
  """Determines what model a file holds and how its tensors fill our parameters.

  Args:
    tensors: the file.
    hints: properties that the file does not determine.
    layout: the required layout; "auto" for any.

  Raises:
    BadInput: the architecture is a different one, a tensor is left over, or a parameter is not filled; the
      message names them.
  """
  detected = detection.detect(tensors)
  if layout not in ("auto", detected.name):
    raise BadInput(f"{tensors.source} has the names of --layout={detected.name}, not of --layout={layout}")
  description, notes = inference.infer(tensors, detected, hints)
  description = descriptions.describe(description, tensors.source)
  model, shapes = description["model"], descriptions.parameter_shapes(description)
  pieces, wrong = {}, {}  # wrong: description of a tensor → path of the parameter that lacks it
  for path, shape in shapes.items():
    names = layouts.names(path, model)
    stacked = isinstance(names, list)
    names = names if stacked else [names]
    if names[0].startswith("norm.") and not detected.last_norm:
      continue
    spelled = [detected.spell(name) for name in names]
    pieces[path] = _Piece(spelled, detected.part(names[0]), detected.form(names[0], model))
    for parts in spelled:
      missing = [part for part in parts if part not in tensors.shapes]
      theirs = None if missing else _shape_of(parts, tensors.shapes, pieces[path])
      if theirs != shape[stacked:]:
        why = "is missing" if missing else f"makes {theirs}, not {shape[stacked:]}"
        wrong[f"{' + '.join(missing or parts)} {why}"] = path
  used = {part for piece in pieces.values() for parts in piece.names for part in parts}
  groups = {_group(name, detected) for name in used}
  left = sorted(name for name in tensors.shapes if name not in used and not layouts.is_buffer(name))
  norms = [name for name in left if name.rpartition(".")[0] in {*detected.norms} - {""}]
  unused = [name for name in left if name.rpartition(".")[0] in detected.unused]
  rest = [name for name in left if name not in (*norms, *unused)]
  others = [name for name in rest if _group(name, detected) not in groups]
  problems = [f"{len(wrong)} parameters are not filled: {listed([*wrong])}"] if wrong else []
  if extra := [name for name in rest if not (hints.encoder_only and name in others)]:
    problems.append(f"{len(extra)} tensors are unused: {listed(extra)}")
  of_heads = tuple(detected.outer + prefix for prefix in upernet.PREFIXES)
  whole = not any(path.startswith(ENCODER) for path in wrong.values())
  if problems and whole and all(name in others or name.startswith(of_heads) for name in extra):
    problems.append(
      "the encoder is complete: --encoder_only imports it alone, --ignore=REGEX leaves out names"
    )
  if problems:
    raise BadInput(f"{tensors.source} is not a known form of Swin V{model['version']}: {'; '.join(problems)}")

  def read(path):
    if path not in pieces:  # the norm that a backbone lacks
      return np.full(shapes[path], path.endswith("scale"), np.float32)
    names, part, form = pieces[path]
    arrays = [
      form.read(_rows(np.concatenate([tensors.read(part) for part in name]), part)).astype(np.float32)
      for name in names
    ]
    if wrong := [name for name, array in zip(names, arrays, strict=True) if not np.isfinite(array).all()]:
      raise BadInput(
        f"{tensors.source}: {' + '.join(wrong[0])} holds numbers that are not finite; fetch it again"
      )
    return np.stack(arrays) if len(shapes[path]) > arrays[0].ndim else arrays[0]

  constants = _check_constants(tensors, detected, description, groups if hints.encoder_only else None)
  notes += tensors.notes
  if detected.name == "openmmlab":
    notes.append("channels of patch merging reordered from OpenMMLab's order")
  if not detected.last_norm:
    notes.append("there is no last norm: its scale becomes 1 and its bias 0")
  if norms:
    notes.append(f"left out, because they belong to dense heads: {_count_groups(norms, detected)}")
  if unused:
    notes.append(f"left out, because no model uses them: {', '.join(unused)}")
  if others:
    notes.append(f"left out, because of --encoder_only: {_count_groups(others, detected)}")
  end = "" if norms or unused or others else ", none left over"
  notes.append(f"{len(used)} tensors used, {constants} constants that follow from the windows{end}")
  return Import(description, detected, shapes, read, notes)


class _Piece(NamedTuple):
  """The source of one of our parameters.

  Attributes:
    names: for each of its blocks, or once, the tensors that are rows of it.
    part: which part of the rows it is, see `Layout.part`.
    form: how they become the parameter.
  """

  names: list[tuple[str, ...]]
  part: tuple[int, int]
  form: official.Form


def _rows(x: np.ndarray, part: tuple[int, int]) -> np.ndarray:
  k, count = part
  return np.split(x, count)[k]


def _group(name: str, layout: layouts.Layout) -> str:
  """Returns the first components of a name, up to the one that differs from the prefix of the encoder."""
  parts = name.split(".")
  return ".".join(parts[: 1 + len(os.path.commonprefix([parts, layout.encoder.split(".")]))])


def _count_groups(names: Iterable[str], layout: layouts.Layout) -> str:
  counts = collections.Counter(_group(name, layout) for name in names)
  return ", ".join(f"{group} ({count} tensors)" for group, count in counts.items())


def _check_constants(
  tensors: Tensors, layout: layouts.Layout, description: dict[str, Any], groups: Collection[str] | None
) -> int:
  """Checks the constants in a file and returns their number.

  They must equal those that follow from the windows; otherwise the weights have a different meaning. Those
  outside `groups` of names belong to other parts of the network.

  Raises:
    BadInput: a constant differs; the message names it.
  """
  expected = {layout.spell(name)[0]: make for name, make in official.buffers(description).items()}
  names = [
    name
    for name in tensors.shapes
    if layouts.is_buffer(name)
    and not name.endswith(upernet.COUNTER)
    and (groups is None or _group(name, layout) in groups)
  ]
  for name in names:
    value = tensors.read(name)
    constant = (
      expected[name]() if name in expected else np.zeros(value.shape) if name.endswith("k_bias") else None
    )
    # tolerance: the file's constants may have 16 bits
    if (
      constant is None
      or constant.size != value.size  # torchvision flattens its index
      or not np.allclose(value.reshape(constant.shape), constant, rtol=1e-2, atol=1e-2)
    ):
      windows, data = used_windows(description), description["data"]
      raise BadInput(
        f"{tensors.source}: its {name} does not follow from images of {data['image_size']} px and"
        f" windows {windows}; give"
        " --image_size, --window or --trained_window if these are wrong"
      )
  return len(names)


def _shape_of(
  parts: Iterable[str], shapes: Mapping[str, tuple[int, ...]], piece: _Piece
) -> tuple[int, ...] | None:
  """Returns the shape of the parameter that these tensors form; no data is read and no memory used.

  Returns None if they do not fit together.
  """
  sizes = [shapes[part] for part in parts]
  if any(len(size) != len(sizes[0]) or size[1:] != sizes[0][1:] for size in sizes):
    return None
  try:
    whole = np.broadcast_to(np.float32(0), (sum(size[0] for size in sizes), *sizes[0][1:]))
    return piece.form.read(_rows(whole, piece.part)).shape
  except (ValueError, IndexError):
    return None
