"""Imports foreign weights into our parameters, strictly: every tensor is used and every parameter filled."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from swin_jax.models.swin import official
from swin_jax.models.swin.settings import used_windows
from swin_jax.saved import description as descriptions
from swin_jax.saved.tensors import Tensors
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import inference, layouts


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
  detected = layouts.detect(tensors.shapes, tensors.source)
  if layout not in ("auto", detected.name):
    raise BadInput(f"{tensors.source} has the names of --layout={detected.name}, not of --layout={layout}")
  description, notes = inference.infer(tensors, detected, hints)
  description = descriptions.describe(description, tensors.source)
  model, shapes = description["model"], descriptions.parameter_shapes(description)
  pieces, used, wrong = {}, set(), []
  for path, shape in shapes.items():
    name = official.names(path, model)
    stacked = isinstance(name, list)
    pieces[path] = (
      [detected.spell(name) for name in (name if stacked else [name])],
      official.form((name[0] if stacked else name), model),
    )
    for parts in pieces[path][0]:
      used.update(parts)
      missing = [part for part in parts if part not in tensors.shapes]
      theirs = None if missing else _shape_of(parts, tensors.shapes, pieces[path][1])
      if theirs != shape[stacked:]:
        wrong.append(
          f"{' + '.join(missing or parts)}"
          f" {'is missing' if missing else f'makes {theirs}, not {shape[stacked:]}'}"
        )
  left = sorted(name for name in tensors.shapes if name not in used and not layouts.is_buffer(name))
  if wrong or left:
    problems = [f"{len(wrong)} parameters are not filled: {_some(wrong)}"] if wrong else []
    problems += [f"{len(left)} tensors are unused: {_some(left)}"] if left else []
    raise BadInput(f"{tensors.source} is not a known form of Swin V{model['version']}: {'; '.join(problems)}")

  def read(path):
    names, form = pieces[path]
    parts = [
      form.read(np.concatenate([tensors.read(part) for part in name])).astype(np.float32) for name in names
    ]
    if wrong := [name for name, part in zip(names, parts, strict=True) if not np.isfinite(part).all()]:
      raise BadInput(
        f"{tensors.source}: {' + '.join(wrong[0])} holds numbers that are not finite; fetch it again"
      )
    return np.stack(parts) if len(shapes[path]) > parts[0].ndim else parts[0]

  constants = _check_constants(tensors, detected, description)
  notes.append(
    f"{len(used)} tensors used, {constants} constants that follow from the windows, none left over"
  )
  return Import(description, detected, shapes, read, notes)


def _check_constants(tensors: Tensors, layout: layouts.Layout, description: dict[str, Any]) -> int:
  """Checks the constants in a file and returns their number.

  They must equal those that follow from the windows; otherwise the weights have a different meaning.

  Raises:
    BadInput: a constant differs; the message names it.
  """
  expected = {layout.spell(name)[0]: make for name, make in official.buffers(description).items()}
  names = [name for name in tensors.shapes if layouts.is_buffer(name)]
  for name in names:
    value = tensors.read(name)
    constant = (
      expected[name]() if name in expected else np.zeros(value.shape) if name.endswith("k_bias") else None
    )
    # tolerance: the file's constants may have 16 bits
    if (
      constant is None
      or constant.shape != value.shape
      or not np.allclose(value, constant, rtol=1e-2, atol=1e-2)
    ):
      windows, data = used_windows(description), description["data"]
      raise BadInput(
        f"{tensors.source}: its {name} does not follow from images of {data['image_size']} px and"
        f" windows {windows}; give"
        " --image_size, --window or --trained_window if these are wrong"
      )
  return len(names)


def _shape_of(
  parts: Iterable[str], shapes: Mapping[str, tuple[int, ...]], form: official.Form
) -> tuple[int, ...] | None:
  """Returns the shape of the parameter that these tensors form; no data is read and no memory used.

  Returns None if they do not fit together.
  """
  sizes = [shapes[part] for part in parts]
  if any(len(size) != len(sizes[0]) or size[1:] != sizes[0][1:] for size in sizes):
    return None
  try:
    return form.read(np.broadcast_to(np.float32(0), (sum(size[0] for size in sizes), *sizes[0][1:]))).shape
  except (ValueError, IndexError):
    return None


def _some(items: list[str]) -> str:
  return ", ".join(items[:4]) + (f" and {len(items) - 4} more" if len(items) > 4 else "")
