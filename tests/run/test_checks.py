"""Values of config keys: every key has a rule with finite limits, and every value is refused in one line
before data is opened, or describes a run that can be built.
"""

import math
import random

import jax
import pytest

from configs import common
from swin_jax import main
from swin_jax.mesh import sharding
from swin_jax.models import BACKBONES
from swin_jax.run import checks, compatibility, reads
from swin_jax.run import config as run_config
from swin_jax.run.program import build
from swin_jax.tasks import KINDS
from swin_jax.terminal import cli, rules
from swin_jax.terminal.errors import BadInput
from tests.support import tiny
from tests.support.paths import FAULTS

CLASSES = tuple("0123456789")
# One tiny config of every task; the keys that the data fills in are given.
TASKS = {
  "masked_pixels": dict(kind="pretrain"),
  "classification": dict(kind="finetune"),
  "segmentation": dict(kind="finetune", dense__photometric=False, segmentation__channels=32),
  "pixel_regression": dict(
    kind="finetune", dense__photometric=False, pixel_regression__channels=32, pixel_regression__value_std=1.0
  ),
}


def tiny_config(task):
  return tiny.config(**TASKS[task], task=task, model__trained_window_sizes=(4, 4))


def flat_keys(config):
  return set(compatibility.flatten(config.to_dict()))


def checked(config, classes=CLASSES, examples=1437):
  """Returns the config as a run resolves it after all checks, with the steps per epoch and in total."""
  config = run_config.with_statistics(config)
  checks.check(config)
  config = run_config.resolve(config, classes, classes)
  return config, *run_config.count_steps(config, examples)


def build_abstractly(config, steps_per_epoch, total_steps, *, with_step):
  program = build(config, steps_per_epoch, total_steps)
  if with_step:
    with sharding.trace_on(program.mesh, program.rules):
      jax.eval_shape(program.step, program.state, program.batch)


# The table.


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("task", KINDS)
def test_a_run_has_a_rule_for_every_key_that_it_reads_and_for_no_other(task, backbone):
  settings = {"task": task, "model": {"backbone": backbone}}
  read = {key for key in flat_keys(common.base()) if reads.is_read(settings, key)}
  assert set(checks.table(settings)) == read


def test_every_key_has_a_rule():
  keys = {
    key
    for task in KINDS
    for backbone in BACKBONES
    for key in checks.table({"task": task, "model": {"backbone": backbone}})
  }
  assert keys == flat_keys(common.base())


def parts(rule):
  """Yields a rule and the rules inside it."""
  yield rule
  inside = [rule.each] if isinstance(rule, rules.Items) else getattr(rule, "rules", ())
  for each in inside:
    yield from parts(each)


@pytest.mark.parametrize("task", KINDS)
def test_no_number_is_without_limits(task):
  for key, rule in checks.table({"task": task, "model": {}}).items():
    for part in parts(rule):
      if isinstance(part, rules.Real):
        assert math.isfinite(part.low) and math.isfinite(part.high) and part.low < part.high, key
      for wrong in (math.nan, math.inf, -math.inf, 1e300, -1e300, 10**400, None, b"x", object()):
        assert part.problem(wrong), (key, wrong)


@pytest.mark.parametrize("task", TASKS)
def test_the_tiny_config_of_each_task_passes(task):
  build_abstractly(*checked(tiny_config(task)), with_step=False)


# Contradictions between keys.


