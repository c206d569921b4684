"""Lines for the terminal are short, and name only the first of many things."""

import pytest

from swin_jax.terminal.lines import WIDTH, listed, wrapped


@pytest.mark.parametrize(
  "count, most, text",
  [(0, 2, ""), (1, 2, "0"), (2, 2, "0, 1"), (3, 2, "0, 1 and 1 more"), (1200, 2, "0, 1 and 1,198 more")],
)
def test_the_first_of_a_list_and_the_number_of_the_others(count, most, text):
  assert listed(list(map(str, range(count))), most) == text


def test_lines_have_under_110_columns_and_are_indented_after_the_first():
  first, *others = wrapped("word " * 60)
  assert len(first) <= WIDTH < 110 and len(others) == 2
  assert all(line.startswith("  word") and len(line) <= WIDTH for line in others)
