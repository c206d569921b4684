"""Swin V2-L, window 12 → 16, 192 → 256 px: ImageNet-22K → 1K, 30 epochs. Published: 86.9 % top-1.

  python -m swin_jax.main --config=configs/swinv2_large_w12to16_256_ft.py \
      --workdir=runs/swinv2_large_w12to16_256_ft --config.data.path=DATA
  python -m swin_jax.main --config=configs/swinv2_large_w12to16_256_ft.py:debug \
      --workdir=runs/swinv2_large_w12to16_256_ft_debug    # a minute on a CPU

DATA is what `python -m swin_jax.data.prepare` made of ImageNet-1K. Starts from the run of
`configs/swinv2_large_w12_192_22k.py` in runs/swinv2_large_w12_192_22k; another: --config.init_from=WORKDIR,
or a model folder that `python -m swin_jax.weights import` made of the published weights. The published runs
took over rows of the 22K head:
--config.transfer.class_map=map22kto1k.txt, a file of the official code; without it the head starts fresh.
"""

from configs import common, recipes


def get_config(arg=None):
  kind = common.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="large", window=16, image_size=256, drop_path_rate=0.2)
  recipes.set_fine_tuning_from_22k(c)
  c.init_from = "runs/swinv2_large_w12_192_22k"
  return recipes.debug(c) if kind == "debug" else c
