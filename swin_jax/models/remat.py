"""What of a block is kept for the backward pass; the rest is computed again."""

from collections.abc import Callable

import jax

from swin_jax.terminal.errors import BadInput

# Tensors of a block, in the order they are made, as the layers name them: [B, H, W, C], but qkv three times
# as wide and mlp_hidden mlp_ratio times.
SAVEABLE = ("qkv", "attention", "attention_output", "mlp_hidden", "mlp_output")


def policy(name: str) -> Callable | None:
  """The policy for `jax.checkpoint`, or None where nothing is computed again.

  "none": everything is kept; "block": the input of a block alone; "dots": also what its products with weights
  give; "save:NAME,NAME,...": the input and the named tensors, out of `SAVEABLE`.

  Raises:
    BadInput: no such policy or tensor.
  """
  policies = {
    "none": None,
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  }
  if name in policies:
    return policies[name]
  if not name.startswith("save:") or not set(saved(name)) <= set(SAVEABLE):
    named = f"save: with names out of {', '.join(SAVEABLE)}, like save:qkv,mlp_hidden"
    raise BadInput(f"model.remat = '{name}': there are {', '.join(policies)}, and {named}")
  return jax.checkpoint_policies.save_only_these_names(*saved(name))


def saved(name: str) -> tuple[str, ...]:
  """The tensors that a policy saves by name; none for the others."""
  kind, _, tensors = name.partition(":")
  return tuple(tensors.split(",")) if kind == "save" else ()
