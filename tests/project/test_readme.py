"""The README's one-line commands, the table of configs, and the links of all pages."""

import os.path
import re
import shlex
import subprocess
import sys

import pytest

from swin_jax.terminal import shipped
from tests.support import runs
from tests.support.pages import PAGES, block, text
from tests.support.paths import ROOT


@pytest.mark.parametrize("heading", ["Quick start", "Run the tests"])
def test_one_line_does_it_all(heading):
  lines = block("README.md", heading, "sh").lines
  assert len(lines) == 1
  assert lines[0].startswith("python3 -m venv .venv && .venv/bin/pip install")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short(page):
  assert len(text(page).splitlines()) <= 150


def test_the_configs_it_names_are_all_there_are():
  names = set()
  recipes = re.search(r"## Recipes(.*?)## ", text("docs/configs.md"), re.S)[1]
  for cell in re.findall(r"^\| (`.*?) \|", recipes, re.M):
    stem = ""
    for name in re.findall(r"`([^`]*)`", cell):
      name = name.split(":")[0]
      prefix = re.match(r"swinv2_\{[^}]*\}", stem)
      name = name.replace("…", prefix[0] if prefix else "")
      stem = name
      match = re.search(r"\{([^}]*)\}", name)
      names |= {name.replace(match[0], part) for part in match[1].split(",")} if match else {name}
  assert names == {*shipped.names()} - {"quickstart"}


def anchors(page):
  """Returns the anchors of a page's headings, as GitHub writes them."""
  titles = re.findall(r"^#+ (.*)$", text(page), re.M)
  return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
  for path, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text(page)):
    target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
    assert (ROOT / target).exists(), (page, path)
    assert not anchor or target not in PAGES or anchor in anchors(target), (page, path, anchor)


def test_every_page_is_linked_from_the_readme():
  assert not [page for page in PAGES if page != "README.md" and f"({page})" not in text("README.md")]


def test_the_tests_they_name_exist():
  named = {name for page in PAGES for name in re.findall(r"`([\w/]*test_\w+\.py)`", text(page))}
  assert len(named) > 10 and not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.slow
def test_the_quick_start_learns_digits(tmp_path, monkeypatch):
  """Runs the line as it stands, in this environment instead of a new one, and with fewer epochs."""
  for name in ("configs", "swin_jax"):
    (tmp_path / name).symlink_to(ROOT / name)
  monkeypatch.chdir(tmp_path)
  environment, requirements, *commands = block("README.md", "Quick start", "sh").lines[0].split(" && ")
  assert environment == "python3 -m venv .venv" and requirements.startswith(".venv/bin/pip install")
  for command, epochs in zip(commands, (1, 12), strict=True):
    words = shlex.split(command)
    assert words[0] == ".venv/bin/python"
    shorter = [f"--config.optim.total_epochs={epochs}", "--config.optim.warmup_epochs=1"]
    done = subprocess.run(
      [sys.executable, *runs.changed(words[1:], *shorter)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
  workdirs = tmp_path / "runs" / "quickstart"
  assert list((workdirs / "pretrain" / "pictures").glob("reconstruction-*.png"))
  assert "loaded   encoder/" in (workdirs / "finetune" / "transfer.txt").read_text()
  assert runs.lines(workdirs / "finetune")[-1]["eval/top1"] > 0.5  # chance level is 0.1
