"""Swin V2-B, window 12, 192 px: SimMIM pre-training on ImageNet-1K, 800 epochs. Published: 85.04 % top-1
after fine-tuning.

  python -m swin_jax.main --config=configs/simmim_swinv2_base_w12_192.py \
      --workdir=runs/simmim_swinv2_base_w12_192 --config.data.path=DATA
  python -m swin_jax.main --config=configs/simmim_swinv2_base_w12_192.py:debug \
      --workdir=runs/simmim_swinv2_base_w12_192_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="base", window=12, image_size=192, drop_path_rate=0.1)
  recipes.set_simmim(c)
  c.masked_pixels.target_norm_window = 47
  return recipes.debug(c) if kind == "debug" else c