@pytest.mark.parametrize(
  "task, changes, message",
  [
    ("masked_pixels", dict(optim__min_lr=0.04), "min_lr = 0.04 must not be more than optim.lr = 0.03"),
    ("masked_pixels", dict(optim__warmup_lr=0.04), "warmup_lr = 0.04 must not be more than optim.lr"),
    ("masked_pixels", dict(optim__lr=50.0, optim__total_epochs=1e6, data__batch_size=1), "at most 2,147,"),
    (
      "masked_pixels",
      dict(optim__schedule="step", optim__milestone_epochs=(0.001,)),
      "less than one of the 89 steps",
    ),
    (
      "masked_pixels",
      dict(optim__schedule="step", optim__milestone_epochs=(0.1, 0.2)),
      "'step' has one number",
    ),
    ("masked_pixels", dict(mask__ratio=0.99), "masks none or all"),
    ("masked_pixels", dict(masked_pixels__target_norm_window=65), "from 63 on"),
    ("masked_pixels", dict(model__extra_norm_every=2), "no stage has as many blocks"),
    ("masked_pixels", dict(model__mlp_ratio=0.06), "no hidden unit"),
    ("masked_pixels", dict(data__image_size=(32768, 32768)), "1,073,741,824 pixels"),
    (
      "masked_pixels",
      dict(model__window_sizes=(200, 4), model__clamp_windows=False),
      "stage 0 has windows of 200 × 200 tokens .* at most 10,000",
    ),
    ("masked_pixels", dict(mesh__data=-1), "mesh.data and config.mesh.fsdp are -1"),
    ("classification", dict(augment__crop_padding=32, augment__eval_crop_fraction=1.0), "crops hold nothing"),
  ],
  ids=str,
)
def test_a_contradiction_names_its_keys(task, changes, message):
  config = tiny_config(task)
  for key, value in changes.items():
    group, name = key.split("__")
    config[group][name] = value
  with pytest.raises(BadInput, match=message):
    checked(config, examples=1437 if config.data.batch_size > 1 else 10**4)


def test_a_single_class_is_nothing_to_learn():
  with pytest.raises(BadInput, match="one class, ink, so there is nothing to learn for task=classification"):
    checked(tiny_config("classification"), classes=("ink",))


def test_without_a_rate_all_rates_are_zero():
  """The control run of an experiment: nothing is trained, whatever the rates at the ends of the schedule."""
  config, *steps = checked(tiny.config(optim__lr=0.0))
  rate, peak = run_config.learning_rate(config, *steps)
  assert config.optim.min_lr > 0 and config.optim.warmup_lr > 0
  assert [float(rate(step, peak)) for step in (0, 3, 10, 20)] == [0.0] * 4


# Values that were given to runs one by one: a value of the list → a word of the refusal, or why it is meant.

