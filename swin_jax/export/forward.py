"""The exported part of a model: one function of its weights and a batch of any size."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import jax
import jax.export
import jax.numpy as jnp

from swin_jax.saved import pretrained


class Forward(NamedTuple):
  """The forward pass.

  Attributes:
    run: (weights by path, *inputs) → the output, or a list of outputs.
    weights: of the model, by path.
    inputs: name → shape and dtype; the batch dimension is symbolic.
    outputs: names of the outputs.
  """

  run: Callable[..., jax.Array | list[jax.Array]]
  weights: dict[str, jax.Array]
  inputs: dict[str, jax.ShapeDtypeStruct]
  outputs: tuple[str, ...]

  def describe(self) -> dict[str, list[dict[str, Any]]]:
    """Returns name, shape and dtype of inputs and outputs, for config.json.

    The batch dimension is a string, all other dimensions are numbers.
    """
    outputs = jax.tree.leaves(jax.eval_shape(self.run, self.weights, *self.inputs.values()))
    arrays = {"inputs": self.inputs, "outputs": dict(zip(self.outputs, outputs, strict=True))}
    return {
      kind: [
        {
          "name": name,
          "shape": [dim if isinstance(dim, int) else str(dim) for dim in array.shape],
          "dtype": array.dtype.name,
        }
        for name, array in named.items()
      ]
      for kind, named in arrays.items()
    }


def make(model: pretrained.Model, params: Any, features: bool) -> Forward:
  """Returns the forward pass of a model on images of its size.

  Args:
    model, params: from `pretrained.load`.
    features: return the output of every stage, instead of logits, pooled features or reconstruction.
  """
  (batch,) = jax.export.symbolic_shape("batch")
  inputs = {"images": jax.ShapeDtypeStruct((batch, *model.image_size, len(model.mean)), jnp.float32)}
  if features:
    outputs = tuple(f"stage{i}" for i in range(len(model.module.encoder.levels)))
  else:
    outputs = (model.kind.outputs(model.description).name,)
    others = model.kind.inputs(model.description, model.image_size)
    inputs |= {name: jax.ShapeDtypeStruct((batch, *shape), dtype) for name, (shape, dtype) in others.items()}

  def run(weights, *inputs):
    params = flax.traverse_util.unflatten_dict(weights, sep="/")
    if features:
      return model.features(params, *inputs, stages=range(len(outputs)))
    return model.apply(params, *inputs)

  return Forward(run, flax.traverse_util.flatten_dict(params, sep="/"), inputs, outputs)
