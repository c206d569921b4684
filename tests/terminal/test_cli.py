"""Command lines: what is refused and with which message, and several command lines parsed by one process."""

import os
import re
import subprocess
import sys

import pytest

from swin_jax import main
from swin_jax.terminal import cli, rules
from swin_jax.terminal.errors import BadInput
from tests.support.paths import ROOT

QUICKSTART = "--config=configs/quickstart.py"


def parser():
  parser = cli.ConfigParser(prog="command")
  parser.add_argument("--workdir")
  parser.add_argument("--quality", type=cli.number(rules.Whole(1, 95)), default=90)
  parser.add_argument("--share", type=cli.number(rules.Real(0, 1)), default=0.0)
  return parser


def parse(*words):
  return parser().parse_args(words)


def test_one_process_parses_several_command_lines():
  """Keys and values of one command line do not affect the next."""
  first = parse(
    f"{QUICKSTART}:finetune", "--config.optim.lr=0.5", "--config.model.depths=(1,)", "--quality=7"
  )
  again = parse(QUICKSTART, "--workdir", "w", "--config.data.batch_size", "3")
  assert (first.config.task, again.config.task) == ("classification", "masked_pixels")
  assert (first.config.optim.lr, first.config.model.depths, first.quality) == (0.5, (1,), 7)
  assert again.config.optim.lr != 0.5 and again.config.model.depths != (1,) and again.quality == 90
  assert (again.config.data.batch_size, again.workdir, first.workdir) == (3, "w", None)
  with pytest.raises(AttributeError):
    again.config.optim.lrr = 1.0  # locked


@pytest.mark.parametrize(
  "words",
  [
    ("--config.model.unroll=false", QUICKSTART),  # given before the file
    (QUICKSTART, "--config.model.unroll=0"),
    (QUICKSTART, "--noconfig.model.unroll"),
    ("--config", "configs/quickstart.py", "--config.model.unroll=False", "--share=1"),
  ],
)
def test_spellings_of_a_key(words):
  assert parse(QUICKSTART).config.model.unroll is True
  assert parse(*words).config.model.unroll is False


def test_keys_that_a_command_line_sets():
  words = ["main", QUICKSTART, "--workdir=x", "--config.optim.lr=1", "--noconfig.model.unroll"]
  words += ["-config.data.path", "config.mesh.data=2", "--config.optim.lr=2"]
  assert cli.given_keys(words) == ["optim.lr", "model.unroll", "data.path"]


