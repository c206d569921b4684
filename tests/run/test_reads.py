"""Flags for keys that the chosen task does not read are refused, in one line."""

import pytest

from configs import common
from swin_jax.run import checks, reads
from swin_jax.tasks import KINDS
from swin_jax.terminal.errors import BadInput
from tests.support import runs, tiny


def config(task):
  c = common.base()
  c.task = task
  return c


@pytest.mark.parametrize(
  "task, key, message",
  [
    ("segmentation", "classification.mixup_alpha", "it reads no key of config.classification"),
    ("segmentation", "mask.ratio", "it reads no key of config.mask"),
    (
      "segmentation",
      "augment.crop_scale[0]",
      "config.augment.crop_scale: task=segmentation does not read it; of this group it reads"
      " flip_probability, interpolation, rotate$",
    ),
    (
      "pixel_regression",
      "augment.rand_augment_operations",
      "of this group it reads flip_probability, interpolation, rotate",
    ),
    ("pixel_regression", "segmentation.channels", "it reads no key of config.segmentation"),
    ("classification", "mask.ratio", "task=classification does not read it"),
    ("classification", "dense.photometric", "it reads no key of config.dense"),
    ("masked_pixels", "classification.num_classes", "task=masked_pixels does not read it"),
    ("classification", "log.num_pictures", "of this group it reads eval_every_epochs, every_steps, wandb$"),
    ("classification", "log.picture_bands", "task=classification does not read it"),
  ],
)
def test_a_flag_that_the_task_does_not_read_is_refused(task, key, message):
  with pytest.raises(BadInput, match=message):
    reads.check_flags(config(task), ["optim.lr", key])


@pytest.mark.parametrize(
  "task, keys",
  [
    ("segmentation", ["dense.scales", "dense.scales[0]", "augment.rotate", "log.num_pictures", "task"]),
    ("classification", ["augment.crop_scale", "augment.rand_augment_operations", "sharding_rules[0]"]),
    ("masked_pixels", ["mask.ratio", "log.picture_bands", "zero1", "mesh.data"]),
  ],
)
def test_other_flags_pass(task, keys):
  reads.check_flags(config(task), [*keys, "model.window_sizes", "log.every_steps", "data.path"])


# Key → a value that images of the given size and of the one band of `tiny.config` do not allow.
BAD = {
  "augment.interpolation": ("nearest", (32, 32)),
  "augment.rotate": (True, (32, 64)),
  "log.picture_bands": ((7,), (32, 32)),
}


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("key", BAD)
def test_only_the_keys_that_the_task_reads_are_checked(monkeypatch, task, key):
  group, _, name = key.partition(".")
  value, image_size = BAD[key]
  c = tiny.config(task=task, data__image_size=image_size, mask__patch_size=4)
  c.update(segmentation=dict(num_classes=2), dense=dict(photometric=False))
  checks.check(c)
  c[group][name] = value
  if reads.is_read(c, key):
    with pytest.raises(BadInput, match=key):
      checks.check(c)
    monkeypatch.setitem(KINDS, task, KINDS[task]._replace(check=lambda config: None, rules={}))
  checks.check(c)


@pytest.mark.slow
@pytest.mark.parametrize(
  "module, words",
  [
    ("swin_jax.main", ("--workdir=/tmp/none",)),
    ("swin_jax.plan", ("--topology=v5e:2x2", "--analytic")),
    ("swin_jax.run.bench", ()),
  ],
)
def test_commands_refuse_it_in_one_line(module, words):
  """The task is the one that the flags choose; a tuple may be given by its elements."""
  process = runs.command(
    "--config=configs/quickstart.py:finetune",
    "--config.task=masked_pixels",
    "--config.augment.crop_scale=0.5,1.0",
    "--config.classification.mixup_alpha=0.5",
    *words,
    module=module,
  )
  output, _ = process.communicate(timeout=300)
  refusal = [line for line in output.splitlines() if not line.endswith("starting ...")]
  assert process.returncode == 2 and len(refusal) == 1, output
  assert "--config.classification.mixup_alpha: task=masked_pixels does not read it" in output
