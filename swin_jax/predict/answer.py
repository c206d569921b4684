"""One kind of answer of a model: what the model computes of images, and how it is written."""

from collections.abc import Iterator, Sequence
import functools
from typing import Any, NamedTuple

import jax

from swin_jax.predict import reading
from swin_jax.predict.devices import Devices
from swin_jax.predict.inputs import Images
from swin_jax.predict.ledger import Ledger
from swin_jax.predict.reading import Loaded
from swin_jax.saved.pretrained import Model


class Work(NamedTuple):
  """What an answer is computed of and with.

  Attributes:
    model, params: the model.
    images: all images.
    devices: that compute.
    batch_size: images at once; rounded up to a multiple of the devices.
    num_threads: threads that read.
  """

  model: Model
  params: Any
  images: Images
  devices: Devices
  batch_size: int
  num_threads: int


class Answer:
  """One row of arrays for each image of one size.

  Attributes:
    headers: name of each text file → its first line.
  """

  headers: dict[str, str]

  def function(self, params: Any, images: jax.Array) -> Any:
    """Returns arrays [B, ...] for images [B, height, width, bands] that are not normalised."""
    raise NotImplementedError

  def open(self, ledger: Ledger, total: int) -> None:
    """Opens what is not a text file in the folder of the ledger, for answers to `total` images."""

  def answered(self, first: int, work: Work) -> Iterator[tuple[list[Loaded], Any]]:
    """Yields consecutive images from number `first` on, and the answers for those that could be read."""
    model, images = work.model, work.images
    bands, dtype, view = model.presented.bands, model.presented.dtype, model.presented.view
    size = -(-work.batch_size // work.devices.count) * work.devices.count

    def read(index: int) -> tuple[str, Any]:
      name, image = images.read(index, bands, dtype)
      return name, view(image)

    load = functools.partial(
      reading.batch, reading.Source(read, images.name), (*model.image_size, bands), dtype, size
    )
    batches = [range(start, min(start + size, len(images))) for start in range(first, len(images), size)]
    run, unread = work.devices.compiled(self.function, work.params), None
    for batch in reading.ahead(load, batches, work.num_threads, work.num_threads + 2):
      outputs = run(batch.pixels)
      if unread:
        yield _good(*unread)
      unread = batch.loaded, outputs  # one batch late: the devices never wait for the host
    if unread:
      yield _good(*unread)

  def write(self, ledger: Ledger, names: Sequence[str], outputs: Any) -> None:
    """Writes the answers for the images of these names, which could be read."""
    raise NotImplementedError

  def flush(self) -> None:
    """Writes out what is not a text file."""

  def finish(self, ledger: Ledger) -> None:
    """Completes what is not a text file."""


def _good(loaded: list[Loaded], outputs: Any) -> tuple[list[Loaded], Any]:
  """Returns the images and, on the host, the outputs of those that could be read."""
  rows = [i for i, each in enumerate(loaded) if not each.problem]
  return loaded, jax.tree.map(lambda array: array[rows], jax.device_get(outputs))