@pytest.mark.parametrize(
  "words, message",
  [
    ((), "--config is missing; for example --config=quickstart:pretrain"),
    (("--confg=x",), "--confg is unknown; did you mean --config?"),
    ((QUICKSTART, "--workdirr=x"), "--workdirr is unknown; did you mean --workdir?"),
    ((QUICKSTART, "--xyz=1"), "--xyz is unknown; --help lists all flags"),
    ((QUICKSTART, "stray", "--workdir=x"), "'stray' is not a flag; flags are written --name=value"),
    ((QUICKSTART, "--quality=96"), "--quality: '96' must be at least 1 and at most 95; command --help"),
    ((QUICKSTART, "--quality=9.5"), "--quality: '9.5' must be an integer"),
    ((QUICKSTART, "--share=-1"), "--share: '-1' must be at least 0 and at most 1"),
    ((QUICKSTART, "--share=inf"), "--share: 'inf' must be at least 0 and at most 1"),
    ((QUICKSTART, "--share=nan"), "--share: 'nan' must be at least 0 and at most 1"),
    ((QUICKSTART, "--config.optim.lrr=1"), "no config key config.optim.lrr; did you mean config.optim.lr?"),
    ((QUICKSTART, "--config.optimizer.lr=1"), "config.optimizer.lr; did you mean config.optim.lr?"),
    ((QUICKSTART, "--config.optim.batch_size=1"), "did you mean config.data.batch_size?"),
    ((QUICKSTART, "--config.data.mask_ratio=1"), "did you mean config.mask.ratio?"),
    ((QUICKSTART, "--config.epochs=1"), "did you mean config.optim.total_epochs?"),
    ((QUICKSTART, "--config.data.image_sizes[0]=1"), "did you mean config.data.image_size?"),
    ((QUICKSTART, "--config.optim.learning_rate=1"), "optim.learning_rate; --help_config lists all keys"),
    ((QUICKSTART, "--config.optim.lr.x=1"), "config.optim.lr"),
    ((QUICKSTART, "--config.=1"), "no config key config.; --help_config lists all keys"),
    (
      (QUICKSTART, "--config.model.depths=(1,)", "--config.model.depths=(2,)"),
      "--config.model.depths=(1,) and --config.model.depths=(2,) set the same key; give it once",
    ),
    (
      (QUICKSTART, "--config.optim.lr=1", "--config.optim.lr", "2"),
      "--config.optim.lr=1 and --config.optim.lr=2 set the same key; give it once",
    ),
    (
      (QUICKSTART, "--config.model.unroll", "--noconfig.model.unroll"),
      "--config.model.unroll and --noconfig.model.unroll set the same key; give it once",
    ),
    ((QUICKSTART, "--quality=90", "--quality", "7"), "--quality is given twice, 90 and 7; give it once"),
    (
      (QUICKSTART, QUICKSTART),
      "--config is given twice, 'configs/quickstart.py' and 'configs/quickstart.py'",
    ),
    (("--workdir=a", "--workdir=b", QUICKSTART), "--workdir is given twice, 'a' and 'b'; give it once"),
    ((QUICKSTART, "--flagfile=/etc/passwd"), "--flagfile is unknown"),
    ((QUICKSTART, "--undefok=workdirr", "--workdirr=x"), "--undefok is unknown"),
    (
      ("--config=nowhere.py:kind", "--config.optim.lr=1"),
      "--config=nowhere.py: no such file or config; --help lists",
    ),
    (("--config=configs/quickstrat.py:finetune",), "did you mean --config=quickstart:finetune?"),
    (("--config=own_image",), "did you mean --config=own_images?"),
    (("--config=common",), "--config=common: no such file or config"),
    (("--config=configs",), "--config=configs: not a file"),
    (("--config=/dev/zero",), "--config=/dev/zero: not a file"),
    (("--config=/etc/passwd",), "--config=/etc/passwd: SyntaxError: invalid syntax (line 1)"),
    (("--config=configs/common.py",), "has no function get_config"),
    ((f"{QUICKSTART}:pretrian",), ":pretrain, :finetune"),
  ],
)
def test_a_mistake_is_one_line(words, message):
  with pytest.raises(BadInput) as error:
    parse(*words)
  assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  "words, message",
  [
    ("optim=1", "config.optim is a group and has no value of its own; set one of its keys, as in"),
    ("model=3", "they are attention_chunks, "),
    ("data=", "they are batch_size, "),
    ("optim[0]=3", "config.optim is a group"),
    ("optim.lr=fast", "must be a number, as in --config.optim.lr=0.008"),
    ("optim.lr=", "has no value and needs a number, as in --config.optim.lr=0.008"),
    ("data.batch_size=1.5", "must be an integer, as in --config.data.batch_size=128"),
    ("data.batch_size=", "has no value and needs an integer, as in --config.data.batch_size=128"),
    ("data.batch_size", "has no value and needs an integer"),
    ("data.path", "has no value and needs a value"),
    ("data.image_size=64,x", "must be integers separated by commas, as in --config.data.image_size=32,32"),
    ("data.image_size=", "has no value and needs integers separated by commas"),
    ("model.depths[1]=3", "config.model.depths is set as a whole, as in --config.model.depths=2,4"),
    ("optim.lr[0]=3", "config.optim.lr is set as a whole, as in --config.optim.lr=0.008"),
    ("data.mean=a,b", "must be numbers separated by commas"),
    ("model.depths=(1,", "must be integers separated by commas, as in --config.model.depths=2,4"),
    ("model.unroll=maybe", "must be True or False, as in --config.model.unroll=True"),
    (
      "optim.milestone_epochs=",
      "needs one or more entries separated by commas, as in --config.optim.milestone_epochs=()",
    ),
  ],
)
def test_a_value_of_another_type_is_refused_with_an_example(words, message):
  """The line begins with the flag, and says which type is needed or which keys there are."""
  for rest in ((), ("--config.seed=1",)):
    with pytest.raises(BadInput) as error:
      parse(QUICKSTART, f"--config.{words}", *rest)
    assert str(error.value).startswith(f"--config.{words}: ")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_only_keys_that_are_true_or_false_are_negated():
  with pytest.raises(BadInput, match=r"^--noconfig.optim.lr: must be a number; only keys that are True or"):
    parse(QUICKSTART, "--noconfig.optim.lr")


