"""Sharding by logical names: one mesh, one table of rules, and a resolver that raises instead of guessing.

A rule is (logical name, mesh axis | tuple of mesh axes | None). linen's own resolver silently replicates a
dimension whose name has no rule, and drops the second of two dimensions on one mesh axis. This one raises in
both cases, for parameters and activations.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import math
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from swin_jax.mesh import axes
from swin_jax.terminal.errors import BadInput

# All mesh axes, outermost first. A mesh has those that its config names; any other splits nothing.
MESH_AXES = ("data", "fsdp", "expert", "space", "model")
Rule = tuple[str, str | tuple[str, ...] | None]


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Returns the mesh of the given devices, by default all.

  Args:
    sizes: mesh axis → number of devices along it; one may be -1 for the remaining factor.
    devices: to arrange.

  Devices are in the order that jax considers best for the links between them, provided that the devices of
  each process then hold consecutive rows of the batch, because each process reads one block of it. Otherwise
  they are ordered by process.

  Raises:
    BadInput: an axis is unknown, the product of the sizes is not the number of devices, or the sizes do not
      fit the links of a TPU slice.
  """
  devices = jax.devices() if devices is None else devices
  if unknown := sorted(set(sizes) - set(MESH_AXES)):
    raise BadInput(f"config.mesh.{unknown[0]}: no mesh axis has this name; known are {', '.join(MESH_AXES)}")
  sizes = {axis: sizes[axis] for axis in MESH_AXES if axis in sizes}
  free = [axis for axis, size in sizes.items() if size == -1]
  fixed = int(np.prod([size for size in sizes.values() if size != -1]))
  impossible = len(free) > 1 or any(size < 1 for size in sizes.values() if size != -1)
  if impossible or len(devices) % fixed or (not free and fixed != len(devices)):
    raise BadInput(
      f"config.mesh {sizes} does not fit the number of devices, {len(devices)}: the sizes must multiply to "
      "it; one may be -1 (by default fsdp)"
    )
  if free:
    sizes[free[0]] = len(devices) // fixed
  names, shape, kinds = tuple(sizes), tuple(sizes.values()), (AxisType.Auto,) * len(sizes)
  try:
    mesh = jax.make_mesh(shape, names, axis_types=kinds, devices=devices)
  except NotImplementedError as error:
    raise BadInput(
      f"config.mesh {sizes} cannot be laid over the slice: each size must be a product of some of the"
      " slice's sides"
    ) from error
  if not _together(mesh):
    by_process = sorted(devices, key=lambda device: (device.process_index, device.id))
    mesh = Mesh(np.array(by_process).reshape(shape), names, axis_types=kinds)
  return mesh


def _together(mesh: Mesh) -> bool:
  rows, sharing = {}, math.prod(mesh.shape.get(axis, 1) for axis in ("space", "model"))
  for row, devices in enumerate(mesh.devices.reshape(-1, sharing)):
    for device in devices:
      rows.setdefault(device.process_index, set()).add(row)
  return all(max(held) - min(held) + 1 == len(held) for held in rows.values())


