"""--help_config prints every key with its value and the comment at its definition."""

import ast

import pytest

from configs import common
from swin_jax.terminal import cli, config_help, config_keys


def paragraphs(*words):
  """Returns what --help_config prints, as key → (value, what stands behind it, meaning)."""
  keys = {}
  for block in "\n".join(config_help.lines(cli.ConfigParser().parse_args(words).config)).split("\n\n"):
    flags = [line for line in block.splitlines() if line.startswith("--config.")]
    meaning = " ".join(line.strip() for line in block.splitlines() if line.startswith("    "))
    for flag in flags:
      name, _, rest = flag.removeprefix("--config.").partition("=")
      value, _, changed = rest.partition("   ")
      assert name not in keys, f"{name} is there twice"
      keys[name] = (ast.literal_eval(value), changed, meaning)
  return keys


@pytest.fixture(name="quickstart", scope="module")
def _quickstart():
  return paragraphs("--config=quickstart:finetune", "--config.optim.b2=0.95")


def test_every_key_has_a_meaning(quickstart):
  assert quickstart.keys() == config_keys.values(common.base()).keys()
  assert not [name for name, (_, _, meaning) in quickstart.items() if not meaning]


@pytest.mark.parametrize(
  "name, beginning, end",
  [
    ("seed", "random seed of parameters", "drop path"),
    ("init_from", "Workdir of a run", "from scratch"),  # two lines above the key
    ("model.depths", "Width of the first stage", "no extra norms"),  # from the table of sizes
    ("optim.lr", "The three learning rates are per 512 images", "control run"),  # above, and behind
    ("optim.eps", "b1, b2 and eps of Adam", "of Adam"),  # of the key before
    ("mesh.model", "Devices per mesh axis", "remaining devices"),  # of the group
    ("data.class_names", "Names by label", "other programs"),
    ("profile.num_steps", "number of steps to profile", "no profile"),
  ],
)
def test_the_meaning_is_the_comment_at_the_key(quickstart, name, beginning, end):
  meaning = quickstart[name][2]
  assert meaning.startswith(beginning) and meaning.endswith(end)


def test_values_are_those_of_the_run_and_name_the_default_they_replace(quickstart):
  assert quickstart["optim.b2"][:2] == (0.95, "(default: 0.999)")
  assert quickstart["data.image_size"][:2] == ((32, 32), "(default: (256, 256))")
  assert quickstart["model.patch_size"][:2] == (4, "")


def test_it_ends_the_command_and_needs_neither_config_nor_workdir(capsys):
  parser = cli.ConfigParser(prog="command")
  with pytest.raises(SystemExit) as ended:
    parser.parse_args(["--help_config"])
  assert not ended.value.code
  printed = capsys.readouterr().out
  assert '--config.task=\'classification\'\n    "classification", "masked_pixels"' in printed
  assert "(default:" not in printed and "\n\n# optim\n\n--config.optim.total_epochs" in printed