@pytest.mark.parametrize(
  "words, value",
  [
    ("data.batch_size=0x10", 16),
    ("data.image_size=(64,)", (64,)),
    ("data.image_size=64,64,", (64, 64)),
    ("data.path=", ""),
    ("model.patch_size=4,4", (4, 4)),  # an integer in the file
    ("mesh.data=-1", -1),
    ("optim.lr=1", 1.0),
    ("optim.milestone_epochs=()", ()),
    ("optim.milestone_epochs=3,4.5", (3, 4.5)),
  ],
)
def test_a_value_of_the_type_of_a_key_is_taken(words, value):
  config = parse(QUICKSTART, f"--config.{words}").config
  group, name = words.partition("=")[0].partition("[")[0].split(".")
  assert config[group][name] == value


@pytest.mark.parametrize(
  "text, message",
  [
    ("def get_config(:", "SyntaxError: invalid syntax (line 1)"),
    ("\0", "SyntaxError: source code string cannot contain null bytes"),
    ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (line 1)"),
    ("def get_config():\n  raise RuntimeError('one\\ntwo')", "RuntimeError: one two (line 2)"),
    ("def get_config():\n  raise SystemExit(3)", "SystemExit: 3 (line 2)"),
    ("def get_config():\n  open('/no/such/file')", "FileNotFoundError"),
    ("def get_config(a, b):\n  pass", "TypeError: get_config() missing 2 required positional arguments"),
    ("def get_config():\n  return dict(task=3)", "get_config returns dict, not a config"),
    ("def get_config():\n  raise ValueError('a whole sentence')", ": a whole sentence (line 2)"),
    (
      "from ml_collections import ConfigDict, config_dict\n"
      "def get_config():\n  return ConfigDict(dict(seed=config_dict.required_placeholder(int)))",
      "RequiredValueError",
    ),
    (
      "from configs import common\ndef get_config():\n  c = common.base()\n  c.optim.lrr = 1.0",
      'cannot be added since the config is locked. Did you mean "lr" instead of "lrr"?',
    ),
  ],
)
def test_a_mistake_in_a_config_file_is_one_line_with_its_place(tmp_path, text, message):
  file = tmp_path / "config.py"
  file.write_text(text)
  with pytest.raises(BadInput) as error:
    parse(f"--config={file}")
  assert message in str(error.value) and str(error.value).startswith(f"--config={file}")
  assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
  "change, key",
  [
    ("del c.optim.lr", "optim.lr"),
    ("del c.optim", "optim"),
    ("del c.task", "task"),
    ("del c.model", "model.backbone"),
    ("del c.optim; c.optim = 3", "optim"),
  ],
)
def test_a_config_without_a_key_of_the_base_is_one_line(tmp_path, capsys, change, key):
  file = tmp_path / "config.py"
  file.write_text(
    "from ml_collections import ConfigDict\n"
    "from configs import common\n"
    "def get_config():\n"
    "  c = ConfigDict(common.base().to_dict())\n"
    f"  {change}\n"
    "  return c\n"
  )
  assert main.main(["main", f"--config={file}", f"--workdir={tmp_path / 'run'}"]) == 2
  printed = capsys.readouterr().err
  assert printed.startswith(f"swin_jax: config.{key}") and " is missing: " in printed
  assert printed.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_flag_of_a_subcommand_is_given_once_in_each_command_line():
  parser = cli.Parser(prog="command")
  command = parser.add_subparsers().add_parser("draw", parents=[_common()])
  command.add_argument("--size", type=cli.sizes((1, 2)))
  command.add_argument("--at", action="append")
  for _ in range(2):  # the parser forgets the first command line
    assert parser.parse_args(["draw", "x", "--size=3,4", "--at=1", "--at=2", "--out=y"]).at == ["1", "2"]
  for words, values in (("--size=3,4 --size=5", "[3, 4] and 5"), ("--out=a --size=1 --out=a", "'a' and 'a'")):
    flag = words.partition("=")[0]
    with pytest.raises(BadInput, match=f"^{flag} is given twice, {re.escape(values)}; give it once$"):
      parser.parse_args(["draw", "x", *words.split()])


