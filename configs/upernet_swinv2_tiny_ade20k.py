"""Swin V2-T + UPerNet on ADE20K, 60 M parameters: one of 150 classes for every pixel (Swin V2, appendix A1).

  python -m swin_jax.main --config=configs/upernet_swinv2_tiny_ade20k.py --workdir=runs/ade20k_t \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/upernet_swinv2_tiny_ade20k.py:debug \
      --workdir=runs/ade20k_t_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare ADEChallengeData2016.zip DATA`. To start from an
encoder trained on ImageNet, as the paper does, add --config.init_from=SRC, a run or model folder. The kind
:multiscale with --mode=eval evaluates a run at six scales with left-right flips.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "multiscale", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="tiny", window=16, image_size=512, drop_path_rate=0.3)
  recipes.set_ade20k(c, side=512, batch_size=16, steps=160_000, warmup_steps=1500)
  c.optim.update(lr=4e-5 * 32, layer_decay=0.95)  # 4e-5 at batch 16
  if kind == "multiscale":
    recipes.set_multiscale(c)
  return recipes.debug(c) if kind == "debug" else c
