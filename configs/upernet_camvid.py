"""A small Swin V2 + UPerNet on CamVid, street scenes with 11 classes, from SimMIM or from scratch: about an
hour on two CPU cores.

  python -m swin_jax.main --config=configs/upernet_camvid.py:pretrain --workdir=runs/camvid/pretrain \
      --config.data.path=PICTURES
  python -m swin_jax.main --config=configs/upernet_camvid.py:finetune --workdir=runs/camvid/finetune \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/upernet_camvid.py:scratch --workdir=runs/camvid/scratch \
      --config.data.path=DATA

DATA is the output of prepare for a folder or archive with train/images, train/labels, …, and a classes.txt or
classes.json; PICTURES is its output for any photographs. experiments/segmentation has the commands and the
results with Tiny ImageNet.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("pretrain", "finetune", "scratch"))
  c = common.base()
  c.model.update(
    embed_dim=32,
    depths=(2, 2, 4, 2),
    num_heads=(1, 2, 4, 8),
    window_sizes=(8,) * 4,
    drop_path_rate=0.0,
    dtype="float32",
  )
  c.data.update(batch_size=16, eval_batch_size=16, num_threads=2)
  if kind == "pretrain":
    recipes.set_simmim(c)
    c.data.update(image_size=(64, 64), batch_size=128, eval_batch_size=128)
    c.mask.patch_size = 16
    c.optim.update(schedule="cosine", milestone_epochs=(), official_pretraining_decay=False)
    c.optim.update(total_epochs=5.0, warmup_epochs=1.0, lr=2e-3, warmup_lr=0.0)
    c.checkpoint.update(every_epochs=1.0, keep_every=0)
    c.log.eval_every_epochs = 1.0
    return c
  recipes.set_dense(c, "segmentation", sides=(480, 360), crop=(192, 192), canvas=(360, 480))
  c.data.batch_size = 8
  c.segmentation.channels = 64
  c.model.drop_path_rate = 0.1
  c.optim.update(total_epochs=24.0, warmup_epochs=2.0, lr=4e-2, warmup_lr=0.0)  # 6e-4 at batch 8
  c.checkpoint.every_epochs = 4.0
  c.log.update(every_steps=20, eval_every_epochs=8.0, num_pictures=4)
  if kind == "finetune":
    c.init_from = "runs/camvid/pretrain"
  return c
