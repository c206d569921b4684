"""Swin V1-L, window 7, 224 px: ImageNet-22K, 90 epochs. Published, after fine-tuning on 1K: 86.3 % top-1.

  python -m swin_jax.main --config=configs/swin_large.py --workdir=runs/swin_large --config.data.path=DATA
  python -m swin_jax.main --config=configs/swin_large.py:debug \
      --workdir=runs/swin_large_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-22K.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=1, size="large", window=7, image_size=224, drop_path_rate=0.2)
  recipes.set_imagenet_22k(c, weight_decay=0.05)
  return recipes.debug(c) if kind == "debug" else c
