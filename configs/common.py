"""Definition and meaning of every config key. Recipes are in `recipes.py`, model sizes in `sizes.py`.

A config file calls `base()`, changes the keys that its run needs, and returns the result. The result is
locked: setting an unknown key, or a value of another type, fails. Configs import nothing else of swin_jax, so
they load in milliseconds, and import each other relatively: this folder is `configs` in a clone and
`swin_jax.configs` where the package is installed. A config file anywhere else starts with
`from swin_jax.configs import common`.
"""

from ml_collections import ConfigDict, config_dict

from .sizes import SIZES

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Config(ConfigDict):
  """A config whose groups cannot be replaced once it is locked; a replacement could bring keys of its own."""

  def __setitem__(self, key, value):
    if self.is_locked and isinstance(self.get(key), ConfigDict) and value is not self.get(key):
      raise TypeError(
        f"config.{key} is a group, which cannot be replaced: set its keys, as in c.{key}.update(name=value)"
      )
    super().__setitem__(key, value)


def base() -> Config:
  """Returns all keys with their defaults, locked."""
  c = Config()
  # "classification", "masked_pixels" (SimMIM), or, with UPerNet, "segmentation" or "pixel_regression"
  c.task = "classification"
  c.seed = 0  # random seed of parameters, data order, augmentation and drop path
  # Workdir of a run (or its checkpoints/STEP), model folder or public weights (a path, or hf://OWNER/NAME)
  # whose encoder this run starts from; "" = train from scratch
  c.init_from = ""
  # True: the sizes of the model, the image size and the normalisation of the bands are those of the weights
  # in init_from, whatever they are, and the group model decides only how the model is computed
  c.model_of_source = False
  c.transfer = ConfigDict(
    dict(  # how weights of another shape are transferred from init_from; see swin_jax/saved/transfer.py
      # Interpolation of V1's bias tables to another window: "geometric", or "bicubic" (ImageNet-22K to 1K)
      bias_tables="geometric",
      # Patch embedding for another number of bands: "repeat" the saved bands in turn, their "mean" for every
      # band, or keep the first ones and "zero" the rest
      bands="repeat",
      # File whose line k names the class of the saved head that class k takes its row from; "" = a newly
      # initialised head if the number of classes differs
      class_map="",
    )
  )

  c.model = ConfigDict(
    dict(
      backbone="swin",  # the only backbone; the other keys of this group belong to it
      version=2,  # 2 for Swin V2, 1 for Swin V1
      # Side of a patch in pixels, or a number per axis: (height, width), (frames, height, width) for clips
      patch_size=config_dict.FieldReference(4, field_type=object),
      # Tokens per axis that are merged into one between stages; (1, 2, 2) for clips
      merge_size=(2, 2),
      # Width of the first stage, blocks and heads per stage, and the interval in blocks of the extra norms of
      # H and G (V2, section 3.2); 0 = no extra norms
      **SIZES["tiny"],
      # Side of a window in tokens, per stage; (height, width) if not square, (time, height, width) for clips
      window_sizes=(8, 8, 8, 8),
      # V2: windows that the weights were trained with, per stage; relative offsets are normalised by them. ()
      # = those of the run in init_from, or else window_sizes
      trained_window_sizes=(),
      # The next four are for imported weights. True: a window shrinks to fit a smaller map and is not
      # shifted there. False: odd blocks always shift, as in the official segmentation and detection models
      clamp_windows=True,
      # Clamp "each" axis of a map by itself, or "all" if one is clamped, as in the official image models
      clamp_axes="each",
      # Whether attention to padding is "masked", or padding is "attended" like tokens, as in the official
      # segmentation, detection and video models
      padding="masked",
      # V1 on clips: a shrunk window reads the bias rows of its "offsets", or the "first", as official models
      bias_rows="offsets",
      mlp_ratio=4.0,  # hidden units of an MLP per channel
      # Stochastic depth: drop rate of the last block, rising linearly from 0 at the first; higher for larger
      # models and longer training
      drop_path_rate=0.2,
      # Compute dtype of matrix products and activations; "float32" on CPUs, where bfloat16 is slower
      dtype="bfloat16",
      # Rematerialisation: what the backward pass recomputes to save memory. "none"; "block": every block;
      # "dots": everything except matrix products with weights; "save:qkv,mlp_hidden": everything except the
      # named tensors, see swin_jax/models/remat.py
      remat="none",
      # Per stage: number of parts that the attention of an image is computed in, one after the other, over
      # windows and then heads, so that only the logits of one part exist at a time. For large maps and
      # windows (sequential self-attention, V2, section 3.4); () = all at once
      attention_chunks=(),
      # "auto": on TPUs after v4, a fused kernel that stores no logits, elsewhere "xla"; "xla": compiled by
      # XLA everywhere; "gpu": fused kernels for NVIDIA GPUs, which have not yet been run on one
      attention_kernel="auto",
      unroll=True,  # True: blocks of a stage unrolled, runs faster; False: as a loop, compiles faster
    )
  )

  c.masked_pixels = ConfigDict(
    dict(
      # Side in pixels, odd, of the neighbourhood whose statistics normalise the target; 0 = raw pixels
      target_norm_window=0,
    )
  )
  c.classification = ConfigDict(
    dict(
      num_classes=0,  # 0 = number of classes of the data
      label_smoothing=0.1,  # probability that the target spreads over all classes
      # α of the Beta distribution of mixing ratios; 0 = off; with both on, each is used half the time
      mixup_alpha=0.8,
      cutmix_alpha=1.0,
      erase_probability=0.25,  # of random erasing, per image; 0 = off
    )
  )
  c.segmentation = ConfigDict(
    dict(
      num_classes=0,  # 0 = number of classes of the data
      channels=512,  # width of the UPerNet head
      auxiliary_channels=256,  # width of the auxiliary classifier, which only training has
      norm="group",  # of the head: "group", or "batch" with the fixed statistics of imported weights
    )
  )
  c.pixel_regression = ConfigDict(
    dict(  # one number per pixel: height, biomass, temperature
      channels=512,  # width of the UPerNet head
      auxiliary_channels=256,  # width of the auxiliary output, which only training has
      norm="group",  # norm of the head, as in segmentation
      # Mean and standard deviation of the values, in their unit; 0 = from the statistics.json of prepare
      value_mean=0.0,
      value_std=0.0,
    )
  )

  c.data = ConfigDict(
    dict(
      # "array_record", "tfds", "folder", "npz", or "digits" (part of this package, nothing to download)
      source="array_record",
      path="",  # folder or file; for tfds the name of the data set, like "imagenet2012"
      train_split="train",  # split of the data to train on
      eval_split="val",  # split of the data to evaluate on
      image_size=(256, 256),  # (height, width) in pixels; (frames, height, width) for clips
      # Dtype of the pixels in a batch; "float32" for rasters of other types, with NaN where there is no data
      dtype="uint8",
      # Mean and standard deviation per band, of uint8 scaled to 0..1, of float32 unscaled; their length is
      # the number of bands. () = from the statistics.json that prepare writes
      mean=IMAGENET_MEAN,
      std=IMAGENET_STD,
      # Names by label; leave it (): a run reads them from the data and stores them here, for pictures and for
      # other programs
      class_names=(),
      # Choose batch_size, optim.total_steps, mask.patch_size, the warm-up, and when to evaluate and save, by
      # the number and size of the training images, where no flag sets them; see swin_jax/run/fit.py
      fit_to_set=False,
      batch_size=1024,  # images per training step, over all devices
      eval_batch_size=1024,  # images per evaluation step, over all devices
      # Threads per process that read and augment; each prepares a whole batch; fastest with one per core
      num_threads=8,
      # Processes per host that read and augment; 0 = threads only; for JPEGs about a quarter of the cores
      num_workers=0,
      max_bad_fraction=0.01,  # largest fraction of unreadable records before the run stops
    )
  )
  c.augment = ConfigDict(
    dict(
      crop_scale=(0.08, 1.0),  # range of the area of the random crop, as a fraction of the image
      crop_ratio=(3 / 4, 4 / 3),  # range of the aspect ratio of the random crop, width / height
      # > 0: pad by this many pixels and crop to image_size, instead of the above; for images of 32 pixels
      crop_padding=0,
      interpolation="bicubic",  # of resizing: "bicubic" or "bilinear"
      flip_probability=0.5,  # of flipping left and right
      rotate=False,  # rotate by a random multiple of 90°; for images taken from above
      # RandAugment: number of operations per image, 0 = off; probability that each is applied; mean and
      # standard deviation of its magnitude, on a scale of 0 to 10
      rand_augment_operations=2,
      rand_augment_probability=0.5,
      rand_augment_magnitude=9.0,
      rand_augment_magnitude_std=0.5,
      # Evaluation: fraction of the short side that the central crop covers; 1.0 = the whole image, resized
      eval_crop_fraction=0.875,
    )
  )
  c.dense = ConfigDict(
    dict(  # views of the tasks that predict every pixel; training crops have the size data.image_size
      # Longest (long side, short side) in pixels: images are resized to fit, keeping their aspect ratio, in
      # training and evaluation; () = images keep their size
      sides=(2048, 512),
      scale_range=(0.5, 2.0),  # range of a further random scale factor in training
      photometric=True,  # random brightness, contrast, saturation and hue; for uint8 RGB images only
      # (height, width) in pixels of the images of an evaluation batch; larger images are shrunk to fit
      eval_canvas=(704, 704),
      # Evaluation: (height, width) in pixels of a sliding window with a stride of two thirds of its size; ()
      # = the whole image at once
      window=(),
      scales=(1.0,),  # test-time augmentation: scale factors whose predictions are averaged
      mirrored=False,  # test-time augmentation: also average over the left-right flip at each scale
    )
  )
  c.mask = ConfigDict(
    dict(
      patch_size=32,  # side of a masked cell in pixels
      ratio=0.6,  # fraction of the cells that is masked
    )
  )

  c.optim = ConfigDict(
    dict(
      total_epochs=300.0,  # length of the run, with warm-up
      total_steps=0,  # the same in steps, instead of total_epochs; 0 = total_epochs counts
      warmup_epochs=20.0,  # linear warm-up from warmup_lr to lr
      # The three learning rates are per 512 images: the run multiplies them by batch_size / 512
      lr=5e-4,  # peak; 0 = all rates are 0, for a control run
      warmup_lr=5e-7,  # at the start of the warm-up
      min_lr=5e-6,  # at the end of "cosine" and "polynomial"
      # "cosine" (to min_lr), "linear" (to 1 % of lr), "polynomial" (linearly to min_lr), "step", "multistep"
      schedule="cosine",
      # "multistep": epochs at which the rate drops; "step": (interval of the drops in epochs,)
      milestone_epochs=(),
      decay_rate=0.1,  # factor of each drop
      weight_decay=0.05,  # of AdamW
      # Also decay the bias MLP and the logit scale, as the official SimMIM code does by mistake
      official_pretraining_decay=False,
      # True: only the head is trained; the encoder gets no updates and no optimizer state, and nothing is
      # dropped in it
      freeze_encoder=False,
      layer_decay=1.0,  # factor from the rate of a layer to that of the layer below; 0.75-0.9 for fine-tuning
      clip_norm=5.0,  # largest global norm of the gradient; 0 = no clipping
      b1=0.9,  # b1, b2 and eps of Adam
      b2=0.999,
      eps=1e-8,
      # Decay per step of the moving average of parameters that is evaluated; 0 = none; 0.9999 for long runs
      ema_decay=0.0,
      # Steps with a loss or gradient that is not finite to skip before the run stops; 0 = stop at the first
      skip_nonfinite_steps=0,
      accumulation_steps=1,  # parts that a batch is computed in, one after the other, to save memory
    )
  )

  # Devices per mesh axis; one axis may be -1 for all remaining devices
  c.mesh = ConfigDict(dict(data=1, fsdp=-1, model=1))
  # Mesh axis that each logical dimension is sharded over
  c.sharding_rules = (
    ("batch", ("data", "fsdp")),
    ("embed", "fsdp"),
    ("heads", "model"),
    ("mlp", "model"),
    ("merged", "model"),
    ("layers", None),
    ("pixels", "model"),
    ("features", ("fsdp", "model")),
    ("classes", None),  # not sharded: their number need not be divisible
  )
  # ZeRO-1: parameters are sharded over the model axis only; gradients, optimizer state and average over fsdp
  # too. Parameters are gathered once per step, not for each use. For models whose parameters fit on a device,
  # at 4 bytes each
  c.zero1 = False

  c.checkpoint = ConfigDict(
    dict(
      every_epochs=1.0,  # interval of the saves
      keep_latest=2,  # newest saves to keep, at least 2: if the newest is damaged, the one before is used
      # Evaluation metric that ranks saves, such as "auroc"; "" = that of the task, such as top1
      best_by="",
      keep_best=1,  # best saves to keep, by that metric
      # Early stopping: number of evaluations in a row without a better value of that metric after which the
      # run ends; 0 = never
      patience=0,
      keep_every=0,  # keep every n-th save permanently; 0 = none
      longer_schedule=False,  # allow continuing a run after total_epochs has changed
    )
  )
  c.log = ConfigDict(
    dict(
      every_steps=50,  # interval of the training metrics
      eval_every_epochs=1.0,  # interval of the evaluations
      # Project of Weights & Biases that the metrics and pictures are also sent to, where wandb is installed;
      # "" = none
      wandb="",
      num_pictures=8,  # pictures of predictions after each evaluation, if the task has any; 0 = none
      # Bands to show in pictures, from 0: three as red, green and blue, or one as grey; () = the first three,
      # or the first if there are fewer
      picture_bands=(),
    )
  )
  c.profile = ConfigDict(
    dict(
      start_step=10,  # first step of the profile, late enough for everything to be compiled
      num_steps=0,  # number of steps to profile; 0 = no profile
    )
  )
  return c.lock()
