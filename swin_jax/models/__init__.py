"""Table of the backbones, and look-up of the backbone that a config or a model description names."""

from swin_jax.models import swin
from swin_jax.models.backbone import BackboneKind, Level, Settings
from swin_jax.terminal.errors import BadInput

# Value of `config.model.backbone` → the kind. To add a backbone, add a line here.
BACKBONES = {"swin": swin.KIND}
_OLDEST = "swin"  # backbone of settings that were written before the key existed


def backbone_name(settings: Settings) -> str:
  """Returns `model.backbone` of a config or of a model description.

  Raises:
    BadInput: there is no such backbone.
  """
  name = settings["model"].get("backbone", _OLDEST)
  if name not in BACKBONES:
    raise BadInput(f"config.model.backbone = {name!r}: choose one of {', '.join(map(repr, BACKBONES))}")
  return name


def backbone_of(settings: Settings) -> BackboneKind:
  """Returns the kind that `model.backbone` names; for errors, see `backbone_name`."""
  return BACKBONES[backbone_name(settings)]


def levels_of(settings: Settings) -> tuple[Level, ...]:
  """Returns the levels of the backbone, see `Backbone.levels`."""
  return backbone_of(settings).restore(settings).levels
