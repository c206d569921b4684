"""`swin_jax.load`: loads a trained model, of this program or of another one."""

import functools
from typing import Any

from swin_jax.saved import pretrained
from swin_jax.weights import converted


@functools.wraps(pretrained.load)
def load(path: str, **options: Any) -> tuple[pretrained.Model, Any]:
  return pretrained.load(converted.path(path), **options)
