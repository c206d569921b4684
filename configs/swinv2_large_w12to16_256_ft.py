"""Swin V2-L, window 12 → 16, 192 → 256 px: ImageNet-22K → 1K, 30 epochs. Published: 86.9 % top-1.

  python -m swin_jax.main --config=configs/swinv2_large_w12to16_256_ft.py \
      --workdir=runs/swinv2_large_w12to16_256_ft --config.data.path=DATA
  python -m swin_jax.main --config=configs/swinv2_large_w12to16_256_ft.py:debug \
      --workdir=runs/swinv2_large_w12to16_256_ft_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K. The run starts from the run of
`configs/swinv2_large_w12_192_22k.py` in runs/swinv2_large_w12_192_22k, or from another with
--config.init_from=WORKDIR, or from a model folder that `python -m swin_jax.weights import` wrote from the
published weights. The published runs transferred rows of the 22K head:
--config.transfer.class_map=map22kto1k.txt, a file of the official code. Without it the head is newly
initialised.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="large", window=16, image_size=256, drop_path_rate=0.2)
  recipes.set_fine_tuning_from_22k(c)
  c.init_from = "runs/swinv2_large_w12_192_22k"
  return recipes.debug(c) if kind == "debug" else c
