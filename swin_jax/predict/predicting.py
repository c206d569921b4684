"""Predicts all images of a command, and keeps the ledger."""

from collections.abc import Sequence
import hashlib
import json
from typing import Any, NamedTuple

import jax
import numpy as np

from swin_jax.predict.answer import Answer, Work
from swin_jax.predict.devices import Devices
from swin_jax.predict.features import Features
from swin_jax.predict.inputs import Images
from swin_jax.predict.ledger import BAD, Ledger, row
from swin_jax.predict.pixels import PixelMaps
from swin_jax.predict.reading import Loaded
from swin_jax.predict.tables import Classes, Values
from swin_jax.saved.pretrained import Model
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Preempted
from swin_jax.terminal.printable import printable
from swin_jax.terminal.progress import Progress, say, warn

_MOST_NAMED = 10  # unreadable images named on the terminal; the table names all
_MOST_AT_START = 100  # so many unreadable images, with no other before them, end the command


class Request(NamedTuple):
  """What is asked for.

  Attributes:
    top: number of classes of each image.
    features: "pooled", "stage" and its number, or "" for the answer of the task.
    batch_size, num_threads: see `Work`.
    flags: text of the flags on which the result depends.
  """

  top: int
  features: str
  batch_size: int
  num_threads: int
  flags: str


def predict(model: Model, params: Any, source: str, images: Images, request: Request, out: str) -> None:
  """Writes the answers for all images to a folder, or finishes it.

  Args:
    model, params: the model.
    source: its name.
    images: the images.
    request: what to answer.
    out: the folder.

  Raises:
    BadInput: the folder holds something else, or images could not be read; the others have their answers.
    Preempted: the command was asked to stop.
  """
  answer = _choose(model, params, images, request)
  made_by = {
    "model": source,
    "weights": _digest(model, params),
    "images": len(images),
    "names": images.identity,
    "flags": request.flags,
  }
  ledger = Ledger(out, made_by, answer.headers | {BAD: row("path", "problem")})
  if ledger.is_finished:
    say(f"{out} is finished already")
  else:
    try:
      _fill(ledger, answer, Work(model, params, images, Devices(), request.batch_size, request.num_threads))
    finally:
      ledger.close()
  say(f"wrote {out}: answers for {ledger.rows:,} image{'s' * (ledger.rows != 1)}")
  if ledger.bad:
    raise BadInput(
      f"{ledger.bad:,} of {len(images):,} images could not be read; {out}/{BAD} names them, and the others"
      " have their answers"
    )


def _choose(model: Model, params: Any, images: Images, request: Request) -> Answer:
  """Returns the kind of answer that a model gives.

  Raises:
    BadInput: the model gives none, or not for these images.
  """
  if request.features:
    return Features(model, params, request.features)
  if model.kind.pixels:
    return PixelMaps(model, images)
  if model.masked:
    raise BadInput("a masked-image model predicts no classes; --features=pooled gives its features")
  if not model.kind.needs.has_classes:
    return Values(model, params)
  if not model.class_names:
    raise BadInput("the model has no head, so it predicts no classes; --features=pooled gives its features")
  return Classes(model, request.top)


def _fill(ledger: Ledger, answer: Answer, work: Work) -> None:
  """Answers for the images that have no answer yet.

  Raises:
    BadInput: none of the first images could be read.
    Preempted: see `predict`.
  """
  total = len(work.images)
  answer.open(ledger, total)
  progress = Progress("predicting", total, "images", ledger.next)
  preemption.protect()
  for loaded, outputs in answer.answered(ledger.next, work):
    good = [each.name for each in loaded if not each.problem]
    _name_bad(ledger, [each for each in loaded if each.problem])
    if not ledger.rows and not good and ledger.bad >= min(total, _MOST_AT_START):
      ledger.abandon()
      last = loaded[-1]
      raise BadInput(
        f"none of the first {ledger.bad:,} images could be read; the last: {last.name} {last.problem}"
      )
    answer.write(ledger, good, outputs)
    ledger.rows += len(good)
    ledger.next += len(loaded)
    progress.step(len(loaded))
    stop = preemption.requested()
    if stop or ledger.is_due():
      answer.flush()
      ledger.commit()
    if stop:
      raise Preempted(
        f"stopped after {ledger.next:,} of {total:,} images; the same command goes on from there"
      )
  progress.finish()
  answer.finish(ledger)
  ledger.finish()


def _name_bad(ledger: Ledger, bad: Sequence[Loaded]) -> None:
  """Writes which images cannot be read to a table, and the first ones to the terminal."""
  for each in bad:
    ledger.write(BAD, row(printable(each.name), printable(each.problem)))
    ledger.bad += 1
    if ledger.bad <= _MOST_NAMED:
      more = f"; further ones are only named in {BAD}" if ledger.bad == _MOST_NAMED else ""
      warn(f"left out: {each.name} {each.problem}{more}")


def _digest(model: Model, params: Any) -> str:
  """Returns a digest of a model's description and parameters."""
  sha256 = hashlib.sha256(json.dumps(model.description, sort_keys=True).encode())
  for leaf in jax.tree.leaves(params):
    sha256.update(np.ascontiguousarray(leaf))
  return sha256.hexdigest()
