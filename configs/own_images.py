"""Your own images: SimMIM pre-training on all of them, then fine-tuning on their classes; or fine-tuning of
public weights; or, for comparison, training from scratch.

  python -m swin_jax.main --config=configs/own_images.py:pretrain --workdir=runs/own/pretrain \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/own_images.py:finetune --workdir=runs/own/finetune \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/own_images.py:scratch --workdir=runs/own/scratch \
      --config.data.path=DATA

  python -m swin_jax.main --config=configs/own_images.py:from_public --workdir=runs/own/from_public \
      --config.init_from=SRC --config.data.path=DATA

DATA is the output of `python -m swin_jax.data.prepare` for your folder. The model is Swin V2-T at 256 px, for
one GPU; with ,cpu after the kind (:pretrain,cpu) it is half as wide at 64 px, for a CPU. Both commands of a
pair must have it, or neither. :from_public takes model, image size and normalisation from SRC: a model
folder, the workdir of a run, or public weights; with ,cpu it computes in float32.
--config.optim.freeze_encoder=True trains only the head. Batch and steps follow the number of images
(data.fit_to_set).
"""

from . import common, recipes


def get_config(arg=None):
  kind, on_cpu = recipes.parse_with_cpu(arg, ("pretrain", "finetune", "scratch", "from_public"))
  c = common.base()
  recipes.set_model(c, version=2, size="tiny", window=8, image_size=256, drop_path_rate=0.1)
  if kind == "pretrain":
    recipes.set_simmim(c)
    c.optim.update(schedule="cosine", milestone_epochs=(), official_pretraining_decay=False)
  elif kind == "finetune":
    recipes.set_fine_tuning_from_simmim(c, layer_decay=0.9)
    c.init_from = "runs/own/pretrain"
  # For small data sets: at most this batch, and a learning rate per 512 images as in the recipes.
  c.data.update(fit_to_set=True, batch_size=128, eval_batch_size=128)
  c.classification.num_classes = 0
  c.optim.update(total_epochs=100.0, warmup_epochs=10.0, lr=1e-3, warmup_lr=1e-6, min_lr=1e-6)
  c.checkpoint.every_epochs = 1.0
  c.log.update(every_steps=10, eval_every_epochs=5.0)
  if kind == "from_public":
    recipes.set_from_public(c)
    c.augment.crop_scale = (0.35, 1.0)
  if on_cpu:
    recipes.set_cpu(c, embed_dim=48)
    c.optim.update(total_epochs=20.0, warmup_epochs=2.0)
  return c
