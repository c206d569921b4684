"""Swin V2-B, window 12 → 14, 192 → 224 px: fine-tuning on ImageNet-1K after SimMIM, 100 epochs. Published:
85.04 % top-1.

  python -m swin_jax.main --config=configs/simmim_swinv2_base_w14_224_ft.py \
      --workdir=runs/simmim_swinv2_base_w14_224_ft --config.data.path=DATA
  python -m swin_jax.main --config=configs/simmim_swinv2_base_w14_224_ft.py:debug \
      --workdir=runs/simmim_swinv2_base_w14_224_ft_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for ImageNet-1K. The run starts from the run of
`configs/simmim_swinv2_base_w12_192.py` in runs/simmim_swinv2_base_w12_192, or from another with
--config.init_from=WORKDIR.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="base", window=14, image_size=224, drop_path_rate=0.1)
  recipes.set_fine_tuning_from_simmim(c, layer_decay=0.75)
  c.init_from = "runs/simmim_swinv2_base_w12_192"
  return recipes.debug(c) if kind == "debug" else c
