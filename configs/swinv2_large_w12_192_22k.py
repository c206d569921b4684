"""Swin V2-L, window 12, 192 px: ImageNet-22K, 90 epochs. Published, after fine-tuning on 1K: 86.9 % top-1 at
256 px, 87.6 % at 384 px.

  python -m swin_jax.main --config=configs/swinv2_large_w12_192_22k.py \
      --workdir=runs/swinv2_large_w12_192_22k --config.data.path=DATA
  python -m swin_jax.main --config=configs/swinv2_large_w12_192_22k.py:debug \
      --workdir=runs/swinv2_large_w12_192_22k_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-22K.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="large", window=12, image_size=192, drop_path_rate=0.2)
  recipes.set_imagenet_22k(c, weight_decay=0.1)
  c.zero1 = True  # 0.2 B parameters take 0.9 GB: small enough for a full copy on every device
  return recipes.debug(c) if kind == "debug" else c
