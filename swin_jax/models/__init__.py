"""The table of backbones, and how a config or a description of a model finds its own."""

from swin_jax.models import swin
from swin_jax.models.backbone import BackboneKind, Level, Settings
from swin_jax.terminal.errors import BadInput

# The value of `config.model.backbone` → the kind; a new backbone is a line here.
BACKBONES = {"swin": swin.KIND}
# What settings name that are older than the key.
_OLDEST = "swin"


def backbone_name(settings: Settings) -> str:
  """Returns what `model.backbone` of a config, or of the description of a model, says.

  Raises:
    BadInput: there is no such backbone.
  """
  name = settings["model"].get("backbone", _OLDEST)
  if name not in BACKBONES:
    raise BadInput(f"config.model.backbone = {name!r}: there are {', '.join(map(repr, BACKBONES))}")
  return name


def backbone_of(settings: Settings) -> BackboneKind:
  """Returns the kind that `model.backbone` names; raises as `backbone_name`."""
  return BACKBONES[backbone_name(settings)]


def levels_of(settings: Settings) -> tuple[Level, ...]:
  """Returns the levels of the backbone, see `Backbone.levels`."""
  return backbone_of(settings).restore(settings).levels
