"""A few of the kills of the study: what is killed leaves nothing, and the next run completes it."""

import random

import pytest

from experiments.survival import kills

pytestmark = pytest.mark.slow


def test_prepare_is_killed_in_several_ways(tmp_path):
  commands = kills.Commands(tmp_path, images=400, memory=False)
  commands.make_inputs(["prepare"])
  rows = kills.study(commands, "prepare", 3, random.Random(0))
  assert [row[1] for row in rows] == ["HUP", "stopped, then KILL", "KILL to the group"]
  assert not [row for row in rows if row[3]], kills.table(rows)


def test_what_is_left_is_noticed(tmp_path):
  commands = kills.Commands(tmp_path, memory=False)
  assert not commands.left_over(tmp_path / "out")
  (tmp_path / "out.0123.partial").mkdir()
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "a.partial").touch()
  (tmp_path / "tmp" / "b").touch()
  assert len(commands.left_over(tmp_path / "out")) == 3
