"""Swin Transformer, V1 and V2, as a `models.backbone.Backbone`."""

from swin_jax.models.swin.config import SwinConfig, make_config
from swin_jax.models.swin.kind import KIND
from swin_jax.models.swin.swin import Swin, make_encoder

__all__ = ["KIND", "Swin", "SwinConfig", "make_config", "make_encoder"]
