"""One split of a source."""

from swin_jax.data.read import sources
from swin_jax.data.read.example import Source
from swin_jax.data.read.targets import Target


def open_source(name: str, path: str, split: str, needs: Target = Target.NOTHING) -> Source:
  """Opens a split; see `sources.open_sources`."""
  return sources.open_sources(name, path, (split,), needs)[0]
