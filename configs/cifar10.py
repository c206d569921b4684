"""CIFAR-10 with a small Swin V2: gain of SimMIM pre-training over training from scratch at equal fine-tuning
cost.

  python -m swin_jax.data.prepare --source=CIFAR10 --out=data/cifar10
  python -m swin_jax.main --config=configs/cifar10.py:pretrain --workdir=runs/cifar10/pretrain \
      --config.data.path=data/cifar10
  python -m swin_jax.main --config=configs/cifar10.py:finetune --workdir=runs/cifar10/finetune \
      --config.data.path=data/cifar10
  python -m swin_jax.main --config=configs/cifar10.py:scratch --workdir=runs/cifar10/scratch \
      --config.data.path=data/cifar10

CIFAR10 is any source that `prepare` reads, with the splits train and test. Results:
experiments/simmim_gain/README.md.
"""

from . import common, kinds


def get_config(arg=None):
  kind = kinds.parse(arg, ("pretrain", "finetune", "scratch"))
  c = common.base()
  c.model.update(
    patch_size=2,
    embed_dim=96,
    depths=(2, 6, 2),
    num_heads=(3, 6, 12),
    window_sizes=(4, 4, 4),
    drop_path_rate=0.1,
  )
  c.data.update(
    path="data/cifar10", eval_split="test", image_size=(32, 32), batch_size=512, eval_batch_size=1000
  )
  c.augment.eval_crop_fraction = 1.0
  c.optim.update(warmup_epochs=10.0, lr=1e-3, warmup_lr=1e-6, min_lr=1e-6)
  c.checkpoint.every_epochs = 5.0
  c.log.eval_every_epochs = 5.0
  if kind == "pretrain":
    c.task = "masked_pixels"
    c.mask.update(patch_size=4, ratio=0.6)
    c.augment.update(crop_scale=(0.67, 1.0), interpolation="bilinear", rand_augment_operations=0)
    c.optim.total_epochs = 400.0
  else:
    c.augment.update(crop_padding=4)
    c.optim.total_epochs = 100.0
  if kind == "finetune":
    c.init_from = "runs/cifar10/pretrain"
    c.optim.layer_decay = 0.9
  return c
