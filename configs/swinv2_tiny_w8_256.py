"""Swin V2-T, window 8, 256 px: ImageNet-1K from scratch, 300 epochs. Published: 81.8 % top-1.

  python -m swin_jax.main --config=configs/swinv2_tiny_w8_256.py --workdir=runs/swinv2_tiny_w8_256 \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/swinv2_tiny_w8_256.py:debug \
      --workdir=runs/swinv2_tiny_w8_256_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="tiny", window=8, image_size=256, drop_path_rate=0.2)
  c.classification.num_classes = 1000
  return recipes.debug(c) if kind == "debug" else c
