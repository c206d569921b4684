"""Settings shared by published recipes and our own: functions that modify a config from `common.base()`."""

from ml_collections import ConfigDict

from .kinds import parse
from .sizes import SIZES

# Task → changes that `debug` makes to groups that only this task reads.
_SMALL = {
  "classification": {"classification": dict(num_classes=0)},
  "masked_pixels": {"mask": dict(patch_size=16)},
  "segmentation": {
    "segmentation": dict(num_classes=0, channels=32),
    "dense": dict(sides=(64, 64), eval_canvas=(64, 64)),
  },
}


def set_model(
  c: ConfigDict, version: int, size: str, window: int, image_size: int, drop_path_rate: float
) -> None:
  """Sets a model of the size table with the same window in every stage, and square images."""
  c.model.update(version=version, **SIZES[size], window_sizes=(window,) * 4)
  c.model.drop_path_rate = drop_path_rate
  c.data.image_size = (image_size, image_size)


def set_imagenet_22k(c: ConfigDict, weight_decay: float) -> None:
  """Sets supervised pre-training on ImageNet-22K: 90 epochs, batch 4096."""
  c.data.batch_size = 4096
  c.classification.num_classes = 21841
  c.optim.update(
    total_epochs=90.0,
    warmup_epochs=5.0,
    lr=1.25e-4,
    warmup_lr=1.25e-7,
    min_lr=1.25e-6,
    weight_decay=weight_decay,
  )


def set_fine_tuning_from_22k(c: ConfigDict) -> None:
  """Sets fine-tuning from ImageNet-22K on 1K: 30 epochs, batch 1024."""
  c.classification.num_classes = 1000
  c.optim.update(
    total_epochs=30.0, warmup_epochs=5.0, lr=2e-5, warmup_lr=2e-8, min_lr=2e-7, weight_decay=1e-8
  )


def set_simmim(c: ConfigDict) -> None:
  """Sets SimMIM pre-training on images without labels: 800 epochs, batch 2048."""
  c.task = "masked_pixels"
  c.data.update(batch_size=2048, eval_batch_size=2048)
  c.augment.update(crop_scale=(0.67, 1.0), interpolation="bilinear", rand_augment_operations=0)
  c.optim.update(total_epochs=800.0, warmup_epochs=10.0, lr=1e-4, warmup_lr=5e-7)
  c.optim.update(schedule="multistep", milestone_epochs=(700.0,), official_pretraining_decay=True)
  c.checkpoint.update(every_epochs=5.0, keep_every=20)
  c.log.eval_every_epochs = 5.0


def set_fine_tuning_from_simmim(c: ConfigDict, layer_decay: float) -> None:
  """Sets fine-tuning from SimMIM on ImageNet-1K: 100 epochs, batch 2048, layer-wise learning rates."""
  c.data.batch_size = 2048
  c.classification.num_classes = 1000
  c.optim.update(
    total_epochs=100.0,
    warmup_epochs=20.0,
    lr=1.25e-3,
    warmup_lr=2.5e-7,
    min_lr=2.5e-7,
    layer_decay=layer_decay,
  )


def set_from_public(c: ConfigDict) -> None:
  """Sets fine-tuning of public weights, or of any other model, on a small set: the model is the one in
  init_from; short, with layer-wise rates, and over when evaluations stop improving.
  """
  c.model_of_source = True
  c.optim.update(total_epochs=30.0, warmup_epochs=3.0, lr=4e-3, warmup_lr=4e-6, min_lr=4e-6, layer_decay=0.8)
  c.classification.update(mixup_alpha=0.0, cutmix_alpha=0.0)
  c.checkpoint.update(every_epochs=1.0, patience=10)
  c.log.update(every_steps=10, eval_every_epochs=1.0)


def set_dense(
  c: ConfigDict, task: str, sides: tuple[int, ...], crop: tuple[int, int], canvas: tuple[int, int]
) -> None:
  """Sets a task with UPerNet: images resized to fit `sides`, training on crops, evaluation of whole images on
  a canvas, and a learning rate that falls linearly to 0.
  """
  c.task = task
  c.data.image_size = crop
  c.dense.update(sides=sides, eval_canvas=canvas)
  c.augment.interpolation = "bilinear"
  c.optim.update(schedule="polynomial", min_lr=0.0)


def set_ade20k(c: ConfigDict, side: int, batch_size: int, steps: int, warmup_steps: int) -> None:
  """Sets UPerNet on ADE20K, with 20,210 training images and 150 classes, in crops of `side` pixels."""
  # The canvas has room for aspect ratios of 3 : 4 and 4 : 3, which most images have.
  set_dense(c, "segmentation", sides=(4 * side, side), crop=(side, side), canvas=(11 * side // 8,) * 2)
  c.data.update(train_split="training", eval_split="validation", batch_size=batch_size, eval_batch_size=16)
  c.segmentation.num_classes = 150
  steps_per_epoch = 20210 // batch_size
  c.optim.update(
    total_epochs=steps / steps_per_epoch,
    warmup_epochs=warmup_steps / steps_per_epoch,
    warmup_lr=0.0,
    clip_norm=0.0,
  )
  c.checkpoint.every_epochs = 4.0
  c.log.eval_every_epochs = 12.0


def parse_with_cpu(arg: str | None, kinds: tuple[str, ...]) -> tuple[str, bool]:
  """Returns the kind of run, and whether it is the small form of it for a CPU: ":kind,cpu", or ":cpu" for the
  first of `kinds`.

  Raises:
    UnknownKind: the config has no such kind.
  """
  on_cpu = {"cpu": kinds[0]} | {f"{kind},cpu": kind for kind in kinds}
  kind = parse(arg, (*kinds, *on_cpu))
  return on_cpu.get(kind, kind), kind in on_cpu


def set_cpu(c: ConfigDict, embed_dim: int) -> None:
  """Sets a narrower model at 64 px in float32, for a run on a CPU."""
  c.model.update(embed_dim=embed_dim, dtype="float32")
  c.data.image_size = (64, 64)


def set_multiscale(c: ConfigDict) -> None:
  """Sets evaluation at six scales with left-right flips, as in the papers' multi-scale results."""
  c.dense.update(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), mirrored=True)


def debug(c: ConfigDict) -> ConfigDict:
  """Shrinks a run of a four-stage model to about a minute on a CPU with the digits, keeping its recipe,
  windows and extra norms.
  """
  depths = (2, 2, 6, 2) if c.model.extra_norm_every else (2, 2, 2, 2)
  c.model.update(embed_dim=16, depths=depths, num_heads=(1, 2, 4, 8), dtype="float32", unroll=False)
  c.init_from = ""
  c.data.update(source="digits", path="", train_split="train", eval_split="val", image_size=(64, 64))
  c.data.update(batch_size=64, eval_batch_size=64, num_threads=2, num_workers=0)
  for group, values in _SMALL.get(c.task, {}).items():
    c[group].update(values)
  c.optim.update(
    total_epochs=1.0, warmup_epochs=0.25, milestone_epochs=tuple(0.8 for _ in c.optim.milestone_epochs)
  )
  c.checkpoint.every_epochs = 0.5
  c.log.update(every_steps=5, eval_every_epochs=1.0)
  return c