FINE_TUNING = "--config.init_from= ;; "
OF_PIXELS = FINE_TUNING + (
  "task=segmentation ;; segmentation.channels=32 ;; dense.photometric=False ;; dense.sides=(32,32) ;; "
)
REFUSED = {
  FINE_TUNING: """
    classification.cutmix_alpha=-1.0 | must be 0, or at least
    classification.erase_probability=-1.0 | must be at least 0
    classification.erase_probability=2.0 | at most 1
    classification.erase_probability=nan | at most 1
    classification.label_smoothing=-0.1 | at least 0
    classification.label_smoothing=1.0 | at most 0.99
    classification.label_smoothing=nan | at most 0.99
    classification.mixup_alpha=-1.0 | must be 0, or at least
    classification.mixup_alpha=inf | must be 0, or at least
    classification.mixup_alpha=nan | must be 0, or at least
    classification.num_classes=-1 | must be at least 0
    classification.num_classes=1000000000 | at most 1,000,000
    classification.num_classes=3 | the data has labels up to 9
    task=pixel_regression | value_std = 0 means the statistics.json
    task=pixel_regression ;; pixel_regression.value_std=nan ;; dense.photometric=False | value_std = nan
    task=segmentation | photometric distortion needs uint8 RGB
    task=segmentation ;; segmentation.channels=32 ;; dense.photometric=False ;; dense.sides=(0,0) | at least 1
    task=segmentation ;; segmentation.channels=33 | multiple of 16
  """,
  OF_PIXELS: """
    augment.crop_padding=4 | task=segmentation does not read it
    dense.eval_canvas=() | must have 2 entries, not 0
    dense.eval_canvas=(32,) | must have 2 entries, not 1
    dense.scale_range=(1.0,1e9) | entry 1 must be at least 0.1 and at most 10
    dense.scale_range=(1.0,inf) | dense.scale_range
    dense.scale_range=(nan,1.0) | dense.scale_range
    dense.scales=() | must have 1 to 32 entries, not 0
    dense.scales=(0.001,) | at least 0.1
    dense.scales=(inf,) | must be numbers separated by commas
    dense.scales=(nan,) | must be numbers separated by commas
    dense.window=(1,1) | at least 4, the backbone's patch
    segmentation.num_classes=1 | the data has labels up to 9
  """,
  "": """
    mask.patch_size=-8 | at least 1
    mask.patch_size=0 | at least 1
    mask.patch_size=32 | masks none or all
    mask.patch_size=5 | must divide data.image_size
    mask.ratio=-1.0 | more than 0
    mask.ratio=0.0 | more than 0
    mask.ratio=1.0 | less than 1
    mask.ratio=2.0 | less than 1
    mask.ratio=nan | less than 1
    masked_pixels.target_norm_window=-1 | at least 0
    masked_pixels.target_norm_window=2 | must be odd
    masked_pixels.target_norm_window=999 | from 63 on
    model.attention_chunks=(-1,1) | entry 0 must be at least 1
    model.attention_chunks=(0,0) | entry 0 must be at least 1
    model.attention_chunks=(7,7) | they divide neither
    model.attention_kernel=foo | choose one of 'auto'
    model.depths=() | must have 1 to 8 entries, not 0
    model.depths=(-1,2) | entry 0 must be at least 1
    model.depths=(0,2) | entry 0 must be at least 1
    model.depths=(2,4,2) | needs one entry for each of the 3 stages
    model.depths=abc | must be integers separated by commas
    model.drop_path_rate=-1.0 | at least 0
    model.drop_path_rate=1.0 | at most 0.99
    model.drop_path_rate=5.0 | at most 0.99
    model.drop_path_rate=nan | at most 0.99
    model.dtype=float64 | choose one of 'bfloat16'
    model.embed_dim=-16 | at least 1
    model.embed_dim=0 | at least 1
    model.embed_dim=1000000 | at most 16,384
    model.embed_dim=15 | does not divide the 15 channels
    model.extra_norm_every=-1 | at least 0
    model.extra_norm_every=100 | no stage has as many blocks
    model.mlp_ratio=-1.0 | more than 0
    model.mlp_ratio=0.0 | more than 0
    model.mlp_ratio=0.001 | no hidden unit
    model.mlp_ratio=nan | more than 0
    model.num_heads=() | must have 1 to 8 entries, not 0
    model.num_heads=(-2,4) | entry 0 must be at least 1
    model.num_heads=(0,1) | entry 0 must be at least 1
    model.patch_size=-4 | at least 1
    model.patch_size=0 | at least 1
    model.patch_size=3 | mask.patch_size = 8 must divide data.image_size
    model.patch_size=64 | must be at least model.patch_size = 64
    model.remat=foo | choose one of none, block
    model.remat=save: | choose one of none, block
    model.remat=save:foo | choose one of none, block
    model.trained_window_sizes=(0,4) | entry 0 must be at least 1
    model.unroll=maybe | must be True or False
    model.version=3 | choose one of 1, 2
    model.window_sizes=((4,),4) | must have 2 or 3 entries, not 1
    model.window_sizes=((4,2,3),4) | one number for each of the 2 axes
    model.window_sizes=(-4,4) | entry 0 must be at least 1
    model.window_sizes=(0,4) | entry 0 must be at least 1
    model.window_sizes=(4,) | needs one entry for each of the 2 stages
    model.window_sizes=(a,b) | must be integers separated by commas
    optim.accumulation_steps=0 | at least 1
    optim.accumulation_steps=3 | does not divide into optim.accumulation_steps
    optim.b1=-0.5 | at least 0
    optim.b1=1.0 | at most 0.999999
    optim.b1=2.0 | at most 0.999999
    optim.b1=nan | at most 0.999999
    optim.b2=-1.0 | at least 0
    optim.b2=1.0 | at most 0.999999
    optim.b2=1.5 | at most 0.999999
    optim.clip_norm=-1.0 | must be 0, or at least
    optim.clip_norm=nan | must be 0, or at least
    optim.decay_rate=-1.0 | more than 0
    optim.decay_rate=5.0 | at most 1
    optim.decay_rate=nan | at most 1
    optim.ema_decay=-0.1 | at least 0
    optim.ema_decay=1.0 | at most 0.999999
    optim.ema_decay=nan | at most 0.999999
    optim.eps=-1.0 | at least 1e-30
    optim.eps=0.0 | at least 1e-30
    optim.eps=nan | at least 1e-30
    optim.layer_decay=0.0 | at least 0.01
    optim.layer_decay=2.0 | at most 1
    optim.layer_decay=nan | at most 1
    optim.lr= | needs a number
    optim.lr=-1.0 | at least 0
    optim.lr=1e30 | at most 100
    optim.lr=abc | must be a number
    optim.lr=inf | at most 100
    optim.lr=nan | at most 100
    optim.min_lr=-1.0 | at least 0
    optim.min_lr=1.0 | must not be more than optim.lr
    optim.schedule=foo | choose one of 'cosine'
    optim.schedule=multistep ;; optim.milestone_epochs=(-1.0,) | entry 0 must be more than 0
    optim.schedule=multistep ;; optim.milestone_epochs=(1e9,) | at most 1e+06
    optim.schedule=multistep ;; optim.milestone_epochs=(50.0,10.0) | ascending order
    optim.schedule=multistep ;; optim.milestone_epochs=(nan,) | entry 0 must be a number
    optim.schedule=step | needs optim.milestone_epochs
    optim.schedule=step ;; optim.milestone_epochs=(-1.0,) | entry 0 must be more than 0
    optim.schedule=step ;; optim.milestone_epochs=(0.0,) | entry 0 must be more than 0
    optim.schedule=step ;; optim.milestone_epochs=(10.0,20.0) | 'step' has one number
    optim.skip_nonfinite_steps=-1 | at least 0
    optim.total_epochs=-1.0 | more than 0
    optim.total_epochs=0.0 | more than 0
    optim.total_epochs=0.0 ;; optim.warmup_epochs=0.0 | more than 0
    optim.total_epochs=1e12 | at most 1e+06
    optim.total_epochs=1e300 | at most 1e+06
    optim.total_epochs=inf | at most 1e+06
    optim.total_epochs=nan | at most 1e+06
    optim.warmup_epochs=-1.0 | at least 0
    optim.warmup_epochs=1000.0 | must not be more than optim.total_epochs
    optim.warmup_epochs=nan | at least 0
    optim.warmup_lr=-1.0 | at least 0
    optim.warmup_lr=nan | at least 0
    optim.weight_decay=-1.0 | at least 0
    optim.weight_decay=100.0 | at most 10
    optim.weight_decay=nan | at most 10
  """,
}
LEGITIMATE = {
  "--config.init_from=": "from scratch",
  FINE_TUNING
  + "classification.cutmix_alpha=1.0 ;; data.batch_size=127": "the middle image mixes with itself",
  FINE_TUNING + "optim.layer_decay=0.5 ;; model.version=1 ;; model.window_sizes=(64,64)": "one window a map",
  OF_PIXELS + "dense.window=(1000,1000)": "a window is at most as large as the image",
  "mask.ratio=0.001": "rounded up: one cell is masked",
  "model.depths=(2,1)": "a stage may end without a shifted block",
  "model.window_sizes=(1000,4)": "a window is at most as large as its map",
  "optim.accumulation_steps=128": "one image at a time",
  "optim.lr=0.0": "a control run",
  "seed=0": "the default",
}
REFUSED = [
  (prefix + line.partition(" | ")[0].strip(), line.partition(" | ")[2])
  for prefix, table in REFUSED.items()
  for line in table.strip().splitlines()
]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
  """A small pre-training (or, as `:finetune`, fine-tuning) as a config file, for flags."""
  file = tmp_path_factory.mktemp("config") / "small.py"
  file.write_text(
    "from tests.support import tiny\n"
    "def get_config(kind):\n"
    "  return tiny.config(kind, data__batch_size=128, optim__total_epochs=80.0)\n"
  )
  return file


