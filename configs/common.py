"""Every key of a config, with its meaning; the size table; how `:arg` is read. Recipes are in `recipes.py`.

A config file calls `base()`, changes what its run needs, and returns it. The result is locked: a key that is
not here fails, and so does a value of another type. Configs import nothing of swin_jax, so that they load in
milliseconds, anywhere.
"""

from ml_collections import ConfigDict, config_dict

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Width of the first stage, blocks and heads per stage, and after how many blocks H and G have an extra norm
# (V2, section 3.2).
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


class Config(ConfigDict):
  """A config that, once locked, keeps its groups: another in place of one would bring keys of its own."""

  def __setitem__(self, key, value):
    if self.is_locked and isinstance(self.get(key), ConfigDict) and value is not self.get(key):
      raise TypeError(
        f"config.{key} is a group, which cannot be replaced: set its keys, as in c.{key}.update(name=value)"
      )
    super().__setitem__(key, value)


def base() -> Config:
  """Returns all keys with their defaults, locked."""
  c = Config()
  c.task = "classification"  # or "masked_pixels" (SimMIM), and by UPerNet "segmentation", "pixel_regression"
  c.seed = 0  # of parameters, data order, augmentation and drop path
  # workdir of a run (or its checkpoints/STEP), or model folder, whose encoder this run starts from; "" = from
  # scratch
  c.init_from = ""
  c.transfer = ConfigDict(
    dict(  # how what has another shape is taken over from init_from; see swin_jax/saved/transfer.py
      bias_tables="geometric",  # V1 at another window; or "bicubic", from ImageNet-22K to 1K
      bands="repeat",  # the patch embedding for other bands; or "mean", "zero"
      # file: line k is the class of the saved head whose row class k takes; "" = a fresh head for other
      # classes
      class_map="",
    )
  )

  c.model = ConfigDict(
    dict(
      backbone="swin",  # the one there is; the rest of this group is Swin's
      version=2,  # Swin V2 or V1
      # Pixels: one number for both axes of an image, or one per axis, (frames, height, width) for clips
      patch_size=config_dict.FieldReference(4, field_type=object),
      merge_size=(2, 2),  # tokens per axis that become one between two stages; (1, 2, 2) for clips
      **SIZES["tiny"],
      # Tokens, per stage; (height, width) for a window that is not square, (time, height, width) for clips
      window_sizes=(8, 8, 8, 8),
      # V2: the windows the weights were trained with, per stage: offsets are measured in them. () = those of
      # the run in init_from, or window_sizes
      trained_window_sizes=(),
      # The next three are for imported weights. Whether a window shrinks to a smaller map and is not shifted
      # there; False for the official segmentation and detection models, in which odd blocks always shift
      clamp_windows=True,
      # Whether padding is "masked" or takes part in attention: "attended" for the official segmentation,
      # detection and video models
      padding="masked",
      # V1 of clips: rows of its bias table that a shrunk window reads, those of its "offsets", or the "first"
      # ones, as the official video models do
      bias_rows="offsets",
      mlp_ratio=4.0,
      drop_path_rate=0.2,  # of the last block; more for larger models and longer training
      dtype="bfloat16",  # of matrix products and activations; float32 on a CPU, where bfloat16 is slower
      # What the backward pass computes again to save memory. "block": every block; "dots": all of it but its
      # matrix products; "save:qkv,mlp_hidden": all but the named, see swin_jax/models/remat.py
      remat="none",
      # Per stage: parts that the attention of an image is computed in, one after the other, so that the
      # logits of one part are all that there is: windows, then heads. For large maps and windows, see the
      # sequential self-attention of V2, section 3.4; () = at once
      attention_chunks=(),
      # On TPUs after v4 one kernel that keeps no logits; "xla": the compiler's everywhere; "gpu": kernels for
      # NVIDIA GPUs that keep none either, not yet run on one
      attention_kernel="auto",
      unroll=True,  # blocks of a stage as straight code (faster to run) or as a loop (faster to compile)
    )
  )

  c.masked_pixels = ConfigDict(
    dict(
      target_norm_window=0,  # pixels, odd: normalise the target by its neighbourhood; 0 = raw pixels
    )
  )
  c.classification = ConfigDict(
    dict(
      num_classes=0,  # 0 = as many as the data has
      label_smoothing=0.1,
      mixup_alpha=0.8,  # 0 = off
      cutmix_alpha=1.0,  # 0 = off
      erase_probability=0.25,
    )
  )
  c.segmentation = ConfigDict(
    dict(
      num_classes=0,  # 0 = as many as the data has
      channels=512,  # of the head
    )
  )
  c.pixel_regression = ConfigDict(
    dict(  # a number for each pixel: height, biomass, temperature
      channels=512,  # of the head
      value_mean=0.0,  # of the numbers, in their unit
      value_std=0.0,  # 0 = both are those in the statistics.json that prepare writes
    )
  )

  c.data = ConfigDict(
    dict(
      # or "tfds", "folder", "npz", or "digits" (inside scikit-learn, nothing to download)
      source="array_record",
      path="",  # folder or file; for tfds its name, like "imagenet2012"
      train_split="train",
      eval_split="val",
      image_size=(256, 256),  # (height, width) pixels; (frames, height, width) for clips
      # of the pixels in a batch; "float32" for rasters of any other numbers, NaN where there is no data
      dtype="uint8",
      # Per band, of uint8 scaled to 0..1, of float32 as it is; their number is the number of bands. () =
      # those in the statistics.json that prepare writes
      mean=IMAGENET_MEAN,
      std=IMAGENET_STD,
      # by label; a run finds them in the data and writes them here, for pictures and for other programs
      class_names=(),
      batch_size=1024,  # images per step, over all devices
      eval_batch_size=1024,
      # that read and augment, per process; each prepares a whole batch; as many as cores are fastest
      num_threads=8,
      # processes that read and augment, per host; 0 = threads only; about a quarter of the cores for JPEGs
      num_workers=0,
      max_bad_fraction=0.01,  # of the records may be unreadable before the run ends
    )
  )
  c.augment = ConfigDict(
    dict(
      crop_scale=(0.08, 1.0),  # area of the random crop, share of the image
      crop_ratio=(3 / 4, 4 / 3),  # its width / height
      crop_padding=0,  # > 0: instead, pad by so many pixels and crop: for images of 32 pixels
      interpolation="bicubic",  # or "bilinear"
      flip_probability=0.5,
      rotate=False,  # by a random multiple of 90°, for images from above
      # RandAugment: so many operations per image, each applied with the probability; N(magnitude,
      # magnitude_std) of 10; 0 = off
      rand_augment_operations=2,
      rand_augment_probability=0.5,
      rand_augment_magnitude=9.0,
      rand_augment_magnitude_std=0.5,
      # central share of the short side that evaluation sees; 1.0 = the whole image, resized
      eval_crop_fraction=0.875,
    )
  )
  c.dense = ConfigDict(
    dict(  # crops where every pixel has its answer; data.image_size is their size
      # long and short, in pixels, that an image is fitted into, in training and evaluation; () = it keeps its
      # size
      sides=(2048, 512),
      scale_range=(0.5, 2.0),  # of the random factor that comes to it in training
      photometric=True,  # brightness, contrast, saturation and hue of RGB images
      # (height, width) pixels of a batch in evaluation; images that stick out are made smaller
      eval_canvas=(704, 704),
      # Evaluation: window (height, width) in pixels that slides over the image by two thirds of itself, () =
      # the image at once; scales whose answers are averaged; whether each is seen mirrored too
      window=(),
      scales=(1.0,),
      mirrored=False,
    )
  )
  c.mask = ConfigDict(
    dict(
      patch_size=32,  # pixels, side of a masked cell
      ratio=0.6,  # of the cells
    )
  )

  c.optim = ConfigDict(
    dict(
      total_epochs=300.0,
      warmup_epochs=20.0,
      # Rates are per 512 images: the run uses lr · batch_size / 512, and so for the two others.
      lr=5e-4,
      warmup_lr=5e-7,  # where warm-up starts
      min_lr=5e-6,  # where "cosine" ends
      # or "linear" (to 1 % of lr), "polynomial" (to min_lr along a line), "step", "multistep"
      schedule="cosine",
      milestone_epochs=(),  # "multistep": when the rate falls; "step": (every how many epochs,)
      decay_rate=0.1,  # by how much it falls
      weight_decay=0.05,
      # decay bias MLP and logit scale too, as the official SimMIM code does by mistake
      official_pretraining_decay=False,
      layer_decay=1.0,  # rate factor from a layer to the one below; 0.75-0.9 when fine-tuning
      clip_norm=5.0,  # of the gradient over all parameters; 0 = off
      b1=0.9,
      b2=0.999,
      eps=1e-8,
      ema_decay=0.0,  # per step, of the average that is evaluated; 0 = none; 0.9999 for long runs
      # so many steps whose loss or gradient is not finite are left out before the run stops; 0 = at the first
      skip_nonfinite_steps=0,
      accumulation_steps=1,  # parts a batch is computed in, one after the other, to save memory
    )
  )

  c.mesh = ConfigDict(dict(data=1, fsdp=-1, model=1))  # devices per axis; one may be -1: what is left
  # Which mesh axis divides which logical dimension.
  c.sharding_rules = (
    ("batch", ("data", "fsdp")),
    ("embed", "fsdp"),
    ("heads", "model"),
    ("mlp", "model"),
    ("merged", "model"),
    ("layers", None),
    ("pixels", "model"),
    ("features", ("fsdp", "model")),
    ("classes", None),  # there may be any number
  )
  # ZeRO-1: every device holds all parameters that the model axis does not divide, while gradients, optimizer
  # state and average are divided by fsdp too. No kernel is gathered for each use; all are, once a step. For a
  # model whose parameters fit, 4 bytes each.
  c.zero1 = False

  c.checkpoint = ConfigDict(
    dict(
      every_epochs=1.0,
      keep_latest=2,  # at least 2: should the newest be damaged, the one before is used
      keep_best=1,
      keep_every=0,  # of the saves, every so many-th is kept for good; 0 = none
      longer_schedule=False,  # continue a run although total_epochs has changed
    )
  )
  c.log = ConfigDict(
    dict(
      every_steps=50,
      eval_every_epochs=1.0,
      num_pictures=8,  # of masked, reconstructed images after each evaluation
      # shown as red, green, blue, or one as grey, from 0; () = the first three, or the first where there are
      # fewer
      picture_bands=(),
    )
  )
  c.profile = ConfigDict(
    dict(
      start_step=10,  # the first step of a profile, once everything is compiled and warm
      num_steps=0,  # that it covers; 0 = no profile
    )
  )
  return c.lock()


def parse(arg: str | None, kinds: tuple[str, ...]) -> str:
  """The kind of run after the colon of `--config=FILE:kind`; the first of `kinds` if there is none.

  Raises:
    ValueError: no such kind.
  """
  if not arg:
    return kinds[0]
  if arg not in kinds:
    raise ValueError(
      f"this config has no kind of run ':{arg}'; it has {', '.join(':' + kind for kind in kinds if kind)}"
    )
  return arg
