"""Rules for values: what each accepts, and what it says of the rest."""

import math

from ml_collections import ConfigDict
import pytest

from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput


@pytest.mark.parametrize(
  "rule, valid, invalid",
  [
    (rules.Real(0, 1), [0, 0.0, 0.5, 1, 1.0], [-1e-9, 1.1, math.nan, math.inf, -math.inf, 10**400]),
    (rules.Real(0, 1), [], [True, False, None, "0.5", (0.5,), 1j]),
    (rules.Real(0, 1, above=True, below=True), [1e-300, 0.999], [0, 0.0, 1, 1.0]),
    (rules.Real(2, 3, or_zero=True), [0, 0.0, -0.0, 2, 3], [1, 1e-300, math.nan, False]),
    (rules.Whole(1, 3), [1, 3], [0, 4, 2.0, True, math.nan, "2"]),
    (rules.Choice(1, 2), [1, 2], [True, 1.0, "1", None, [1], 3]),
    (rules.FLAG, [True, False], [1, 0, "True", None]),
    (rules.Text(5), ["", "a b", "äöü日本"], ["abcdef", "a\nb", "\0", 1, None, b"a"]),
    (rules.Items(rules.Whole(1, 3), (0, 2)), [(), [], (1, 2), [3, 1]], [(1,), (1, 2, 3), (1, 4), 1, "12"]),
    (rules.Items(rules.Real(0, 9), (2,), rising=True), [(1, 2), (2, 2)], [(2, 1), (math.nan, 1)]),
    (rules.Either(rules.Whole(1, 3), rules.Items(rules.Whole(1, 3), (2,))), [1, (1, 3)], [0, (1,), (0, 1)]),
    (rules.Passes(lambda value: rules.check({"a": value}, {"a": rules.FLAG})), [True], [1, None]),
  ],
  ids=lambda part: type(part).__name__,  # the repr of a function differs from process to process
)
def test_a_rule_accepts_these_and_no_others(rule, valid, invalid):
  assert [value for value in valid if rule.problem(value) is not None] == []
  assert [value for value in invalid if not rule.problem(value)] == []


@pytest.mark.parametrize(
  "rule, value, words",
  [
    (rules.Real(0, 1, below=True), 1.5, "must be at least 0 and less than 1"),
    (rules.Real(0.01, 1, above=True, or_zero=True), -1, "must be 0, or more than 0.01 and at most 1"),
    (rules.Real(0, 1), "x", "must be a number"),
    (rules.Whole(0, 1), 0.5, "must be an integer"),
    (rules.Choice("a", "b"), "c", "choose one of 'a', 'b'"),
    (rules.Items(rules.Whole(1, 3), range(1, 9)), (), "must have 1 to 8 entries, not 0"),
    (rules.Items(rules.Whole(1, 3), (1,)), (1, 2), "must have 1 entry, not 2"),
    (rules.Items(rules.Whole(1, 3), (0, 1)), [1, 2], "must have 0 or 1 entry, not 2"),
    (rules.Items(rules.Whole(1, 3), (2,)), "12", "must be a tuple or list of 2 entries"),
    (rules.Items(rules.Whole(1, 3), (2, 3)), (1, 0), "entry 1 must be at least 1 and at most 3"),
    (rules.Items(rules.Real(0, 3), (2,), rising=True), (2, 1), "must be in ascending order"),
  ],
  ids=repr,
)
def test_what_a_rule_says(rule, value, words):
  assert rule.problem(value) == words


@pytest.mark.parametrize(
  "counts, words",
  [
    ((1,), "1 value"),
    ((0, 1), "0 or 1 value"),
    ((2, 3), "2 or 3 values"),
    ((0, 1, 3), "0, 1 or 3 values"),
    ((1, 2, 3), "1 to 3 values"),
    (range(1, 9), "1 to 8 values"),
    (range(9), "0 to 8 values"),
  ],
)
def test_amounts_in_words(counts, words):
  assert rules.amount(counts, "value") == words


@pytest.mark.parametrize(
  "config, message",
  [
    (ConfigDict(dict(optim=dict(b2=1.5))), "config.optim.b2 = 1.5: must be at least 0 and less than 1"),
    (dict(optim=dict(b2=[0.5])), "config.optim.b2 = [0.5]: must be a number"),
    (ConfigDict(dict(optim=dict())), "config.optim.b2 is missing: "),
    (ConfigDict(dict(optim=3.0)), "config.optim.b2 is missing: "),
    (ConfigDict(), "config.optim.b2 is missing: "),
    (dict(optim=dict(b2="x" * 10**6)), "…: must be a number"),
  ],
)
def test_a_table_names_the_key(config, message):
  with pytest.raises(BadInput) as error:
    rules.check(config, {"optim.b2": rules.Real(0, 1, below=True)})
  assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300
