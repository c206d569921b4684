"""Small inputs of 8×8 images, and a comparison of their batches."""

import numpy as np

from swin_jax.data.feed import pipeline
from swin_jax.data.read import decoding
from swin_jax.data.view import views

WHOLE = pipeline.Part(0, 1)


def make_input(source, workers=0, seed=5, batch=8) -> pipeline.Input:
  return pipeline.Input(
    train_source=source,
    eval_source=source,
    train_view=views.Labelled(views.Augment((8, 8), (0.3, 1.0), (3 / 4, 4 / 3), 0, "bicubic", 0.5)),
    eval_view=views.Labelled(views.EvalView((8, 8), 1.0, "bicubic")),
    decode=decoding.DecodeImage(3),
    seed=seed,
    batch_size=batch,
    eval_batch_size=batch,
    max_bad_fraction=0.5,
    num_threads=2,
    num_workers=workers,
  )


def take(batches, count):
  return [next(batches) for _ in range(count)]


def assert_same(batches, others):
  """Compares two lists of batches bit for bit."""
  assert len(batches) == len(others)
  for one, other in zip(batches, others, strict=True):
    assert one.keys() == other.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], other[key], err_msg=key)
