"""Swin V1-B, window 6, 192 px: SimMIM pre-training on ImageNet-1K, 800 epochs. Published: 84.0 % top-1 after
fine-tuning.

  python -m swin_jax.main --config=configs/simmim_swin_base.py --workdir=runs/simmim_swin_base \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/simmim_swin_base.py:debug \
      --workdir=runs/simmim_swin_base_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=1, size="base", window=6, image_size=192, drop_path_rate=0.0)
  recipes.set_simmim(c)
  return recipes.debug(c) if kind == "debug" else c
