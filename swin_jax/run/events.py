"""Writes TensorBoard events.

tensorboardX makes them, but not its writer: that one writes in a thread which dies when the disk is full, and
the run would then wait for its queue for ever.
"""

from collections.abc import Mapping
import os
import pathlib
import re
import socket
import struct
import sys
import time
from typing import Any

import numpy as np

from swin_jax.run.record_file import RecordFile
from swin_jax.terminal.progress import warn


class Events:
  """The TensorBoard events of a run. A failure does not stop the run, see `RecordFile`.

  Args:
    folder: folder of the events of all processes that worked on the run.
    step: first step of this process; TensorBoard drops the events of this and later steps, which an earlier
      process wrote.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    self._file = None
    try:
      self._proto, self._checksum = _import()
    except Exception as error:  # an installation that does not fit may raise anything
      reason = " ".join(str(error).split())
      warn(f"tensorboardX cannot be imported ({reason}); the run goes on without its events")
      return
    name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
    start = self._record(file_version="brain.Event:2")
    start += self._record(step=step, session_log=self._proto.SessionLog(status=self._proto.SessionLog.START))
    self._file = RecordFile(folder / name, start)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    self._add(step, [{"tag": _tag(name), "simple_value": float(value)} for name, value in values.items()])

  def picture(self, step: int, name: str, grid: np.ndarray, png: bytes) -> None:
    height, width, _ = grid.shape
    image = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": png}
    self._add(step, [{"tag": _tag(name), "image": image}])

  def close(self) -> None:
    if self._file:
      self._file.close()

  def _add(self, step: int, values: list[dict[str, Any]]) -> None:
    if self._file:
      self._file.add(self._record(step=step, summary={"value": values}))

  def _record(self, **fields: Any) -> bytes:
    """Returns an event as a record: its length and its bytes, each with a checksum."""
    data = self._proto.Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", self._checksum(part)) for part in (length, data))
    return length + next(sums) + data + next(sums)


def _tag(name: str) -> str:
  """Returns the name of a value with the characters that TensorFlow allows in names."""
  return re.sub(r"[^-/\w.]", "_", name)


def _import() -> tuple[Any, Any]:
  """Imports tensorboardX without torch, which it would load for seconds if installed.

  Returns:
    The module of the protocol buffers of events, and the function that computes a checksum.
  """
  without_torch = {} if "torch" in sys.modules else {"torch": None}
  sys.modules.update(without_torch)
  try:
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c
  finally:
    for name in without_torch:
      del sys.modules[name]
  return event_pb2, masked_crc32c