def parsed(config_file, line):
  """Returns the config that a line of the list gives, with the flags that it sets checked."""
  words = [word if word.startswith("--") else f"--config.{word}" for word in line.split(" ;; ")]
  kind = "finetune" if line.startswith("--config.init_from=") else "pretrain"
  argv = [f"--config={config_file}:{kind}", "--workdir=w", *words]
  config = main._parser().parse_args(argv).config
  reads.check_flags(config, cli.given_keys(argv))
  return config


@pytest.mark.parametrize("line, word", REFUSED)
def test_a_wrong_value_is_refused_in_one_line(config_file, line, word):
  with pytest.raises(BadInput) as error:
    checked(parsed(config_file, line))
  assert word in str(error.value) and "\n" not in str(error.value), str(error.value)


@pytest.mark.parametrize("key", ["b1", "b2", "ema_decay"])
def test_decays_that_are_one_in_float32_are_refused(config_file, key):
  with pytest.raises(BadInput, match=f"config.optim.{key} = 0.99999999: .* at most 0.999999"):
    checked(parsed(config_file, f"optim.{key}=0.99999999"))


@pytest.mark.parametrize("line", LEGITIMATE)
def test_a_legitimate_value_passes(config_file, line):
  config, *steps = checked(parsed(config_file, line))
  if config.model.trained_window_sizes == ():
    config.model.trained_window_sizes = config.model.window_sizes
  build_abstractly(config, *steps, with_step="window" in line)


