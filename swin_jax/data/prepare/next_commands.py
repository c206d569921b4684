"""The commands that train on a prepared set."""

from collections.abc import Mapping

from swin_jax.data.read.targets import Target
from swin_jax.terminal.printable import quoted

_SMALL = 2000  # training images, up to which a run on a CPU takes minutes
# Config and kind of run that starts from pre-trained weights → the one that needs none, and its workdir. The
# other configs start from scratch by a flag.
_SCRATCH = {
  "own_images:finetune": ("own_images:scratch", "scratch"),
  "own_labels:finetune": ("own_labels:scratch", "labels_scratch"),
}


def lines(
  out: str, num_images: Mapping[str, int], num_classes: int, targets: Target, of_rasters: bool
) -> list[str]:
  """Returns the commands that train on a set, with a line above each group of them.

  Args:
    out: folder of the set.
    num_images: split → number of its images.
    num_classes: number of classes of the images or pixels; 0 for none.
    targets: what each pixel carries.
    of_rasters: whether the images are rasters.
  """
  train, evaluate = _splits(list(num_images))
  flags = [f"--config.data.path={out}"]
  flags += [f"--config.data.train_split={train}"] * (train != "train")
  flags += [f"--config.data.eval_split={evaluate}"] * (evaluate != "val")
  config, folder = ("own_rasters", "rasters") if of_rasters else ("own_images", "own")

  def command(recipe: str, workdir: str, *more: str) -> str:
    words = [f"--config={recipe}", f"--workdir=runs/{folder}/{workdir}", *more, *flags]
    return f"  python -m swin_jax.main {' '.join(map(quoted, words))}"

  learnt = targets.recipes(of_rasters) or {f"{config}:finetune": "finetune"}
  if not targets.has_numbers and num_classes < 2:  # nothing to learn
    learnt = {}

  def group(end: str) -> list[str]:
    runs = {f"{config}:pretrain": "pretrain"} | learnt
    commands = [command(recipe + end, workdir) for recipe, workdir in runs.items()]
    for recipe, workdir in learnt.items():
      scratch, name = _SCRATCH.get(recipe, (recipe, f"{workdir}_scratch"))
      flag = ["--config.init_from="] * (scratch == recipe)
      commands += ["or without pre-training:", command(scratch + end, name, *flag)]
    return commands

  lines = group("")
  if num_images[train] <= _SMALL:
    lines += ["On a machine without a GPU, a smaller model on smaller images:", *group(",cpu")]
  if evaluate == train:
    lines.append(
      "There is one split, so this evaluates on the training images; --hold_out=0.1 into another folder sets"
      " some apart."
    )
  return lines


def _splits(names: list[str]) -> tuple[str, str]:
  """Returns the splits to train and to evaluate on."""

  def first(*beginnings: str, otherwise: str) -> str:
    named = (name for each in beginnings for name in names if name.lower().startswith(each))
    return next(named, otherwise)

  train = first("train", otherwise=names[0])
  return train, first("val", "test", "eval", otherwise=train)
