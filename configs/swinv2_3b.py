"""Swin V2-G, 3.0 B parameters, window 12, 192 px: SimMIM pre-training (Swin V2, sections 3.6 and A2.2).

  python -m swin_jax.main --config=configs/swinv2_3b.py --workdir=runs/g --config.data.path=DATA
  python -m swin_jax.main --config=configs/swinv2_3b.py:debug --workdir=runs/g_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare` for your images. The paper's 70 M images are not
public, so epochs refer to your data. Parameters, gradients and Adam moments take 48 GB, divided over the fsdp
axis.
"""

from . import common, kinds, recipes


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="giant", window=12, image_size=192, drop_path_rate=0.0)
  recipes.set_simmim(c)
  c.model.update(remat="block", unroll=False)
  c.data.batch_size = 9216
  # 1.4e-3 at batch 9216. The paper warms up for 30,000 steps, 4 of its 20 epochs.
  c.optim.update(total_epochs=20.0, warmup_epochs=4.0, schedule="cosine", milestone_epochs=())
  # The paper does not give the ends of the schedule, the drop path rate of pre-training or the target, which
  # is raw pixels here.
  c.optim.update(
    lr=1.4e-3 / 18,
    warmup_lr=0.0,
    min_lr=0.0,
    weight_decay=0.1,
    clip_norm=100.0,
    official_pretraining_decay=False,
  )
  c.optim.skip_nonfinite_steps = 20
  c.checkpoint.update(every_epochs=0.1, keep_every=50)
  c.log.eval_every_epochs = 1.0
  return recipes.debug(c) if kind == "debug" else c
