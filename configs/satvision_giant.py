"""SatVision-TOA, Swin V2 giant, 2.6 B parameters, window 8, 128 px: SimMIM pre-training on 14
top-of-atmosphere bands of MODIS.

  python -m swin_jax.main --config=configs/satvision_giant.py --workdir=runs/satvision_giant \
      --config.data.path=DATA
  python -m swin_jax.main --config=configs/satvision_giant.py:debug \
      --workdir=runs/satvision_giant_debug    # a minute on a CPU

DATA is the output of `python -m swin_jax.data.prepare --tile=128` for 14-band rasters: reflectance in per
cent (bands 0 to 4 and 6) and brightness temperature in kelvin (the others), as published. For other rasters
with 14 bands, use the statistics of DATA instead: "--config.data.mean=()" "--config.data.std=()"

The recipe is that of github.com/nasa-nccs-hpda/pytorch-caney,
configs/mim_pretrain_swinv2_satvision_giant_128_onecycle_100ep.yaml at 8f8d9b1; parameters, gradients and Adam
moments take 42 GB, divided over the fsdp axis.
"""

from . import common, kinds, recipes

# pytorch_caney/transforms/modis_toa_scale.py at c037d17: reflectance / 100; temperatures mapped from
# minimum..maximum to 0..1.
THERMAL = (5, 7, 8, 9, 10, 11, 12, 13)  # indices of the temperature bands
COLDEST = dict(
  zip(THERMAL, (223.1222, 178.9174, 204.3739, 204.7677, 194.8686, 202.1759, 201.3823, 203.3537), strict=True)
)
WARMEST = dict(
  zip(THERMAL, (352.7182, 261.2920, 282.5529, 319.0373, 295.0209, 324.0677, 321.5254, 285.9848), strict=True)
)


def get_config(arg=None):
  kind = kinds.parse(arg, ("", "debug"))
  c = common.base()
  recipes.set_model(c, version=2, size="giant", window=8, image_size=128, drop_path_rate=0.1)
  recipes.set_simmim(c)
  c.model.update(depths=(2, 2, 42, 2), remat="block", unroll=False)  # two blocks fewer than G in the paper
  c.mask.patch_size = 8
  c.data.update(dtype="float32", mean=tuple(COLDEST.get(i, 0.0) for i in range(14)))
  c.data.std = tuple(WARMEST.get(i, 100.0) - COLDEST.get(i, 0.0) for i in range(14))
  c.augment.flip_probability = 0.0
  # The recipe has 64 images per GPU and 50 epochs, but does not give the number of GPUs. The published
  # program has no schedule: its rate stays at 3e-4, whatever the batch size.
  c.data.update(batch_size=512, eval_batch_size=512)
  c.optim.update(
    total_epochs=50.0, warmup_epochs=10.0, lr=3e-4, warmup_lr=1e-4, min_lr=2e-4, milestone_epochs=(700.0,)
  )
  c.checkpoint.update(every_epochs=0.1, keep_every=50)
  if kind == "debug":  # the digits as float32, in their own range
    recipes.debug(c)
    c.data.update(mean=(76.0,), std=(90.0,))
  return c
