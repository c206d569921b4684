"""The properties of Swin Transformers outside their modules."""

import jax
from ml_collections import ConfigDict

from swin_jax.kernels import window_attention
from swin_jax.models.backbone import BackboneKind, Settings
from swin_jax.models.swin import attention_maps, bias_tables, checks, fixed_bias, settings
from swin_jax.models.swin.breakdown import breakdown
from swin_jax.models.swin.swin import Swin, make_encoder


def _make(config: ConfigDict, device: jax.Device) -> Swin:
  """Returns the backbone with the attention kernel for a device."""
  model = {**config.model, "attention_kernel": window_attention.choose(config.model.attention_kernel, device)}
  return make_encoder(**model | ({"drop_path_rate": 0.0} if config.optim.freeze_encoder else {}))


def _restore(values: Settings, dtype: str = "float32", unroll: bool = False, kernel: str = "xla") -> Swin:
  """Returns the backbone for inference, with this attention kernel."""
  return make_encoder(**settings.sizes(values), attention_kernel=kernel, unroll=unroll, dtype=dtype)


def _check_platform(config: ConfigDict, platform: str) -> None:
  window_attention.check(config.model.attention_kernel, platform)


def _decay(config: ConfigDict) -> tuple[tuple[str, bool], ...]:
  """Returns the rules for the parameters of attention.

  The official SimMIM pre-training is meant to exempt the second row too, but its name prefix never matches
  (microsoft/Swin-Transformer#369).
  """
  return (
    (r".*/(q_bias|v_bias)", False),
    (r".*/(logit_scale|bias_table|cpb_fc[12]/kernel)", config.optim.official_pretraining_decay),
  )


def _keys(names: tuple[str, ...]) -> tuple[str, ...]:
  return tuple(f"model.{name}" for name in names)


KIND = BackboneKind(
  reads=("model",),
  weights=_keys(settings.WEIGHTS),
  applied=_keys(settings.APPLIED),
  may_differ=_keys(("remat", "attention_chunks", "attention_kernel", "unroll")),
  rules=checks.RULES,
  check=checks.check,
  check_saved=checks.check_saved,
  make=_make,
  restore=_restore,
  describe=settings.describe,
  summarise=settings.summarise,
  pixel_kernel="patch_embed/proj/kernel",
  check_platform=_check_platform,
  resolve=settings.resolve,
  refusal=settings.refusal,
  pads=settings.pads,
  further_flags=settings.further_flags,
  adapt=settings.adapt,
  adapt_array=bias_tables.adapt_array,
  decay=_decay,
  fix=fixed_bias.fix,
  attention=attention_maps.capture,
  breakdown=breakdown,
)
