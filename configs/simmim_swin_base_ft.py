"""Swin V1-B, window 6 → 7, 192 → 224 px: fine-tuning on ImageNet-1K after SimMIM, 100 epochs. Published:
84.0 % top-1.

  python -m swin_jax.main --config=configs/simmim_swin_base_ft.py --workdir=runs/simmim_swin_base_ft \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/simmim_swin_base_ft.py:debug \
      --workdir=runs/simmim_swin_base_ft_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K. The run starts from the run of
`configs/simmim_swin_base.py` in runs/simmim_swin_base, or from another with --config.init_from=WORKDIR.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=1, size="base", window=7, image_size=224, drop_path_rate=0.1)
  recipes.set_fine_tuning_from_simmim(c, layer_decay=0.8)
  c.init_from = "runs/simmim_swin_base"
  return recipes.debug(c) if kind == "debug" else c
