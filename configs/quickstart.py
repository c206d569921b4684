"""A miniature Swin V2 on handwritten digits, which ship with swin_jax: SimMIM pre-training, then fine-tuning.

python -m swin_jax.main --config=configs/quickstart.py:pretrain --workdir=runs/quickstart/pretrain
python -m swin_jax.main --config=configs/quickstart.py:finetune --workdir=runs/quickstart/finetune
"""

from . import common, kinds


def get_config(arg=None):
  kind = kinds.parse(arg, ("pretrain", "finetune"))
  c = common.base()
  c.model.update(
    embed_dim=32,
    depths=(2, 4),
    num_heads=(2, 4),
    window_sizes=(4, 4),
    patch_size=4,
    drop_path_rate=0.1,
    dtype="float32",
  )
  c.data.update(
    source="digits",
    image_size=(32, 32),
    mean=(0.3,),
    std=(0.35,),
    batch_size=128,
    eval_batch_size=360,
    num_threads=2,
  )
  c.augment.update(flip_probability=0.0, eval_crop_fraction=1.0, rand_augment_operations=0)
  c.optim.update(warmup_epochs=5.0, clip_norm=5.0, lr=8e-3, warmup_lr=4e-6, min_lr=4e-5)
  c.checkpoint.every_epochs = 20.0
  c.log.update(every_steps=20, eval_every_epochs=20.0)
  if kind == "pretrain":
    c.task = "masked_pixels"
    c.mask.update(patch_size=8, ratio=0.5)
    c.augment.update(crop_scale=(0.67, 1.0), interpolation="bilinear")
    c.optim.total_epochs = 80.0
  else:
    c.init_from = "runs/quickstart/pretrain"
    c.augment.crop_scale = (0.5, 1.0)
    c.optim.update(total_epochs=80.0, layer_decay=0.9, ema_decay=0.99)
    c.classification.update(mixup_alpha=0.0, cutmix_alpha=0.0, erase_probability=0.0)
  return c
