"""Every key of a config, with its meaning; the size table; how `:arg` is read; how a run is shrunk for a laptop.

A config file calls `base()`, changes what its run needs, and returns it. The result is locked: a key that is not here fails, and so
does a value of another type. Configs import nothing of swin_jax, so that they load in milliseconds, anywhere.
"""

from ml_collections import ConfigDict

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Width of the first stage, blocks and heads per stage, and after how many blocks H and G have an extra norm (V2, section 3.2).
SIZES = {
    "tiny": dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), extra_norm_every=0),
    "small": dict(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), extra_norm_every=0),
    "base": dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), extra_norm_every=0),
    "large": dict(embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), extra_norm_every=0),
    "huge": dict(embed_dim=352, depths=(2, 2, 18, 2), num_heads=(11, 22, 44, 88), extra_norm_every=6),
    # The published 1.06 B model; whether it has the extra norms is not known.
    "giant_1b": dict(embed_dim=448, depths=(2, 2, 18, 2), num_heads=(14, 28, 56, 112), extra_norm_every=0),
    "giant": dict(embed_dim=512, depths=(2, 2, 42, 4), num_heads=(16, 32, 64, 128), extra_norm_every=6),
}


def base() -> ConfigDict:
  """All keys with their defaults, locked."""
  c = ConfigDict()
  c.task = "classification"  # or "masked_pixels" (SimMIM)
  c.seed = 0  # of parameters, data order, augmentation and drop path
  c.init_from = ""  # workdir of a run whose encoder this one starts from; "" = from scratch

  c.model = ConfigDict(dict(
      version=2,  # Swin V2 or V1
      patch_size=4,  # pixels
      **SIZES["tiny"],
      window_sizes=(8, 8, 8, 8),  # tokens, per stage; (height, width) for a window that is not square
      # V2: the windows the weights were trained with, per stage; () = those of init_from, or the same as window_sizes
      trained_window_sizes=(),
      mlp_ratio=4.0,
      drop_path_rate=0.2,  # of the last block; more for larger models and longer training
      dtype="bfloat16",  # of matrix products and activations; float32 on a CPU, where bfloat16 is slower
      remat="none",  # "block": recompute every block in the backward pass; "dots": all but its matrix products
      unroll=True,  # blocks of a stage as straight code (faster to run) or as a loop (faster to compile)
  ))  # fmt: skip

  c.masked_pixels = ConfigDict(dict(
      target_norm_window=0,  # pixels, odd: normalise the target by its neighbourhood; 0 = raw pixels
  ))  # fmt: skip
  c.classification = ConfigDict(dict(
      num_classes=0,  # 0 = as many as the data has
      label_smoothing=0.1,
      mixup_alpha=0.8,  # 0 = off
      cutmix_alpha=1.0,  # 0 = off
      erase_probability=0.25,
  ))  # fmt: skip

  c.data = ConfigDict(dict(
      source="digits",  # "array_record", "tfds", "folder", "npz", or "digits" (inside scikit-learn, nothing to download)
      path="",  # folder or file; for tfds its name, like "imagenet2012"
      train_split="train",
      eval_split="val",
      image_size=(256, 256),  # (height, width) pixels
      mean=IMAGENET_MEAN,  # per band, of pixels scaled to 0..1; their number is the number of bands
      std=IMAGENET_STD,
      batch_size=1024,  # images per step, over all devices
      eval_batch_size=1024,
      num_threads=8,  # that read and augment, per process
      num_workers=0,  # processes that read and augment, per host; 0 = threads only; about a quarter of the cores for JPEGs
      max_bad_fraction=0.01,  # of the records may be unreadable before the run ends
  ))  # fmt: skip
  c.augment = ConfigDict(dict(
      crop_scale=(0.08, 1.0),  # area of the random crop, share of the image
      crop_ratio=(3 / 4, 4 / 3),  # its width / height
      crop_padding=0,  # > 0: instead, pad by so many pixels and crop: for images of 32 pixels
      interpolation="bicubic",  # or "bilinear"
      flip_probability=0.5,
      # RandAugment: so many operations per image, each applied with the probability; N(magnitude, magnitude_std) of 10; 0 = off
      rand_augment_operations=2,
      rand_augment_probability=0.5,
      rand_augment_magnitude=9.0,
      rand_augment_magnitude_std=0.5,
      eval_crop_fraction=0.875,  # central share of the short side that evaluation sees; 1.0 = the whole image, resized
  ))  # fmt: skip
  c.mask = ConfigDict(dict(
      patch_size=32,  # pixels, side of a masked cell
      ratio=0.6,  # of the cells
  ))  # fmt: skip

  c.optim = ConfigDict(dict(
      total_epochs=300.0,
      warmup_epochs=20.0,
      # Rates are per 512 images: the run uses lr · batch_size / 512, and so for the two others.
      lr=5e-4,
      warmup_lr=5e-7,  # where warm-up starts
      min_lr=5e-6,  # where "cosine" ends
      schedule="cosine",  # or "linear", "step", "multistep"
      milestone_epochs=(),  # "multistep": when the rate falls; "step": (every how many epochs,)
      decay_rate=0.1,  # by how much it falls
      weight_decay=0.05,
      official_pretraining_decay=False,  # decay bias MLP and logit scale too, as the official SimMIM code does by mistake
      layer_decay=1.0,  # rate factor from a layer to the one below; 0.75-0.9 when fine-tuning
      clip_norm=5.0,  # of the gradient over all parameters; 0 = off
      b1=0.9,
      b2=0.999,
      eps=1e-8,
      ema_decay=0.0,  # per step, of the average that is evaluated; 0 = none; 0.9999 for long runs
      accumulation_steps=1,  # parts a batch is computed in, one after the other, to save memory
  ))  # fmt: skip

  c.mesh = ConfigDict(dict(data=1, fsdp=-1, model=1))  # devices per axis; one may be -1: what is left
  # Which mesh axis divides which logical dimension.
  c.sharding_rules = (
      ("batch", ("data", "fsdp")),
      ("embed", "fsdp"),
      ("heads", "model"),
      ("mlp", "model"),
      ("layers", None),
      ("pixels", None),
      ("classes", None),
  )

  c.checkpoint = ConfigDict(dict(
      every_epochs=1.0,
      keep_latest=2,
      keep_best=1,
      longer_schedule=False,  # continue a run although total_epochs has changed
  ))  # fmt: skip
  c.log = ConfigDict(dict(
      every_steps=50,
      eval_every_epochs=1.0,
      num_pictures=8,  # of masked, reconstructed images after each evaluation
  ))  # fmt: skip
  return c.lock()


