"""Collectives of a compiled program, read from its optimised HLO text.

The compiler's own cost analysis counts the body of a loop once and does not report collectives. Here the body
counts as often as the loop runs.
"""

from collections.abc import Iterator, Sequence
import math
import re
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_ARRAY = re.compile(r"\b(pred|bf16|[sufc]\d+)(?:e\w+)?\[([\d,]*)\]")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Collective(NamedTuple):
  """One collective operation of a program.

  Attributes:
    kind: one of `KINDS`.
    dtype: dtype of the array sent; that of the largest if several are sent together.
    times: executions per run of the program.
    group: number of chips that take part.
    payload_bytes: size of the whole array: the result of all-gather and all-reduce, the input of
      reduce-scatter.
    source: operation of the model that it belongs to, according to the compiler's metadata.
  """

  kind: str
  dtype: str
  times: int
  group: int
  payload_bytes: int
  source: str

  @property
  def link_bytes(self) -> int:
    """Bytes that each chip receives in all executions with a ring algorithm, the minimum of any algorithm."""
    share = 1.0 if self.kind == "collective-permute" else (self.group - 1) / self.group
    return round(self.times * self.payload_bytes * share * (2 if self.kind == "all-reduce" else 1))


class _Instruction(NamedTuple):
  name: str
  shape: str
  opcode: str
  rest: str  # operands and attributes


def collectives(text: str) -> tuple[list[Collective], int]:
  """Returns every collective of an optimised HLO module.

  Returns:
    The collectives, and the number of loops with collectives whose trip count is unknown; the body of such a
    loop counts once.
  """
  computations, entry = _computations(text)
  chips = math.prod(
    int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", text.partition("\n")[0])
  )
  collected, unknown = [], 0

  def walk(name: str, times: int, counted: set[str], in_scatter: bool = False) -> None:
    nonlocal unknown
    for instruction in computations.get(name, ()):
      kind = instruction.opcode.removesuffix("-start")
      if kind in KINDS and not (chain := _chain(instruction)) & counted:
        counted |= chain
        collected.append(_collective(instruction, "reduce-scatter" if in_scatter else kind, times, chips))
      elif instruction.opcode == "while":
        body, condition = (
          re.search(rf"\b{key}=%?([\w.\-]+)", instruction.rest)[1] for key in ("body", "condition")
        )
        test = [*computations.get(condition, ())]
        # The comparison may be in a fusion.
        test += [
          inner for outer in test for called in _called(outer) for inner in computations.get(called, ())
        ]
        trips = _trip_count(instruction, test)
        before = len(collected)
        walk(body, times * (1 if trips is None else trips), set())
        unknown += trips is None and len(collected) > before
      elif instruction.opcode in ("fusion", "call", "async-start", "conditional"):
        for called in _called(instruction):
          # On TPUs a reduce-scatter is a fusion around an all-reduce, from which each chip keeps its part.
          walk(
            called,
            times,
            counted if instruction.opcode == "fusion" else set(),
            called.startswith("all-reduce-scatter"),
          )

  walk(entry, 1, set())
  return collected, unknown


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  computations, entry, current = {}, "", []
  for line in text.splitlines():
    if match := _INSTRUCTION.match(line):
      shape, rest = _split_shape(line[match.end() :])
      if opcode := _OPCODE.match(rest):
        current.append(_Instruction(match[1], shape, opcode[1], rest[opcode.end() :]))
    elif match := _COMPUTATION.match(line):
      current = computations[match[2]] = []
      entry = match[2] if match[1] else entry
  return computations, entry


def _split_shape(text: str) -> tuple[str, str]:
  """Splits an instruction into the shape it starts with, possibly a tuple in parentheses, and the rest."""
  if not text.startswith("("):
    shape, _, rest = text.partition(" ")
    return shape, rest
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      return text[: i + 1], text[i + 1 :]
  return text, ""


def _called(instruction: _Instruction) -> Iterator[str]:
  for group in re.findall(
    r"\b(?:calls|to_apply|branch_computations)=\{?(%[^{}\s]+(?:, %[^{}\s]+)*)", instruction.rest
  ):
    yield from (name.strip("%,") for name in group.split(", "))


def _chain(instruction: _Instruction) -> set[str]:
  """Returns the channel and chain that the pieces of one collective share; empty if it is in one piece.

  TPUs split a collective into such pieces in asynchronous collective fusions.
  """
  channel, chain = (
    re.search(r"channel_id=(\d+)", instruction.rest),
    re.search(r'chain_id="(\d+)"', instruction.rest),
  )
  return {f"{channel[1]} {chain[1]}"} if channel and chain else set()


def _trip_count(loop: _Instruction, condition: Sequence[_Instruction]) -> int | None:
  """Returns the number of iterations of a loop; None if unknown.

  The number is the compiler's annotation or, without one, the constant that the condition compares with the
  counter, which is assumed to start at 0.
  """
  if known := _TRIP_COUNT.search(loop.rest.replace(" ", "")):
    return int(known[1])
  integers = (
    i for i in condition if i.opcode == "constant" and i.shape.startswith(("s32[]", "u32[]", "s64[]"))
  )
  constants = [re.match(r"(\d+)\)", i.rest) for i in integers]
  less_than = any(i.opcode == "compare" and "direction=LT" in i.rest for i in condition)
  return int(constants[0][1]) if less_than and len(constants) == 1 and constants[0] else None


def _collective(instruction: _Instruction, kind: str, times: int, chips: int) -> Collective:
  shape = instruction.shape
  # The shape of a start operation is (inputs, outputs, …).
  if instruction.opcode in ("all-gather-start", "collective-permute-start"):
    inner = shape[1:-1]
    shape = (
      _split_shape(inner)[1]
      if inner.startswith("(")
      else ", ".join(re.findall(r"[^\s,]+\[[^\]]*\]", inner)[1:2])
    )
  arrays = [(dtype, _bytes(dtype, sizes)) for dtype, sizes in _ARRAY.findall(re.sub(r"\{[^}]*\}", "", shape))]
  payload, group = sum(size for _, size in arrays), _group_size(instruction.rest, chips)
  if kind == "reduce-scatter" and instruction.opcode.startswith("reduce-scatter"):
    payload *= group  # its result is one part of its input
  source = re.search(r'op_name="([^"]*)"', instruction.rest)
  return Collective(
    kind, max(arrays, key=lambda a: a[1])[0], times, group, payload, source[1] if source else ""
  )


def _bytes(dtype: str, sizes: str) -> int:
  bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
  return math.prod(int(size) for size in sizes.split(",") if size) * bits // 8


def _group_size(attributes: str, chips: int) -> int:
  """Returns the group size from `replica_groups` in any of its three notations: lists, [groups,size]<=[…],
  and mesh axes.
  """
  if match := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
    return match[1].count(",") + 1
  if match := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
    return int(match[1])
  if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
    named = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2])
    return math.prod(int(part or sizes[axis]) for axis, part in named)
  return chips