@pytest.mark.skipif(not FAULTS.exists(), reason="the list lies next to the checkout")
def test_every_line_of_the_list_has_a_verdict():
  lines = (FAULTS / "wrong_config_values.txt").read_text().splitlines()
  assert sorted(lines) == sorted([line for line, _ in REFUSED] + list(LEGITIMATE))
  assert len(LEGITIMATE) <= 40


# Values around the limits of the table, drawn at random.

SEED, DRAWS = 0, 300
WRONG = (None, True, "foo", "", (), (1,), ("a", "b"), ((1, 2), 3), {}, b"x", [1.5], 10**40, -(10**40), 2**63)
FLOATS = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 0.0, -0.0, -1.0)


def value_near(rule, draw):
  """Returns a value at, inside or just outside the limits of a rule, or of another type."""
  if isinstance(rule, rules.Items):
    counts = list(rule.counts)
    count = draw.choice([counts[0], counts[-1], min(counts[-1], 2), counts[-1] + 1])
    entry = value_near(rule.each, draw)
    same = [entry] * min(count, 9)
    return draw.choice([tuple(same), same, tuple(same[:-1]), entry, draw.choice(WRONG)])
  if isinstance(rule, rules.Either):
    return value_near(draw.choice(rule.rules), draw)
  if isinstance(rule, rules.Real):
    low, high, whole = rule.low, rule.high, isinstance(rule, rules.Whole)
    near = [low, high, low - 1, high + 1, 0, -1, 1, 2, 3]
    near += [high // 2, float(high)] if whole else [math.nextafter(low, -1e9), math.nextafter(high, 1e99)]
    near += [] if whole else [math.nextafter(low, 1e9), math.nextafter(high, -1e99), (low + high) / 2]
    return draw.choice([*near, *near, *FLOATS, draw.choice(WRONG)])
  if isinstance(rule, rules.Choice):
    return draw.choice([*rule.allowed, *rule.allowed, draw.choice(WRONG)])
  if isinstance(rule, rules.Text):
    return draw.choice(["", "a", "a\nb", "\0", "x" * 5000, "日本", *WRONG])
  return draw.choice(["none", "block", "save:qkv", (("batch", "data"),), (("batch",),), *WRONG])


def drawn_configs(seed, count):
  """Yields (key, value, config of a random task with this value)."""
  draw = random.Random(seed)
  for _ in range(count):
    config = tiny_config(draw.choice(list(TASKS)))
    key, rule = draw.choice(list(checks.table(config).items()))
    value = value_near(rule, draw)
    with config.unlocked(), config.ignore_type():
      *groups, name = key.split(".")
      group = config[groups[0]] if groups else config
      group[name] = value
    yield key, value, config


def test_a_drawn_value_is_refused_in_one_line_or_can_be_built():
  passed = []
  for key, value, config in drawn_configs(SEED, DRAWS):
    try:
      passed.append((key, value, *checked(config)))
    except BadInput as error:
      assert "\n" not in str(error) and len(str(error)) < 1000, (key, value)
  assert DRAWS / 6 < len(passed) < DRAWS / 2
  for key, value, config, *steps in passed[:: len(passed) // 25]:
    try:
      build_abstractly(config, *steps, with_step=False)
    except BadInput as error:  # of the devices
      assert key.startswith(("mesh", "sharding_rules", "model.attention_kernel")), (key, value, error)


@pytest.mark.parametrize(
  "read", [run_config.with_statistics, lambda config: reads.check_flags(config, ["optim.lr"])]
)
def test_values_are_checked_before_anything_else_reads_the_config(read):
  config = tiny_config("masked_pixels")
  with config.unlocked(), config.ignore_type():
    config.data.mean = 0.5
    del config.model["backbone"]
  with pytest.raises(BadInput, match="config.model.backbone is missing"):
    read(config)
  with config.unlocked():
    config.model.backbone = "swin"
  with pytest.raises(BadInput, match=r"config.data.mean = 0.5: must be a tuple"):
    read(config)