def set_windows(c: ConfigDict, window: int, trained: tuple[int, ...] = ()) -> None:
  """One window for every stage."""
  c.model.window_sizes = (window,) * len(c.model.depths)
  c.model.trained_window_sizes = trained


def set_lr(c: ConfigDict, lr: float, warmup_lr: float, min_lr: float) -> None:
  """The three rates per 512 images."""
  c.optim.update(lr=lr, warmup_lr=warmup_lr, min_lr=min_lr)


def debug(c: ConfigDict) -> ConfigDict:
  """Shrinks a run to about a minute on a CPU with the embedded digits, keeping its shape: stages, window, schedule, recipe."""
  depths = tuple(2 for _ in c.model.depths)
  c.model.update(embed_dim=16, depths=depths, num_heads=tuple(2**i for i in range(len(depths))), dtype="float32", unroll=False)
  c.data.update(source="digits", path="", train_split="train", eval_split="val", image_size=(64, 64), batch_size=64)
  c.data.update(eval_batch_size=64, num_threads=2, num_workers=0)
  c.mask.patch_size = 16
  c.optim.update(total_epochs=1.0, warmup_epochs=0.25, milestone_epochs=(0.8,))
  c.log.every_steps = 5
  return c


def parse(arg: str | None, kinds: tuple[str, ...]) -> str:
  """The kind of run after the colon of `--config=FILE:kind`; the first of `kinds` if there is none.

  Raises:
    ValueError: no such kind.
  """
  if not arg:
    return kinds[0]
  if arg not in kinds:
    raise ValueError(f"this config has no kind of run ':{arg}'; it has {', '.join(':' + kind for kind in kinds if kind)}")
  return arg
