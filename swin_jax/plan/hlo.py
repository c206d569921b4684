"""What the chips of a compiled program send each other, read from its optimised HLO text.

The compiler's own cost analysis counts the body of a loop once and says nothing of collectives; here a body
counts as often as it runs.
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
    kind: of `KINDS`.
    dtype: of what is sent; the largest part's where several arrays go together.
    times: it runs in one run of the program.
    group: chips that take part together.
    payload_bytes: of the whole array, once: what all-gather and all-reduce end with, what reduce-scatter
      starts with.
    source: the model's operation that it belongs to, as the compiler noted it.
  """

  kind: str
  dtype: str
  times: int
  group: int
  payload_bytes: int
  source: str

  @property
  def link_bytes(self) -> int:
    """Bytes that each chip receives in all its runs, by ring algorithms: the least that any algorithm can do
    with.
    """
    share = 1.0 if self.kind == "collective-permute" else (self.group - 1) / self.group
    return round(self.times * self.payload_bytes * share * (2 if self.kind == "all-reduce" else 1))


class _Instruction(NamedTuple):
  name: str
  shape: str
  opcode: str
  rest: str  # operands and attributes


def collectives(text: str) -> tuple[list[Collective], int]:
  """Every collective of an optimised HLO module.

  Returns:
    The collectives, and the number of loops around collectives whose trip count is not known; their bodies
    count once.
  """
  computations, entry = _computations(text)
  chips = math.prod(
    int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", text.partition("\n")[0])
  )
  found, unknown = [], 0

  def walk(name: str, times: int, seen: set[str], in_scatter: bool = False) -> None:
    nonlocal unknown
    for instruction in computations.get(name, ()):
      kind = instruction.opcode.removesuffix("-start")
      if kind in KINDS and not (chain := _chain(instruction)) & seen:
        seen |= chain
        found.append(_collective(instruction, "reduce-scatter" if in_scatter else kind, times, chips))
      elif instruction.opcode == "while":
        body, condition = (
          re.search(rf"\b{key}=%?([\w.\-]+)", instruction.rest)[1] for key in ("body", "condition")
        )
        test = [*computations.get(condition, ())]
        # compared in a fusion
        test += [
          inner for outer in test for called in _called(outer) for inner in computations.get(called, ())
        ]
        trips = _trip_count(instruction, test)
        before = len(found)
        walk(body, times * (1 if trips is None else trips), set())
        unknown += trips is None and len(found) > before
      elif instruction.opcode in ("fusion", "call", "async-start", "conditional"):
        for called in _called(instruction):
          # A TPU's reduce-scatter is a fusion around an all-reduce of which each chip keeps its part.
          walk(
            called,
            times,
            seen if instruction.opcode == "fusion" else set(),
            called.startswith("all-reduce-scatter"),
          )

  walk(entry, 1, set())
  return found, unknown


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
  """The type at the start of an instruction, a tuple in brackets maybe, and what follows it."""
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
  """A TPU's asynchronous collective fusion shows one collective in pieces, which share channel and chain."""
  channel, chain = (
    re.search(r"channel_id=(\d+)", instruction.rest),
    re.search(r'chain_id="(\d+)"', instruction.rest),
  )
  return {f"{channel[1]} {chain[1]}"} if channel and chain else set()


def _trip_count(loop: _Instruction, condition: Sequence[_Instruction]) -> int | None:
  """As the compiler noted it, else the constant that the loop's counter, which starts at 0, is compared
  with.
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
  # (what goes in, what comes out, …)
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
    payload *= group  # its result is one part of what went in
  source = re.search(r'op_name="([^"]*)"', instruction.rest)
  return Collective(
    kind, max(arrays, key=lambda a: a[1])[0], times, group, payload, source[1] if source else ""
  )


def _bytes(dtype: str, sizes: str) -> int:
  bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
  return math.prod(int(size) for size in sizes.split(",") if size) * bits // 8


def _group_size(attributes: str, chips: int) -> int:
  """Of `replica_groups` in any of its three notations: lists, [groups,size]<=[…], and axes of a mesh."""
  if match := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
    return match[1].count(",") + 1
  if match := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
    return int(match[1])
  if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
    named = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2])
    return math.prod(int(part or sizes[axis]) for axis, part in named)
  return chips
