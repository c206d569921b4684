"""Swin V2-L + UPerNet on ADE20K, 234 M parameters: one of 150 classes for every pixel (Swin V2, appendix
A2.1).

  python -m swin_jax.main --config=configs/upernet_swinv2_large_ade20k.py --workdir=runs/ade20k_l \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/upernet_swinv2_large_ade20k.py:debug \
      --workdir=runs/ade20k_l_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare ADEChallengeData2016.zip DATA`. To start from an
encoder trained on ImageNet-22K, as the paper does, add --config.init_from=SRC, a run or model folder. The
kind :multiscale with --mode=eval evaluates a run at six scales with left-right flips.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "multiscale", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="large", window=40, image_size=640, drop_path_rate=0.3)
  recipes.set_ade20k(c, side=640, batch_size=64, steps=40_000, warmup_steps=375)
  c.optim.lr = 6e-5 * 8  # 6e-5 at batch 64
  c.model.remat = "block"
  if kind == "multiscale":
    recipes.set_multiscale(c)
  return recipes.debug(c) if kind == "debug" else c
