"""Your own rasters, with any number of bands and any type: SimMIM pre-training, then fine-tuning on classes
of the rasters, or on classes or numbers of their pixels; or fine-tuning of public weights.

  python -m swin_jax.main --config=configs/own_rasters.py:pretrain --workdir=runs/rasters/pretrain \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/own_rasters.py:finetune --workdir=runs/rasters/finetune \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/own_rasters.py:segment --workdir=runs/rasters/segment \
      --config.data.path=LABELLED
  python -m swin_jax.main --config=configs/own_rasters.py:regress --workdir=runs/rasters/regress \
      --config.data.path=MEASURED
  python -m swin_jax.main --config=configs/own_rasters.py:from_public --workdir=runs/rasters/from_public \
      --config.init_from=SRC --config.data.path=DATA

DATA is the output of `python -m swin_jax.data.prepare --tile=160` for your GeoTIFFs, LABELLED and MEASURED
the same with a label map or a raster of values for each; its statistics.json normalises the bands. SRC is a
run, a model folder or public weights; :segment and :regress (UPerNet) also start from its model with
--config.model_of_source=True --config.init_from=SRC. The model of the other kinds has 12 M parameters at 128
px, for one GPU, and patches of 2 px for small structures; ,cpu after the kind makes it narrower, at 64 px.
"""

from . import common, recipes


def get_config(arg=None):
  kind, on_cpu = recipes.parse_with_cpu(arg, ("pretrain", "finetune", "segment", "regress", "from_public"))
  c, dense = common.base(), kind in ("segment", "regress")
  c.model.update(patch_size=2, embed_dim=64, depths=(2, 2, 6, 2), num_heads=(2, 4, 8, 16), drop_path_rate=0.1)
  if kind == "pretrain":
    recipes.set_simmim(c)
    c.optim.update(schedule="cosine", milestone_epochs=(), official_pretraining_decay=False)
    c.mask.patch_size = 16
  elif kind == "finetune":
    recipes.set_fine_tuning_from_simmim(c, layer_decay=0.9)
    c.classification.num_classes = 0
  elif dense:
    # Tiles keep their size, apart from a random scale of 3/4 to 4/3 in training.
    c.task = "segmentation" if kind == "segment" else "pixel_regression"
    recipes.set_dense(c, c.task, sides=(), crop=(128, 128), canvas=(320, 320))
    c.dense.update(scale_range=(0.75, 4 / 3), photometric=False)
    c[c.task].channels = 128
  c.init_from = "" if kind in ("pretrain", "from_public") else "runs/rasters/pretrain"
  c.data.update(dtype="float32", mean=(), std=(), image_size=(128, 128))
  c.data.update(fit_to_set=True, batch_size=128, eval_batch_size=128)
  # Augmentation for arbitrary numbers in images from above: flips, rotations, and moderate changes of scale.
  c.augment.update(interpolation="bilinear", rotate=True)
  c.optim.update(total_epochs=100.0, warmup_epochs=10.0, lr=1e-3, warmup_lr=1e-6, min_lr=1e-6)
  if dense:
    c.data.update(batch_size=16, eval_batch_size=16)
    c.optim.update(lr=1e-4 * 32, warmup_lr=0.0, min_lr=0.0)  # 1e-4 at batch 16
  else:
    c.augment.update(crop_scale=(0.5, 1.0), rand_augment_operations=0)
  c.log.update(every_steps=10, eval_every_epochs=5.0)
  if kind == "from_public":
    recipes.set_from_public(c)
  if on_cpu:
    recipes.set_cpu(c, embed_dim=32)
    if dense:
      c[c.task].channels = 32
  return c
