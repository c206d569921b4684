"""Rematerialisation: which tensors of a block are saved for the backward pass; the rest is recomputed."""

from collections.abc import Callable

import jax

from swin_jax.terminal.errors import BadInput

# Tensors of a block by the names that the layers give them, in the order of computation. Each holds C values
# per token, except that qkv holds 3 C and mlp_hidden mlp_ratio · C. The first three are split into windows,
# so they include the padding of the map.
SAVEABLE = ("qkv", "attention", "attention_output", "mlp_hidden", "mlp_output")


def policy(name: str) -> Callable | None:
  """Returns the policy for `jax.checkpoint`, or None if nothing is recomputed.

  "none" saves everything; "block" only the input of a block; "dots" also the results of its products with
  weights; "save:NAME,NAME,..." the input and the named tensors of `SAVEABLE`.

  Raises:
    BadInput: unknown policy or tensor.
  """
  policies = {
    "none": None,
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  }
  if isinstance(name, str) and name in policies:
    return policies[name]
  if not isinstance(name, str) or not name.startswith("save:") or not set(saved(name)) <= set(SAVEABLE):
    named = f"save: with names from {', '.join(SAVEABLE)}, like save:qkv,mlp_hidden"
    raise BadInput(f"choose one of {', '.join(policies)}, or {named}")
  return jax.checkpoint_policies.save_only_these_names(*saved(name))


def saved(name: str) -> tuple[str, ...]:
  """Returns the tensors that a policy saves by name; () for the other policies."""
  prefix, _, tensors = name.partition(":")
  return tuple(tensors.split(",")) if prefix == "save" else ()
