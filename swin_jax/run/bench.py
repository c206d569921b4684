"""Measures how fast a run's input pipeline is on this machine, where the time goes, and what would make it
faster.

  python -m swin_jax.run.bench --config=NAME[:KIND] [--seconds=20] [--config.group.key=value]

It reads, decodes, crops and batches like the run itself, with the same threads and worker processes, but does
not train. It also times the stages image by image in one thread, and the preprocessing of a batch on the
devices: RandAugment, normalisation, erasing, mixing. The log of a run shows the images per second that it
needs (`perf/images_per_second`) and how long it waited for them (`perf/data_seconds`).
"""

from collections.abc import Callable, Sequence
import itertools
import os
import sys
import time
from typing import NamedTuple

from swin_jax.terminal import host_memory, preemption, quiet

if __name__ == "__main__":  # before the slow imports
  host_memory.restart_on_large_pages("swin_jax.run.bench")
  preemption.listen()  # only now: a signal between the two would be lost
  quiet.libraries()

from absl import logging
import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.feed import pipeline, reading
from swin_jax.mesh import distributed, sharding
from swin_jax.models import backbone_of
from swin_jax.ops import mixing
from swin_jax.run import checks, inputs, reads, source_model
from swin_jax.run import config as run_config
from swin_jax.tasks import kind_of
from swin_jax.terminal import cli, rules
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress, say

# Stage → message if this stage takes the most time: what bounds the pipeline, and what to do about it.
STAGES = {
  "read": "reading takes {:.0f} %, so storage is the limit: more data.num_threads read more files at once; "
  "many small files are read"
  " faster from the shards that python -m swin_jax.data.prepare writes",
  "decode": "decoding takes {:.0f} %, so the cores are the limit: more cores make it faster, and if the "
  "images are much larger than the run's, so does shrinking them once with python -m swin_jax.data.prepare "
  "--short_side",
  "crop and resize": "cropping and resizing take {:.0f} %, so the cores are the limit: more cores make it "
  "faster, and if the images are much larger than the run's, so does shrinking them once with python -m "
  "swin_jax.data.prepare --short_side",
  "rest": "batching, and threads that wait for one another, take {:.0f} %",  # and `_crew_advice`
}
_AT_MOST = 512  # largest number of images whose stages are timed


class Measured(NamedTuple):
  """Measured speed of the input pipeline.

  Attributes:
    rate: images per second.
    cores: number of cores that the pipeline can use.
    seconds: stage → core seconds per image.
  """

  rate: float
  cores: int
  seconds: dict[str, float]


def _parser() -> cli.ConfigParser:
  parser = cli.ConfigParser(prog="python -m swin_jax.run.bench", description=__doc__)
  parser.add_argument(
    "--seconds",
    type=cli.number(rules.Whole(1, 86_400)),
    default=20,
    metavar="N",
    help="duration of the measurement of the pipeline, in seconds",
  )
  return parser


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    logging.set_verbosity(logging.WARNING)
    distributed.check_devices()
    reads.check_flags(arguments.config, cli.given_keys(argv))
    given = cli.given_keys(argv)
    ready = run_config.with_statistics(source_model.with_model(arguments.config, given))
    checks.check(ready)
    data = inputs.open_input(ready)
    measured = measure(data, arguments.seconds)
    say(*describe(ready, measured))
    rate, devices = on_devices(ready, len(data.train_source.class_names))
    say(
      f"then on {devices}: {rate:,.0f} images/s through the augmentations of a batch"
      + device_limit(rate, measured)
    )

  return cli.exit_code(body)


def measure(data: pipeline.Input, seconds: float) -> Measured:
  """Measures the pipeline and its stages, with one host that makes whole batches.

  Args:
    data: the pipeline.
    seconds: least duration of the measurement of the pipeline, after its start-up.

  Raises:
    BadInput: too many records cannot be read.
  """
  cores = min(os.cpu_count(), data.num_threads * max(data.num_workers, 1))
  stages = time_stages(data, seconds / 4)
  records = pipeline.BadRecords(data.train_source, data.max_bad_fraction)
  batches = data.train_batches(0, pipeline.Part(0, 1))
  # Threads that start together also finish together, so the measurement counts whole rounds of them.
  several = data.num_threads * max(data.num_workers, 1)

  def make_round():
    for batch in itertools.islice(batches, several):
      records.add(batch)

  say(f"starting {_crew(data)}, each with a batch of {data.batch_size} images")
  make_round()
  progress = Progress("measuring, seconds", seconds)
  start = before = time.perf_counter()
  rounds = 0
  while before - start < seconds:
    make_round()
    rounds += 1
    now = time.perf_counter()
    progress.step(min(now - before, start + seconds - before))
    before = now
  rate = rounds * several * data.batch_size / (before - start)
  return Measured(rate, cores, stages | {"rest": max(cores / rate - sum(stages.values()), 0.0)})