def check_rules(rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
  """Returns the rules as a dict, name → mesh axes.

  Raises:
    BadInput: a rule is malformed, a logical axis or a mesh axis is unknown, or a name has two rules.
  """
  table = {}
  if not isinstance(rules, (tuple, list)):
    raise BadInput("sharding rules must be a tuple of rules ('name', 'mesh axis')")
  for rule in rules:
    match rule:
      case [str(name), str() | None | [*_] as target]:
        target = (target,) if isinstance(target, str) else tuple(target or ())
      case _:
        raise BadInput(
          f"sharding rule {rule!r} must be ('name', 'mesh axis'), with a tuple for several mesh axes and None"
          " for none"
        )
    if name not in axes.ALL:
      raise BadInput(
        f"sharding rule for '{name}': unknown logical axis; known are {', '.join(sorted(axes.ALL))}"
      )
    if unknown := [axis for axis in target if axis not in MESH_AXES]:
      raise BadInput(
        f"sharding rule {name} → {target}: unknown mesh axis {unknown}; known are {', '.join(MESH_AXES)}"
      )
    if name in table:
      raise BadInput(f"two sharding rules for '{name}': {table[name]} and {target}")
    table[name] = target
  return table


def whole_parameters(rules: Sequence[Rule]) -> tuple[Rule, ...]:
  """Returns the rules of parameters under ZeRO-1: `rules`, except that fsdp splits only the batch."""
  table = check_rules(rules)
  return tuple(
    (name, target if name == axes.BATCH else tuple(axis for axis in target if axis != "fsdp"))
    for name, target in table.items()
  )


def spec(
  path: str, shape: tuple[int, ...], names: tuple[str | None, ...], mesh: Mesh, rules: Sequence[Rule]
) -> PartitionSpec:
  """Returns the partition of one array whose dimensions have the logical names `names`.

  Raises:
    BadInput: a name has no rule, two dimensions are on one mesh axis, or the mesh axes of a dimension do not
      divide it; the message names the array.
  """
  table, used, parts = check_rules(rules), {}, []
  for dimension, (size, name) in enumerate(zip(shape, names, strict=True)):
    if name is not None and name not in table:
      raise BadInput(f"{path} {shape}: no sharding rule for its dimension {dimension}, '{name}'")
    target = tuple(axis for axis in table.get(name, ()) if mesh.shape.get(axis, 1) > 1)
    for axis in target:
      if axis in used:
        raise BadInput(
          f"{path} {shape}: rules put dimensions '{used[axis]}' and '{name}' on the same mesh axis '{axis}'"
        )
      used[axis] = name
    ways = int(np.prod([mesh.shape[axis] for axis in target]))
    if size % ways:
      raise BadInput(
        f"{path} {shape}: dimension {dimension} does not divide into {ways}, by rule {name} → {target}"
      )
    parts.append(target if len(target) > 1 else target[0] if target else None)
  return PartitionSpec(*parts)


def path_name(path: tuple) -> str:
  """Returns a tree path as "encoder/stage0/…"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def shard_parameters(boxed, mesh: Mesh, rules: Sequence[Rule]):
  """Resolves the shardings of boxed abstract parameters.

  Returns:
    The same tree, unboxed; each leaf is a `jax.ShapeDtypeStruct` with a NamedSharding.

  Raises:
    BadInput: see `spec`.
    ValueError: a parameter has no logical names.
  """

  def resolve(path, leaf):
    if not isinstance(leaf, nn.Partitioned):
      raise ValueError(f"{jax.tree_util.keystr(path)} has no logical names: create it with layers.boxed")
    value = leaf.value
    partition = spec(path_name(path), value.shape, leaf.names, mesh, rules)
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=NamedSharding(mesh, partition))

  return jax.tree_util.tree_map_with_path(resolve, boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))


def shard_batch(mesh: Mesh, rules: Sequence[Rule], batch_size: int, name: str = "a batch") -> NamedSharding:
  """Returns the sharding of every array of a batch, which splits the first dimension.

  Raises:
    BadInput: the mesh does not divide the batch; the message calls it `name`.
  """
  return NamedSharding(mesh, spec(name, (batch_size,), (axes.BATCH,), mesh, rules))


def constrain(x: jax.Array, names: Sequence[str | None], *, loosely: bool = False) -> jax.Array:
  """Constrains the sharding of an array by the logical names of its dimensions.

  Does nothing outside of `trace_on`.

  Args:
    x: array that is being traced.
    names: logical name of each dimension.
    loosely: whether the compiler may choose the sharding of named dimensions that the rules do not split;
      otherwise they are kept whole.

  Raises:
    BadInput: see `spec`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  partition = spec("an activation", x.shape, tuple(names), mesh, nn.get_logical_axis_rules())
  if loosely:
    partition = PartitionSpec(
      *(
        PartitionSpec.UNCONSTRAINED if name and not part else part
        for name, part in zip(names, partition, strict=True)
      )
    )
  return jax.lax.with_sharding_constraint(x, partition)


def per_device(
  function: Callable, arguments: Sequence[jax.Array | None], names: Sequence, out_names: Sequence[str | None]
) -> jax.Array:
  """Computes `function(*arguments)` with each device working on its own part, without communication.

  Args:
    function: arrays → one array; must give the same result on parts as on the whole.
    arguments: arrays, or None for an absent one.
    names: logical names of the dimensions of each argument.
    out_names: logical names of the dimensions of the result; each must occur in `names`.

  Raises:
    BadInput: see `spec`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return function(*arguments)
  rules = nn.get_logical_axis_rules()
  alone = tuple(axis for axis, size in mesh.shape.items() if size == 1)

  def part(shape, names):
    first, *rest = spec("an activation", shape, tuple(names), mesh, rules)
    # Gradients are summed over every mesh axis that is not named, even if it has a single device.
    return PartitionSpec((*alone, *((first,) if isinstance(first, str) else first or ())), *rest)

  parts = tuple(
    PartitionSpec() if x is None else part(x.shape, n) for x, n in zip(arguments, names, strict=True)
  )
  out = part((0,) * len(out_names), out_names)  # the sizes were checked with the arguments
  # Without the check, the gradient of a shared argument is summed over devices once, at the end; with it, in
  # every iteration of a loop inside the function.
  return jax.shard_map(function, in_specs=parts, out_specs=out, check_vma=False)(*arguments)


def bytes_per_device(tree: Any) -> int:
  """Returns the bytes per device of a tree of sharded arrays, abstract or concrete."""
  return sum(_local_bytes(leaf) for leaf in jax.tree.leaves(tree))


def largest_replicated(tree: Any) -> tuple[str, int]:
  """Returns the path and bytes of the largest fully replicated array.

  Returns ("", 0) if there is no such array or only one device.
  """
  candidates = [("", 0)]
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if leaf.sharding.is_fully_replicated and leaf.sharding.num_devices > 1:
      candidates.append((path_name(path), _local_bytes(leaf)))
  return max(candidates, key=lambda pair: pair[1])


def _local_bytes(leaf):
  return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def batch_parts(mesh: Mesh, rules: Sequence[Rule]) -> int:
  """Returns the number of parts into which the rules split a batch."""
  return math.prod(mesh.shape.get(axis, 1) for axis in check_rules(rules)[axes.BATCH])


@contextlib.contextmanager
def trace_on(mesh: Mesh, rules: Sequence[Rule]):
  """Context in which every model function must be traced; outside it, activation constraints are silently
  dropped.
  """
  rules = [(name, target or None) for name, target in check_rules(rules).items()]
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    yield
