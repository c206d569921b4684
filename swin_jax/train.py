"""The run: config → input pipeline → mesh and sharding → model → train step → checkpoint and metrics.

With `run_config.py`, the only reader of the config: everything below gets groups of it, or plain numbers.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import itertools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from swin_jax import checkpoint
from swin_jax import metrics
from swin_jax import optim
from swin_jax import run_config
from swin_jax import sharding
from swin_jax import transfer
from swin_jax.data import pipeline
from swin_jax.data import sources
from swin_jax.data import views
from swin_jax.errors import BadInput
from swin_jax.evaluate import evaluate
from swin_jax.metrics import say
from swin_jax.models import swin
from swin_jax.state import abstract_state
from swin_jax.state import init_state
from swin_jax.state import TrainState
from swin_jax.step import make_step
from swin_jax.tasks import classification
from swin_jax.tasks import masked_pixels
from swin_jax.tasks.task import Task

TASKS = {"classification": classification, "masked_pixels": masked_pixels}


class Program(NamedTuple):
  """What a config means on the devices at hand; nothing is computed or allocated yet.

  Attributes:
    task: model and objective.
    mesh, rules: of the sharding; the functions below are traced in `sharding.trace_on` of both.
    batch_sharding, eval_batch_sharding: of every array of a batch.
    batch: abstract training batch with shardings.
    state: abstract `TrainState` with shardings.
    init: () → a fresh state.
    step: (state, batch) → (state, sums).
    eval_step: (params, batch) → sums.
    pictures: (params, batch) → uint8 pictures, or None.
    flops: of one image's forward pass.
  """

  task: Task
  mesh: jax.sharding.Mesh
  rules: tuple
  batch_sharding: jax.sharding.NamedSharding
  eval_batch_sharding: jax.sharding.NamedSharding
  batch: dict[str, jax.ShapeDtypeStruct]
  state: TrainState
  init: Callable[[], TrainState]
  step: Any
  eval_step: Any
  pictures: Any
  flops: int


def open_input(config: ConfigDict) -> pipeline.Input:
  """The sources of a config, and how their images become batches."""
  d, a = config.data, config.augment
  mask = None
  if config.task == "masked_pixels":
    mask = views.Mask(config.mask.patch_size, config.model.patch_size, config.mask.ratio)
  return pipeline.Input(
      train_source=sources.open_source(d.source, d.path, d.train_split),
      eval_source=sources.open_source(d.source, d.path, d.eval_split),
      train_view=views.Augment(
          image_size=d.image_size, crop_scale=a.crop_scale, crop_ratio=a.crop_ratio, crop_padding=a.crop_padding,
          interpolation=a.interpolation, flip_probability=a.flip_probability, rand_augment_operations=a.rand_augment_operations,
          rand_augment_probability=a.rand_augment_probability, rand_augment_magnitude=a.rand_augment_magnitude,
          rand_augment_magnitude_std=a.rand_augment_magnitude_std, mask=mask,
      ),  # fmt: skip
      eval_view=views.EvalView(d.image_size, a.eval_crop_fraction, a.interpolation, mask),
      bands=len(d.mean),
      seed=config.seed,
      batch_size=d.batch_size,
      eval_batch_size=d.eval_batch_size,
      max_bad_fraction=d.max_bad_fraction,
      host=pipeline.Host(jax.process_index(), jax.process_count(), d.num_threads, d.num_workers),
  )


def build(config: ConfigDict, steps_per_epoch: int, total_steps: int, devices: Sequence[jax.Device] | None = None) -> Program:
  """A resolved config → functions and shardings, for these devices or else for all there are."""
  # Mesh and sharding.
  mesh = sharding.make_mesh(**config.mesh, devices=devices)
  rules = sharding.whole_parameters(config.sharding_rules) if config.zero1 else config.sharding_rules
  batch_sharding = sharding.shard_batch(mesh, rules, config.data.batch_size // config.optim.accumulation_steps)
  eval_batch_sharding = sharding.shard_batch(mesh, rules, config.data.eval_batch_size)

  # Model.
  bands = len(config.data.mean)
  encoder = swin.make_encoder(**config.model)
  task = TASKS[config.task].make_task(encoder, mean=config.data.mean, std=config.data.std, **config[config.task])
  token_map = tuple(-(-side // config.model.patch_size) for side in config.data.image_size)
  fields = {"image": ((*config.data.image_size, bands), jnp.uint8), "label": ((), jnp.int32)}
  if config.task == "masked_pixels":
    fields["mask"] = (token_map, jnp.bool_)
  parts = sharding.batch_parts(mesh, rules)
  batch = {name: jax.ShapeDtypeStruct((config.data.batch_size, *shape), dtype, sharding=batch_sharding) for name, (shape, dtype) in fields.items()}

  def init_params(rng):
    return task.init(rng, {name: jnp.zeros((parts, *shape), dtype) for name, (shape, dtype) in fields.items()})

  # Optimizer and state.
  rate, peak_lr = run_config.learning_rate(config, steps_per_epoch, total_steps)
  o = config.optim

  def make_optimizer(params):
    return optim.make_optimizer(
        params, rate, peak_lr=peak_lr, weight_decay=o.weight_decay, depths=config.model.depths, layer_decay=o.layer_decay,
        decay_rules=optim.OFFICIAL_PRETRAINING_DECAY_RULES if o.official_pretraining_decay else optim.DECAY_RULES,
        clip_norm=o.clip_norm, b1=o.b1, b2=o.b2, eps=o.eps,
    )  # fmt: skip

  state, optimizer, gradient_shardings = abstract_state(init_params, make_optimizer, o.ema_decay > 0, mesh, rules, config.sharding_rules)
  state_shardings = jax.tree.map(lambda leaf: leaf.sharding, state)

  # Steps.
  step = make_step(
      task, optimizer, lambda step: rate(step, peak_lr), gradient_shardings, seed=config.seed, accumulation_steps=o.accumulation_steps,
      ema_decay=o.ema_decay,
  )  # fmt: skip

  def first_pictures(params, batch):
    wanted = config.log.num_pictures
    images = jax.tree.map(lambda x: x[: -(-wanted // parts) * parts], batch)  # as many on every device
    return task.pictures(params, images)[:wanted]

  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  on_params = dict(in_shardings=(state_shardings.params, eval_batch_sharding), out_shardings=everywhere)
  return Program(
      task=task,
      mesh=mesh,
      rules=rules,
      batch_sharding=batch_sharding,
      eval_batch_sharding=eval_batch_sharding,
      batch=batch,
      state=state,
      init=lambda: init_state(jax.random.key(config.seed), init_params, optimizer, state),
      step=jax.jit(step, in_shardings=(state_shardings, batch_sharding), out_shardings=(state_shardings, everywhere), donate_argnums=0),
      eval_step=jax.jit(task.eval_sums, **on_params),
      pictures=task.pictures and config.log.num_pictures and jax.jit(first_pictures, **on_params),
      flops=swin.flops(encoder, config.data.image_size, bands),
  )


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
  """Trains in `workdir`, or goes on training there.

  Returns:
    The last evaluation.

  Raises:
    BadInput: see `errors.py`; also for a loss that is not finite.
  """
  started = time.perf_counter()
  # 1. Config.
  run_config.check(config)
  stored = checkpoint.stored_config(workdir)
  start = checkpoint.SavedParameters(config.init_from) if config.init_from and not stored else None
  # 2. Input pipeline.
  data = open_input(config)
  classes = data.train_source.class_names, data.eval_source.class_names
  config = run_config.resolve(config, *classes, stored=stored, source=start and start.config)
  if stored:
    run_config.check_same_run(config, stored, workdir)
  steps_per_epoch, total_steps = run_config.count_steps(config, len(data.train_source))
  # 3.-5. Mesh and sharding, model, train step.
  program = build(config, steps_per_epoch, total_steps)
  run_config.prepare_workdir(workdir)  # only now: a refused run leaves nothing behind
  # 6. Checkpoint: (1) this workdir, (2) init_from, (3) scratch.
  checkpoints = checkpoint.Checkpoints(workdir, config.checkpoint.keep_latest, config.checkpoint.keep_best, program.task.best)
  restored = checkpoints.restore(program.state)
  if restored:
    run_config.check_same_data(restored.data["num_examples"], len(data.train_source), config.data.train_split)
    state, first, sums = restored.state, restored.step, restored.data["interval"]
    say(f"continuing {workdir} from step {first}")
  else:
    state, first, sums = program.init(), 0, {}
    if config.init_from:
      start = start or checkpoint.SavedParameters(config.init_from)  # None where all checkpoints here proved damaged
      params, report = transfer.start_from(start, state.params, workdir)
      state = dataclasses.replace(state, params=params, ema=state.ema and jax.tree.map(jnp.copy, params))
      say(str(report).partition("\n")[0] + f"; every name is in {workdir}/transfer.txt")
  run_config.write(config, workdir)
  say(run_config.describe(config, data, program, total_steps, workdir))
  # 7. Loop.
  writer = metrics.Writer(workdir, first)
  throughput = metrics.Throughput(config.data.batch_size, 3 * program.flops)  # a backward pass is two forward passes
  log = metrics.TrainLog(writer, first, total_steps, config.log.every_steps, throughput, sums)
  every = {"evaluate": config.log.eval_every_epochs, "save": config.checkpoint.every_epochs}
  every = {name: max(1, round(epochs * steps_per_epoch)) for name, epochs in every.items()}
  with contextlib.ExitStack() as stack:
    stack.callback(writer.close)
    stack.callback(checkpoints.close)
    evaluation = _loop(config, data, program, state, first, total_steps, every, checkpoints, writer, log, throughput)
  shown = "  ".join(f"{name} {value:.4f}" for name, value in evaluation.items())
  say(f"done in {metrics.duration(time.perf_counter() - started)}  {shown}  checkpoint {checkpoints.folder}/{max(first, total_steps)}")
  return evaluation


def _loop(config, data, program, state, first, total_steps, every, checkpoints, writer, log, throughput) -> dict[str, float]:
  if first >= total_steps:
    return run_evaluation(program, data, state)
  evaluation, step_sums, train_step = {}, None, None

  def read(step, sums, index):
    sums = jax.device_get(sums)
    throughput.step()
    check_finite(step, sums, index)
    log.add(step, sums)

  batches = data.train(first, program.batch_sharding)
  for step in range(first + 1, total_steps + 1):
    host_batch, batch = next(batches)
    if train_step is None:
      say("compiling the train step ...")
      with sharding.trace_on(program.mesh, program.rules):
        train_step = program.step.lower(state, batch).compile()
      throughput.restart()
    state, sums = train_step(state, batch)
    if step_sums is not None:  # read one step late: the device never waits for the host
      read(*step_sums)
    step_sums = (step, sums, host_batch["index"])
    checkpoints.poll()

    due = {name for name, steps in every.items() if step % steps == 0 or step == total_steps}
    if due:  # before the next batch is drawn, so that model and data position agree
      read(*step_sums)
      step_sums = None
      if "evaluate" in due:
        evaluation = run_evaluation(program, data, state, writer)
        log.write(step, evaluation)
      # What was evaluated is saved too, so that the best is there to be kept.
      position = {"samples_seen": step * config.data.batch_size, "num_examples": len(data.train_source), "interval": dict(log.sums)}
      checkpoints.save(step, state, position, config.to_dict(), evaluation if "evaluate" in due else None)
      throughput.restart()
  return evaluation


def run_evaluation(program: Program, data: pipeline.Input, state: TrainState, writer: metrics.Writer | None = None) -> dict[str, float]:
  """Evaluates the average, or the parameters where there is none, and gives the writer pictures of the first batch."""
  batches = data.evaluation(program.eval_batch_sharding)
  first = next(batches)
  with sharding.trace_on(program.mesh, program.rules):
    values = evaluate(program.eval_step, state.eval_params, itertools.chain([first], batches))
    if program.pictures and writer:
      writer.pictures(int(state.step), "reconstruction", np.asarray(program.pictures(state.eval_params, first[1])))
  return values


def evaluate_checkpoint(config: ConfigDict, workdir: str) -> dict[str, float]:
  """Evaluates the newest checkpoint in `workdir`.

  Raises:
    BadInput: there is none, or it is of another model.
  """
  run_config.check(config)
  saved = checkpoint.SavedParameters(workdir)
  config = config.copy_and_resolve_references()
  config.data.train_split = config.data.eval_split  # the training images need not be there
  data = open_input(config)
  config = run_config.resolve(config, data.train_source.class_names, data.eval_source.class_names, source=saved.config)
  run_config.check_same_model(config, saved.config, workdir)
  program = build(config, steps_per_epoch=1, total_steps=1)
  state = dataclasses.replace(program.state, params=transfer.read_all(saved, program.state.params), ema=None)
  height, width = config.data.image_size
  say(f"evaluating step {saved.step} of {workdir} on {len(data.eval_source):,} images at {height} × {width} px, windows {config.model.window_sizes}")
  values = run_evaluation(program, data, state)
  say("  ".join(f"{name} {value:.4f}" for name, value in values.items()))
  return values


def check_finite(step: int, sums: dict[str, tuple], index: np.ndarray) -> None:
  """Raises BadInput, naming step and records, if a step's loss or gradient is not finite."""
  loss, grad_norm = sums["loss"][0] / sums["loss"][1], sums["grad_norm"][0]
  if not (np.isfinite(loss) and np.isfinite(grad_norm)):
    raise BadInput(
        f"step {step}: loss {loss}, gradient norm {grad_norm}; the checkpoints before it are whole. A smaller optim.lr, a longer"
        " warm-up or model.dtype=float32 may help, in a new --workdir, from the start or with --config.init_from of this one. Records"
        f" of the batch: {', '.join(map(str, index[:1024]))}{', …' if len(index) > 1024 else ''}"
    )
