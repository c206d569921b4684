"""Swin V1-T, window 7, 224 px: ImageNet-1K from scratch, 300 epochs. Published: 81.2 % top-1.

  python -m swin_jax.main --config=configs/swin_tiny.py --workdir=runs/swin_tiny --config.data.path=DATA
  python -m swin_jax.main --config=configs/swin_tiny.py:debug \
      --workdir=runs/swin_tiny_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=1, size="tiny", window=7, image_size=224, drop_path_rate=0.2)
  c.classification.num_classes = 1000
  return recipes.debug(c) if kind == "debug" else c
