"""The equations of a traced function."""

import jax


def primitives(jaxpr):
  """Yields the equations of a jaxpr and of all jaxprs nested in it."""
  for eqn in jaxpr.eqns:
    yield eqn
    for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
      if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        yield from primitives(getattr(value, "jaxpr", value))
