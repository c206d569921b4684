"""Each command on the README and the pages of docs/ is parsed, and run by some test or says what it needs."""

import re

import pytest

from tests.support import pages
from tests.support.pages import PAGES, text
from tests.support.paths import ROOT

# Sections whose blocks are run by the test of that name in test_jobs.py, or by another file.
RUN_BY = {
  ("docs/images.md", "A folder of images"): "test_images",
  ("docs/images.md", "Fine-tune public weights"): "test_images",
  ("docs/images.md", "Probe before you train"): "test_images",
  ("docs/rasters.md", "Rasters"): "test_rasters",
  ("docs/segmentation.md", "Images with label maps"): "test_segmentation",
  ("docs/regression.md", "Rasters with maps of numbers"): "test_regression",
  ("docs/weights.md", "Import, adapt, export"): "test_weights_serving_and_answers",
  ("docs/weights.md", "In a notebook"): "test_weights_serving_and_answers",
  ("docs/serving.md", "Export"): "test_weights_serving_and_answers",
  ("docs/predict.md", "Classes, maps, values and features"): "test_weights_serving_and_answers",
  ("docs/predict.md", "Curves"): "test_weights_serving_and_answers",
  ("docs/predict.md", "Pictures"): "test_pictures",
  ("docs/pictures.md", "Commands"): "test_pictures",
  ("README.md", "Features in a notebook"): "test_features_in_a_notebook",
  ("README.md", "Quick start"): "tests/project/test_readme.py",
  ("README.md", "Run the tests"): ".ci/run",
  ("docs/scale.md", "Is the input fast enough?"): "tests/run/test_bench.py",
}


def test_every_block_is_run_or_says_what_it_needs():
  """A command may stand on several pages; one of them is run."""
  run = {
    command for b in pages.blocks() if (b.page, b.heading) in RUN_BY for command in map(tuple, b.commands)
  }
  for b in pages.blocks():
    if b.needs is not None:
      assert b.needs in pages.NEEDS, b
    elif b.language == "python":
      assert (b.page, b.heading) in RUN_BY, b
    else:
      assert not [command for command in map(tuple, b.commands) if command not in run], b
  jobs = (ROOT / "tests/project/test_jobs.py").read_text()
  assert all(f"\ndef {name}(" in jobs or (ROOT / name).exists() for name in RUN_BY.values())
  assert RUN_BY.keys() <= {(b.page, b.heading) for b in pages.blocks()}


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_in_a_section(page):
  """No block escapes the reader of pages, and none has a language that it does not know."""
  in_sections = [b for b in pages.blocks() if b.page == page]
  assert 2 * len(in_sections) == len(re.findall(r"^ *```", text(page), re.M))
  assert {b.language for b in in_sections} <= {"", "sh", "python", "text"}


def commands_of_all_pages():
  return sorted({(b.page, *words) for b in pages.blocks() for words in b.commands})


@pytest.mark.parametrize("words", commands_of_all_pages(), ids=lambda words: " ".join(words[:4])[:60])
def test_a_command_is_understood(words, monkeypatch):
  """The command line is parsed, with the config it names, also of what needs more than a test has."""
  monkeypatch.chdir(ROOT)
  page, program, *rest = words
  if program == "swin_jax":
    parser = pages.module_of(rest[0])._parser()
    if "--mode=eval" not in rest:  # reads the config of the run
      parser.parse_args(rest[1:])
  elif program == "pip":
    assert rest[0] == "install", words
    extras = set(re.findall(r"\w[\w-]*(?=[],])", " ".join(rest)))
    assert extras <= set(re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)), words
  elif program == "python":
    assert rest[0] == "-c" or (ROOT / rest[0]).exists() or rest[0] == "exported/load.py", words
  else:
    assert page == "README.md" and program in ("python3", ".venv/bin/pip", ".venv/bin/python"), words
