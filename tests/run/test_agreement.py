"""Processes that disagree are refused: what differs is named, and between which."""

import json
import types

import numpy as np
import pytest

from configs import quickstart
from swin_jax.data.read import manifest
from swin_jax.data.read.example import Example
from swin_jax.run import agreement
from swin_jax.terminal.errors import BadInput
from tests.support.opened import open_source


@pytest.fixture(name="processes")
def _processes(monkeypatch):
  """Lets `_check` run as in the first of several processes; the test fills the list of the others."""
  others = []

  def gather(text):
    return [text, *(each(text) if callable(each) else each for each in others)]

  monkeypatch.setattr(agreement.jax, "process_count", lambda: 1 + len(others))
  monkeypatch.setattr(agreement.distributed, "gather", gather)
  return others


def values_of(describe):
  return json.dumps({name: str(value) for name, value in describe.items()}, sort_keys=True)


def other(describe):
  """Returns what another process gathers, first the digest and then the values."""
  answers = iter(["another digest", values_of(describe)])
  return lambda _: next(answers)


def test_equal_processes_exchange_a_digest_only(processes):
  asked = []
  processes += [lambda text: asked.append(text) or text] * 2
  agreement.check_config(quickstart.get_config("pretrain"))
  agreement.check_program()
  assert [len(text) for text in asked] == [64] * 4


def test_another_rate_is_named(processes):
  config, second = quickstart.get_config("pretrain"), quickstart.get_config("pretrain")
  second.optim.lr = 0.5
  processes += [other(agreement._keys(config)), other(agreement._keys(second))]
  with pytest.raises(BadInput) as error:
    agreement.check_config(config)
  assert str(error.value) == (
    f"config.optim.lr differs between the processes: {config.optim.lr} in processes 0, 1 but 0.5 in process"
    " 2; give all processes the same config and flags"
  )


def test_processes_may_read_at_another_speed_and_from_another_folder():
  config, second = quickstart.get_config("pretrain"), quickstart.get_config("pretrain")
  second.data.num_threads, second.data.num_workers = 7, 3
  second.data.path = "data/of_this_host"
  assert agreement._keys(config) == agreement._keys(second)


def test_another_version_of_the_code_is_named(tmp_path, monkeypatch):
  here = agreement._program()
  (tmp_path / "a.py").write_text("1")
  monkeypatch.setattr(agreement, "CODE", tmp_path)
  digests = []
  for text in "1", "2", "2":
    (tmp_path / "a.py").write_text(text)
    agreement._digest_of_code.cache_clear()
    digests.append(agreement._program()["the code of swin_jax (a digest)"])
  agreement._digest_of_code.cache_clear()
  assert digests[0] != digests[1] == digests[2] != here["the code of swin_jax (a digest)"]
  text = agreement.difference([here, here | {"the version of jax": "0"}])
  assert text.startswith("the version of jax differs between the processes: ")
  assert text.endswith(f"{agreement.jax.__version__} in process 0 but 0 in process 1")


class Numbers:
  """A set of examples whose images are numbers."""

  listing, num_classes, class_names = b"", 2, ("a", "b")

  def __init__(self, values):
    self._values = values

  def __len__(self):
    return len(self._values)

  def __getitem__(self, index):
    if self._values[index] is None:
      raise ValueError("damaged")
    return Example(np.float32(self._values[index]), 0, "name")


def about(train, path=""):
  return agreement._describe(types.SimpleNamespace(train_source=train, eval_source=Numbers([1])), path)


@pytest.mark.parametrize(
  "values, named",
  [
    ([1, 2, 3, 4], "the number of training examples"),
    ([1, 2, 4], "the content of the training data"),
    ([1, None, 3], "the content of the training data"),
  ],
)
def test_another_set_is_named(values, named):
  text = agreement.difference([about(Numbers([1, 2, 3])), about(Numbers(values))])
  assert named in text and text.count("differs between the processes") == 1


def test_a_set_with_other_checksums_is_named(tmp_path):
  digests = []
  for text in ("{}", "{} "):
    (tmp_path / manifest.NAME).write_text(text)
    digests.append(about(Numbers([1, 2, 3]), str(tmp_path)))
  assert agreement.difference(digests).startswith("manifest.json (a digest) differs")


def test_a_set_agrees_with_itself():
  source = open_source("digits", "", "train")
  assert about(source) == about(source) and not agreement.difference([about(source)] * 3)


def test_many_processes_and_differences_make_one_short_line():
  processes = [{"a": "x" * 100, "b": str(i), "c": str(i), "d": str(i), "e": str(i)} for i in range(20)]
  processes[3] = processes[3] | {"a": "y"}
  text = agreement.difference(processes)
  assert text == (
    f"a differs between the processes: {'x' * 60}… in processes 0, 1, 2, 4, 5 and 14 more but y in process 3,"
    " and so do b, c, d …"
  )
