"""Swin V1-S, window 7, 224 px: ImageNet-1K from scratch, 300 epochs. Published: 83.2 % top-1.

  python -m swin_jax.main --config=configs/swin_small.py --workdir=runs/swin_small --config.data.path=DATA
  python -m swin_jax.main --config=configs/swin_small.py:debug \
      --workdir=runs/swin_small_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=1, size="small", window=7, image_size=224, drop_path_rate=0.3)
  c.classification.num_classes = 1000
  return recipes.debug(c) if kind == "debug" else c
