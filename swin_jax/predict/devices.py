"""All devices of this process, among which a batch is divided; each of them holds all parameters."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from swin_jax.mesh import axes, sharding

_AXIS = "data"
_RULES = tuple((name, _AXIS if name == axes.BATCH else None) for name in sorted(axes.ALL))


class Devices:
  """A mesh of all devices.

  Attributes:
    count: number of devices; it must divide a batch.
  """

  def __init__(self):
    self._mesh = sharding.make_mesh({_AXIS: -1}, jax.local_devices())
    self.count = self._mesh.size

  def compiled(self, function: Callable[[Any, jax.Array], Any], params: Any) -> Callable[[np.ndarray], Any]:
    """Returns the function images [B, ...] → arrays [B, ...] with these parameters; it does not wait for its
    result.

    Args:
      function: (parameters, images) → tree of arrays, all [B, ...].
      params: the parameters.
    """
    whole, batch = (NamedSharding(self._mesh, PartitionSpec(*axis)) for axis in ((), (_AXIS,)))
    params = jax.device_put(params, whole)
    run = jax.jit(function, in_shardings=(whole, batch), out_shardings=batch)

    def answer(images: np.ndarray) -> Any:
      with sharding.trace_on(self._mesh, _RULES):
        return run(params, jax.device_put(images, batch))

    return answer
