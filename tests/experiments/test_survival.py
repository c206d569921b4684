"""A few of the kills of the study: what is killed leaves nothing, and the next run completes it."""

import random

import pytest

from experiments.survival import kills

pytestmark = pytest.mark.slow


def test_prepare_is_killed_in_several_ways(tmp_path):
  commands = kills.Commands(tmp_path, images=400, memory=False)
  commands.make_inputs(["prepare"])
  rows = kills.study(commands, "prepare", 3, random.Random(64), aimed=1)
  assert [row[1:3] for row in rows] == [("HUP", 75), ("KILL", -9), ("KILL to the group", -9)]
  assert not [row for row in rows if row[3]], kills.table(rows)


def test_kills_without_effect_are_noticed():
  codes = [("HUP", 0), ("HUP", 0), ("TERM", 0), ("TERM", 75), ("INT", 0)]
  assert kills.without_effect([("train", way, code, []) for way, code in codes]) == ["HUP"]


def test_what_is_left_is_noticed(tmp_path):
  commands = kills.Commands(tmp_path, memory=False)
  assert not commands.left_over(tmp_path / "out")
  (tmp_path / "out.0123.partial").mkdir()
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "a.partial").touch()
  (tmp_path / "tmp" / "b").touch()
  assert len(commands.left_over(tmp_path / "out")) == 3