def time_stages(data: pipeline.Input, seconds: float) -> dict[str, float]:
  """Returns stage → mean seconds per image in this thread, over images that this process has not read before.

  Raises:
    BadInput: no record could be read.
  """
  source, rng = data.train_source, np.random.default_rng(data.seed)
  took, count, start = (
    dict.fromkeys([stage for stage in STAGES if stage != "rest"], 0.0),
    0,
    time.perf_counter(),
  )
  for index in rng.permutation(len(source))[:_AT_MOST]:
    times = [time.perf_counter()]
    try:
      example = reading.read(source, int(index))
      times.append(time.perf_counter())
      decoded = data.decode(example)
      times.append(time.perf_counter())
    except (ValueError, RuntimeError, OSError):
      continue  # the pipeline reports and counts bad records
    data.train_view(decoded, rng)
    times.append(time.perf_counter())
    count += 1
    for stage, (before, after) in zip(took, itertools.pairwise(times), strict=True):
      took[stage] += after - before
    if times[-1] - start > seconds:
      break
  if not count:
    raise BadInput(f"none of {min(len(source), _AT_MOST)} records could be read")
  return {stage: total / count for stage, total in took.items()}


def _crew(data: pipeline.Input) -> str:
  threads = f"{data.num_threads} thread{'s' * (data.num_threads != 1)}"
  return (
    f"{data.num_workers} process{'es' * (data.num_workers != 1)} of {threads}"
    if data.num_workers
    else threads
  )


def describe(config: ConfigDict, measured: Measured) -> list[str]:
  """Returns the result of `measure` as lines; the last says what bounds the pipeline."""
  rate, cores, seconds = measured
  total = sum(seconds.values())
  height, width = config.data.image_size
  speed = (
    f"{rate:,.0f} images/s of {height} × {width} pixels, {rate / cores:,.0f} per core on {cores}"
    f" core{'s' * (cores != 1)}"
  )
  lines = [f"{speed}; of a core's time for one image"]
  lines += [
    f"  {stage:<16}{1e6 * took:7,.0f} µs  {100 * took / total:3.0f} %" for stage, took in seconds.items()
  ]
  largest = max(seconds, key=seconds.get)
  advice = _crew_advice(config.data, cores) if largest == "rest" else ""
  return [*lines, STAGES[largest].format(100 * seconds[largest] / total) + advice]


def device_limit(rate: float, measured: Measured) -> str:
  """Returns a remark if the devices process fewer images per second than the pipeline delivers; else ""."""
  if rate >= measured.rate:
    return ""
  remark = f", fewer than the {measured.rate:,.0f} that the pipeline delivers: this limits the input here"
  return remark + "; most of the time goes to RandAugment (augment.rand_augment_operations)"


def _crew_advice(data: ConfigDict, cores: int) -> str:
  """Returns advice on the number of threads and processes."""
  available = os.cpu_count()
  if data.num_threads * max(data.num_workers, 1) != available:
    return f": try data.num_threads={available} data.num_workers=0"
  if not data.num_workers and cores >= 8:
    return f": try data.num_threads=4 data.num_workers={cores // 4}"
  return "; each core has its thread, so other values gain nothing"


def on_devices(config: ConfigDict, num_classes: int) -> tuple[float, str]:
  """Measures the preprocessing of training batches on all devices.

  Returns:
    Images per second, and a description of the devices.

  Raises:
    BadInput: the batch does not divide over the devices.
  """
  mesh = sharding.make_mesh(config.mesh)
  parts = sharding.batch_parts(mesh, config.sharding_rules)
  # A batch meant for many devices may not fit on one. One mixing group per device always fits.
  count = min(config.data.batch_size, mixing.GROUP * parts) // parts * parts
  if not count:
    raise BadInput(f"data.batch_size = {config.data.batch_size} does not divide over {parts} devices")
  batch_sharding = sharding.shard_batch(mesh, config.sharding_rules, count, "data.batch_size")
  kind, rng = kind_of(config), np.random.default_rng(0)
  batch = {
    name: rng.integers(0, 256 if name == "image" else 1, (count, *shape)).astype(dtype)
    for name, (shape, dtype) in kind.fields(config).items()
  }
  batch = jax.device_put(batch, batch_sharding)
  device = mesh.devices.flat[0]
  with sharding.trace_on(mesh, config.sharding_rules):
    prepare = jax.jit(_prepare(config, device, max(num_classes, 1)), out_shardings=batch_sharding)
    jax.block_until_ready(prepare(batch, jax.random.key(0)))
    start, times = time.perf_counter(), 0
    while not times or time.perf_counter() - start < 2:
      times += 1
      jax.block_until_ready(prepare(batch, jax.random.key(times)))
  return count * times / (time.perf_counter() - start), f"{mesh.size} × {device.device_kind}"


def _prepare(
  config: ConfigDict, device: jax.Device, num_classes: int
) -> Callable[[dict, jax.Array], dict[str, jax.Array]]:
  """Returns the function (batch, rng) → batch for the model, with the run's steps in the run's order."""
  kind, config = kind_of(config), config.copy_and_resolve_references()
  if kind.needs.has_classes:
    config[kind.group].num_classes = num_classes
  augment, task = kind.augment(config), kind.make(backbone_of(config).make(config, device), config)

  def prepare(batch, rng):
    rngs = jax.random.split(rng)
    return task.prepare(augment(batch, rngs[0]) if augment else batch, rngs[1])

  return prepare


if __name__ == "__main__":
  cli.leave(main(sys.argv))
