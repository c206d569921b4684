"""The files around the code agree with each other: requirements, versions, CI, container, citation."""

import re
import subprocess
import tomllib

import pytest
import yaml

import swin_jax
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lines(name):
  return (ROOT / name).read_text().splitlines()


@pytest.mark.parametrize(
  "name, requirements",
  [
    ("requirements.txt", [*PROJECT["dependencies"], *EXTRAS["rasters"], *EXTRAS["tfds"]]),
    ("requirements-test.txt", EXTRAS["dev"]),
    ("requirements-plan.txt", EXTRAS["plan"]),
  ],
)
def test_requirements_are_those_of_the_project(name, requirements):
  assert lines(name) == sorted(requirements, key=str.lower)


def test_the_core_does_without_what_few_jobs_need():
  core = {re.split(r"[<>=\[; ]", line)[0].lower() for line in PROJECT["dependencies"]}
  assert not core & {"rasterio", "scikit-learn", "tensorflow-datasets", "tensorflow", "torch", "wandb"}


def test_every_extra_that_a_message_names_is_one():
  text = "\n".join(path.read_text() for path in (ROOT / "swin_jax").rglob("*.py"))
  named = re.findall(r"extras\.(?:missing|command)\(\s*\"([\w-]+)\"|swin_jax\[([\w-]+)\]", text)
  names = {first or second for first, second in named} | set(
    re.findall(r"extras\.command\('([\w-]+)'\)", text)
  )
  assert names >= {"rasters", "tfds", "plan", "onnx"} and names <= EXTRAS.keys()


def test_one_version():
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  assert swin_jax.__version__ == PROJECT["version"] == citation["version"]
  assert f"\n## {swin_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_has_what_the_format_requires():
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  assert citation.keys() >= {"cff-version", "message", "title", "authors"}
  assert citation["license"] == PROJECT["license"]
  for work in (citation, *citation["references"]):
    assert work["title"] and work["authors"] and work["type"]
    assert all(author.keys() in ({"name"}, {"family-names", "given-names"}) for author in work["authors"])


def test_ci_runs_what_a_change_must_pass():
  workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
  (job,) = workflow["jobs"].values()
  commands = [step["run"] for step in job["steps"] if "run" in step]
  assert commands == [".ci/run"] and (ROOT / ".ci/run").stat().st_mode & 0o100
  assert subprocess.run(["bash", "-n", str(ROOT / ".ci/run")]).returncode == 0
  assert "3.12" in next(step["with"]["python-version"] for step in job["steps"] if "with" in step)


def test_the_container_installs_the_project_with_extras_that_exist():
  """Each line is an instruction, a comment or the continuation of one."""
  instructions = [line.split()[0] for line in lines("Dockerfile") if line and not line.startswith("#")]
  assert instructions[0] == "FROM" and {*instructions} <= {"FROM", "ARG", "COPY", "RUN", "ENV", "WORKDIR"} | {
    "ENTRYPOINT",
    "CMD",
  }
  text = (ROOT / "Dockerfile").read_text()
  (installed,) = re.findall(r'"/src\[([\w,]+)\$\{EXTRA:\+,\$EXTRA\}\]"', text)
  offered = re.findall(r"EXTRA=(\w+)", text)
  assert {*installed.split(","), *offered} <= EXTRAS.keys() and offered


def test_python_versions_are_stated_once_each():
  classified = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name]
  assert PROJECT["requires-python"] == f">={classified[0]}" and classified == sorted(classified)
