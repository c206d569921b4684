"""A short form of the study of damaged files: every damage is named or harmless."""

import pytest

from experiments.survival import damages


@pytest.mark.slow
def test_random_damages_are_named_or_harmless(tmp_path):
  entries = damages.study(tmp_path, number=5, seed=0, only=list(damages.SUBJECTS))
  assert len(entries) == 5 * len(damages.SUBJECTS)
  assert {entry["outcome"] for entry in entries} <= {"named", "harmless"}, damages.table(entries)
  assert sum(entry["outcome"] == "named" for entry in entries) > 5


def test_results_that_differ_without_a_word_are_noticed(tmp_path):
  subject = damages.Subject(make=lambda folder: None, use=lambda folder: (folder / "a").read_text())
  (tmp_path / "a").write_text("other")
  assert damages.attempt(subject, tmp_path, "text", ["a"])[0] == "SILENT"
  assert damages.attempt(subject, tmp_path, "other", ["a"])[0] == "harmless"
  (tmp_path / "a").unlink()
  assert damages.attempt(subject, tmp_path, "text", ["a"])[0] == "TRACEBACK"


@pytest.mark.parametrize("message, outcome", [("a is damaged", "named"), ("no", "UNNAMED")])
def test_a_refusal_must_name_the_file(tmp_path, message, outcome):
  def refuse(folder):
    raise damages.BadInput(message)

  assert damages.attempt(damages.Subject(None, refuse), tmp_path, "", ["a is"])[0] == outcome