def _common():
  parser = cli.Parser(add_help=False)
  parser.add_argument("image")
  parser.add_argument("--out")
  return parser


def test_a_command_called_again_starts_anew(capsys, tmp_path):
  for words, message in (
    (("--config=nowhere.py", "--workdir=w"), "no such file"),
    ((QUICKSTART,), "--workdir is missing; for example --workdir=runs/my_run"),
    (
      (QUICKSTART, f"--workdir={tmp_path}", "--mode=eval"),
      "holds no checkpoint",
    ),
    (
      (QUICKSTART, f"--workdir={tmp_path}", "--config.data.num_threads=0"),
      "config.data.num_threads = 0: must be at least 1",
    ),
  ):
    assert main.main(["main", *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.startswith("swin_jax: ") and printed.count("\n") == 1


def test_help_needs_neither_jax_nor_numpy():
  code = """
import sys
from swin_jax import main
try:
  main.main(["main", "--help"])
except SystemExit as end:
  sys.exit(end.code or any(name in sys.modules for name in ("jax", "numpy")))
"""
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "Trains, evaluates or applies the model that a config describes." in done.stdout
  for flag in ("--config", "--workdir", "--mode", "--coordinator", "--num_processes", "--process_id"):
    assert f"\n  {flag} " in done.stdout


@pytest.mark.parametrize("code", [0, 2])
def test_an_output_that_cannot_be_written_does_not_change_the_exit_code(code):
  """Otherwise the interpreter's shutdown complains about it, with another code."""
  command = f"from swin_jax.terminal import cli; print('x', end=''); cli.leave({code})"
  environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
  with open("/dev/full", "w") as full:
    ended = subprocess.run(
      [sys.executable, "-c", command],
      cwd=ROOT,
      env=environment,
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert (ended.returncode, ended.stderr) == (code, "")


@pytest.mark.parametrize("name", ["x" * 300, "loop", "file/x"])
def test_a_path_that_cannot_be_used_is_one_line(name, tmp_path, capfd):
  (tmp_path / "loop").symlink_to("loop")
  (tmp_path / "file").touch()
  assert cli.exit_code(lambda: os.stat(tmp_path / name)) == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "cannot be used" in error and len(error) < 400


@pytest.mark.parametrize(
  "flag", ["num_processes=99999999999999999999", "num_processes=-1", "process_id=65536"]
)
def test_numbers_of_processes_are_bounded(flag, capfd):
  """Memory is taken for each process that is announced."""
  words = [QUICKSTART, "--workdir=x", "--coordinator=localhost:1", "--num_processes=2", "--process_id=0"]
  assert main.main(["main", *words, f"--{flag}"]) == 2
  assert "must be at least" in capfd.readouterr().err
