"""Swin Transformers V1 and V2 for JAX.

`load` loads a trained model, for example in a notebook. Everything else is a command, see the README.
"""

__version__ = "0.1.0"


def __getattr__(name):
  if name == "load":  # imported late: jax takes seconds, and a mistyped flag should fail at once
    from swin_jax.weights.load import load

    return load
  raise AttributeError(f"module 'swin_jax' has no attribute '{name}'")
