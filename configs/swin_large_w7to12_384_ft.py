"""Swin V1-L, window 7 → 12, 224 → 384 px: ImageNet-22K → 1K, 30 epochs. Published: 87.3 % top-1.

  python -m swin_jax.main --config=configs/swin_large_w7to12_384_ft.py \
      --workdir=runs/swin_large_w7to12_384_ft --config.data.path=DATA
  python -m swin_jax.main --config=configs/swin_large_w7to12_384_ft.py:debug \
      --workdir=runs/swin_large_w7to12_384_ft_debug    # a minute on a CPU

DATA is what `python -m swin_jax.data.prepare` made of ImageNet-1K. Starts from the run of
`configs/swin_large.py` in runs/swin_large; another: --config.init_from=WORKDIR, or a model folder that
`python -m swin_jax.weights import` made of the published weights. The published runs took over rows of the
22K head:
--config.transfer.class_map=map22kto1k.txt, a file of the official code; without it the head starts fresh.
"""

from configs import common, recipes


def get_config(arg=None):
  kind = common.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=1, size="large", window=12, image_size=384, drop_path_rate=0.2)
  recipes.set_fine_tuning_from_22k(c)
  c.init_from = "runs/swin_large"
  c.transfer.bias_tables = "bicubic"
  c.augment.eval_crop_fraction = 1.0
  return recipes.debug(c) if kind == "debug" else c
