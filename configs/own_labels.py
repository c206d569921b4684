"""Your own images with a class or a number for every pixel: Swin V2-T + UPerNet, fine-tuned from SimMIM
pre-training on these images or from public weights, or trained from scratch.

  python -m swin_jax.main --config=configs/own_labels.py:finetune --workdir=runs/own/labels \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/own_labels.py:from_public --workdir=runs/own/labels_from_public \
      --config.init_from=SRC --config.data.path=DATA
  python -m swin_jax.main --config=configs/own_labels.py:scratch --workdir=runs/own/labels_scratch \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/own_labels.py:regress --workdir=runs/own/values \
      --config.data.path=VALUES

DATA is the output of `python -m swin_jax.data.prepare` for images and label maps, VALUES for images and maps
of numbers, like depth. The first and the last command start from runs/own/pretrain, a run of own_images.py,
or from --config.init_from=SRC. :from_public takes the encoder, its normalisation and, from a UPerNet, the
width of the head from SRC: a model folder, the workdir of a run, or public weights; for maps of numbers, add
--config.model_of_source=True to :regress. With ,cpu after the kind (:scratch,cpu) images and crops are
smaller and the model narrower, for a CPU; it starts from a run with ,cpu. Batch and steps follow the number
of images (data.fit_to_set).
"""

from . import common, recipes


def get_config(arg=None):
  kind, on_cpu = recipes.parse_with_cpu(arg, ("finetune", "scratch", "regress", "from_public"))
  c = common.base()
  recipes.set_model(c, version=2, size="tiny", window=8, image_size=256, drop_path_rate=0.1)
  # Images have a short side of 512 pixels, scaled by a half to two in training, and are evaluated with a
  # sliding window of the size of the training crops.
  recipes.set_dense(
    c,
    "pixel_regression" if kind == "regress" else "segmentation",
    sides=(1024, 512),
    crop=(256, 256),
    canvas=(512, 704),
  )
  c.dense.window = (256, 256)
  c.data.update(fit_to_set=True, batch_size=16, eval_batch_size=8)
  c.optim.update(total_epochs=100.0, warmup_epochs=5.0, lr=6e-5 * 32, warmup_lr=0.0, layer_decay=0.95)
  c.checkpoint.every_epochs = 5.0
  c.log.update(every_steps=10, eval_every_epochs=10.0)
  if kind in ("finetune", "regress"):
    c.init_from = "runs/own/pretrain"
  elif kind == "from_public":
    c.model_of_source = True
  if on_cpu:
    recipes.set_cpu(c, embed_dim=48)
    c[c.task].channels = 64
    c.dense.update(sides=(256, 128), eval_canvas=(128, 176), window=(64, 64))
  return c
