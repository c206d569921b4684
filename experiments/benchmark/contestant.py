"""One implementation of Swin V2 as a process that takes orders: `forward N` and `train N` on standard input, seconds on standard output.

Each implementation has a process of its own, so that no two share threads, caches or memory; `compare.py` starts them and has them
run in turns. All do the same work: a batch of random normalised images through the model to the logits, without gradients; and a full
train step: cross-entropy with label smoothing, gradients, clipping of their norm, AdamW with weight decay, stochastic depth.
"""

from collections.abc import Callable
import json
import platform
import sys
import time
from typing import Any, NamedTuple

import numpy as np

SMOOTHING, CLIP_NORM, WEIGHT_DECAY, LEARNING_RATE, CLASSES = 0.1, 5.0, 0.05, 1e-4, 1000


class Contestant(NamedTuple):
  """What is timed: functions that return when the work is done, and the versions of what does it."""

  forward: Callable[[], Any]
  train: Callable[[], Any]
  versions: dict[str, str]


def ours(work: dict[str, Any]) -> Contestant:
  """The model of `swin_jax.load`, and the train step that a run makes of a config."""
  import jax  # pylint: disable=g-import-not-at-top
  import jax.numpy as jnp  # pylint: disable=g-import-not-at-top

  from configs import common  # pylint: disable=g-import-not-at-top
  from swin_jax import program  # pylint: disable=g-import-not-at-top
  from swin_jax import run_config  # pylint: disable=g-import-not-at-top
  from swin_jax import sharding  # pylint: disable=g-import-not-at-top
  from swin_jax.pretrained import Model  # pylint: disable=g-import-not-at-top
  from swin_jax.weights import description  # pylint: disable=g-import-not-at-top

  c = common.base()
  common.set_model(c, 2, work["size"], work["window"], work["image_size"], work["drop_path_rate"])
  c.model.dtype = work["dtype"]
  c.data.update(batch_size=work["batch"], eval_batch_size=work["batch"])
  c.classification.update(label_smoothing=SMOOTHING, mixup_alpha=0.0, cutmix_alpha=0.0, erase_probability=0.0)
  c.optim.update(lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM)
  c = run_config.resolve(c, range(CLASSES), range(CLASSES))
  p = program.build(c, steps_per_epoch=1000, total_steps=300_000)
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, p.batch["image"].shape, np.uint8)
  batch = jax.device_put({"image": pixels, "label": rng.integers(0, CLASSES, work["batch"]).astype(np.int32)}, p.batch_sharding)
  with sharding.trace_on(p.mesh, p.rules):
    held = {"state": p.init()}
    step = p.step.lower(p.state, p.batch).compile()

  def train():
    held["state"], sums = step(held["state"], batch)
    jax.block_until_ready(sums)

  model = Model(description.describe(json.loads(json.dumps(c.to_dict())), "the benchmark"), work["dtype"], unroll=True)
  params = jax.tree.map(jnp.array, held["state"].params)  # the step takes the state's own
  images = jnp.asarray(model.normalise(pixels), jnp.float32)
  return Contestant(lambda: jax.block_until_ready(model.apply(params, images)), train, {"jax": jax.__version__})


def transformers(work: dict[str, Any], compiled: bool) -> Contestant:
  """Hugging Face's, as it comes, or through torch.compile."""
  import transformers as library  # pylint: disable=g-import-not-at-top

  from configs import common  # pylint: disable=g-import-not-at-top

  size = common.SIZES[work["size"]]
  config = library.Swinv2Config(
      image_size=work["image_size"], window_size=work["window"], embed_dim=size["embed_dim"], depths=list(size["depths"]),
      num_heads=list(size["num_heads"]), drop_path_rate=work["drop_path_rate"], num_labels=CLASSES,
  )  # fmt: skip
  model = library.Swinv2ForImageClassification(config)
  return _torch(model, lambda model, images: model(images).logits, work, compiled, {"transformers": library.__version__})


def timm(work: dict[str, Any], compiled: bool) -> Contestant:
  """timm's, as it comes, or through torch.compile."""
  import timm as library  # pylint: disable=g-import-not-at-top

  from configs import common  # pylint: disable=g-import-not-at-top

  size = common.SIZES[work["size"]]
  model = library.models.swin_transformer_v2.SwinTransformerV2(
      img_size=work["image_size"], window_size=work["window"], embed_dim=size["embed_dim"], depths=size["depths"],
      num_heads=size["num_heads"], drop_path_rate=work["drop_path_rate"], num_classes=CLASSES,
  )  # fmt: skip
  return _torch(model, lambda model, images: model(images), work, compiled, {"timm": library.__version__})


def _torch(model, logits_of, work, compiled, versions):
  import torch  # pylint: disable=g-import-not-at-top

  rng = np.random.default_rng(0)
  images = torch.from_numpy(rng.normal(size=(work["batch"], 3, work["image_size"], work["image_size"])).astype(np.float32))
  labels = torch.from_numpy(rng.integers(0, CLASSES, work["batch"]))
  optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
  run = torch.compile(logits_of, dynamic=False) if compiled else logits_of

  def forward():
    model.eval()
    with torch.inference_mode():
      run(model, images)

  def train():
    model.train()
    loss = torch.nn.functional.cross_entropy(run(model, images), labels, label_smoothing=SMOOTHING)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  return Contestant(forward, train, {"torch": torch.__version__} | versions)


CONTESTANTS = {
    "swin_jax": ours,
    "transformers": lambda work: transformers(work, compiled=False),
    "transformers, torch.compile": lambda work: transformers(work, compiled=True),
    "timm": lambda work: timm(work, compiled=False),
    "timm, torch.compile": lambda work: timm(work, compiled=True),
}


def main(name: str, work: dict[str, Any]) -> None:
  contestant = CONTESTANTS[name](work)
  for function in (contestant.forward, contestant.train):
    for _ in range(2):  # compiles, and settles what is allocated at the first run
      function()
  print("ready", json.dumps(contestant.versions | {"python": platform.python_version()}), flush=True)
  for line in sys.stdin:
    kind, times = line.split()
    start = time.perf_counter()
    for _ in range(int(times)):
      getattr(contestant, kind)()
    print("took", time.perf_counter() - start, flush=True)


if __name__ == "__main__":
  main(sys.argv[1], json.loads(sys.argv[2]))
