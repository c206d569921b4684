"""A trained encoder → a new task, window, size: pick, adapt, drop; and a report of every name.

V2 needs no change of weights for another window: its bias is a function of offsets in units of the trained window. V1's tables are
interpolated.
"""

import dataclasses
import pathlib
from typing import Any

import flax
import jax
import numpy as np

from swin_jax.checkpoint import SavedParameters
from swin_jax.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of every parameter, by path."""

  source: str
  loaded: list[str]
  adapted: list[str]
  dropped: list[str]
  fresh: list[str]

  def __str__(self) -> str:
    lines = [f"from {self.source}: {len(self.loaded)} arrays loaded, {len(self.adapted)} adapted, {len(self.dropped)} of its own"
             f" dropped, {len(self.fresh)} newly initialised"]  # fmt: skip
    for title in ("adapted", "dropped", "fresh", "loaded"):
      lines += [f"  {title:8} {path}" for path in getattr(self, title)]
    return "\n".join(lines)


def transfer(saved: SavedParameters, params: Any) -> tuple[Any, Report]:
  """Replaces the encoder of fresh parameters by a saved one; a head of the same shape comes along.

  Args:
    saved: where from.
    params: fresh parameters, as sharded arrays.

  Returns:
    The parameters, sharded as before, and the report.

  Raises:
    BadInput: the encoders differ; the message names the parameters.
  """
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  same = [path for path, shape in saved.shapes.items() if path in flat and flat[path].shape == shape]
  tables = [path for path in saved.shapes if path.endswith("bias_table") and path in flat and path not in same]
  missing = [path for path in flat if path.startswith("encoder/") and path not in same + tables]
  extra = [path for path in saved.shapes if path.startswith("encoder/") and path not in flat]
  if missing or extra:
    ours = {path: leaf.shape for path, leaf in flat.items()}
    shown = [f"{path} {saved.shapes.get(path, '(absent)')} ≠ {ours.get(path, '(absent)')}" for path in (missing + extra)[:3]]
    raise BadInput(f"init_from: the encoder saved there is another one (theirs ≠ this config's): {'; '.join(shown)}"
                   f"{f' and {len(missing + extra) - 3} more' if len(missing + extra) > 3 else ''}")  # fmt: skip
  wanted = {path: jax.ShapeDtypeStruct(flat[path].shape, flat[path].dtype, sharding=flat[path].sharding) for path in same}
  everywhere = jax.sharding.NamedSharding(next(iter(flat.values())).sharding.mesh, jax.sharding.PartitionSpec())
  wanted |= {path: jax.ShapeDtypeStruct(saved.shapes[path], flat[path].dtype, sharding=everywhere) for path in tables}
  read = saved.read(wanted)
  for path in tables:
    table = np.stack([resize_bias_table(old, flat[path].shape[1]) for old in np.asarray(read[path])])
    read[path] = jax.device_put(table.astype(np.float32), flat[path].sharding)
  fresh = sorted(path for path in flat if path not in read)
  dropped = sorted(path for path in saved.shapes if path not in read)
  report = Report(str(saved.source), sorted(same), sorted(tables), dropped, fresh)
  return flax.traverse_util.unflatten_dict(flat | read, sep="/"), report


def read_all(saved: SavedParameters, abstract: Any) -> Any:
  """The saved parameters as they are, in the shardings of `abstract`.

  Raises:
    BadInput: the models differ; the message names a parameter.
  """
  wanted = flax.traverse_util.flatten_dict(abstract, sep="/")
  for path in sorted(wanted.keys() | saved.shapes.keys()):
    ours, theirs = wanted[path].shape if path in wanted else "(absent)", saved.shapes.get(path, "(absent)")
    if ours != theirs:
      raise BadInput(f"{saved.source} is of another model: {path} {theirs} ≠ {ours} by this config")
  return flax.traverse_util.unflatten_dict(saved.read(wanted), sep="/")


def resize_bias_table(table: np.ndarray, entries: int) -> np.ndarray:
  """Interpolates a V1 bias table to another square window: the official fine-tuning's geometric rule.

  The source offsets are spread so that neighbours lie q times farther apart with each step from the centre, which keeps what is near
  as it is; the values in between come from a bicubic spline.

  Args:
    table: float [(2·old - 1)², heads].
    entries: (2·new - 1)².

  Returns:
    float64 [entries, heads].

  Raises:
    BadInput: a window that is not square, or of fewer than four tokens a side.
  """
  from scipy import interpolate  # pylint: disable=g-import-not-at-top  (only V1 needs it)

  old, new = (round(n**0.5) for n in (table.shape[0], entries))
  if old * old != table.shape[0] or new * new != entries or min(old, new) < 7:
    raise BadInput("init_from: a V1 bias table can be taken over to another window only between square windows of four tokens or more")
  low, high = 1.01, 1.5
  while high - low > 1e-6:
    q = (low + high) / 2
    if (1 - q ** (old // 2)) / (1 - q) > new // 2:
      high = q
    else:
      low = q
  steps = np.cumsum(q ** np.arange(old // 2))
  source = np.concatenate([-steps[::-1], [0.0], steps])
  target = np.arange(-(new // 2), new // 2 + 0.1)
  heads = [
      interpolate.RectBivariateSpline(source, source, table[:, k].reshape(old, old))(target, target).reshape(-1)
      for k in range(table.shape[1])
  ]
  return np.stack(heads, axis=-1)


def start_from(saved: SavedParameters, params: Any, workdir: str) -> tuple[Any, Report]:
  """`transfer`, with the report in `<workdir>/transfer.txt`."""
  params, report = transfer(saved, params)
  if jax.process_index() == 0:
    (pathlib.Path(workdir) / "transfer.txt").write_text(str(report) + "\n")
  return params, report
