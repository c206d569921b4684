"""Facts about a task, a kind of target and a backbone have one home each, checked on the syntax trees of
swin_jax: no other file names them, compares them or reads their sizes.
"""

import ast

import pytest

from swin_jax.data.read.targets import Target
from swin_jax.tasks import KINDS
from tests.support.paths import ROOT

PACKAGE = ROOT / "swin_jax"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
# The names of the kinds of target are those of `data.read.targets.Target`.
NAMES = {*KINDS, *filter(None, Target)}
TASKS, TARGETS, BACKBONES = ("tasks/",), ("data/read/targets.py",), ("models/swin/", "weights/")
# (file, constant) → what else the word means there.
OTHER_WORDS = {
  ("data/read/npz.py", "labels"): "array in an .npz file",
  ("drawing/legend.py", "values"): "word in a picture",
  ("predict/tables.py", "class"): "column of a table",
}
COMPARED = {"task", "kind", "needs", "target", "targets", "backbone"}
TYPES = {"Task", "TaskKind", "Target", "BackboneKind"}
# (file, expression) → what else has that name there.
OTHER_KINDS = {
  ("plan/hlo.py", "kind"): "kind of a collective",
  ("plan/hlo.py", "self.kind"): "kind of a collective",
}
SIZES = {"depths", "window_sizes", "version"}
OTHER_VERSIONS = {
  ("run/agreement.py", "importlib.metadata.version"): "of an installed package",
  ("data/read/shards.py", "header['version']"): "of a file format",
  ("export/onnx.py", "entry.version"): "of an operator set",
  ("plan/report.py", "importlib.metadata.version"): "of an installed package",
}


def walk(text):
  return ast.walk(ast.parse(text))


def last_name(node):
  """Returns the last name of an expression: b for both a.b and a["b"]."""
  if isinstance(node, ast.Subscript):
    return node.slice.value if isinstance(node.slice, ast.Constant) else None
  return {ast.Name: "id", ast.Attribute: "attr"}.get(type(node)) and getattr(
    node, "id" if isinstance(node, ast.Name) else "attr"
  )


def constants(text):
  """Returns the string constants that name a task or a kind of target."""
  return [node.value for node in walk(text) if isinstance(node, ast.Constant) and node.value in NAMES]


def comparisons(text):
  """Returns the expressions for a task or a kind that ==, !=, match or isinstance examine."""
  expressions = []
  for node in walk(text):
    if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
      expressions += [side for side in (node.left, *node.comparators) if last_name(side) in COMPARED]
    elif isinstance(node, ast.Match) and last_name(node.subject) in COMPARED:
      expressions.append(node.subject)
    elif isinstance(node, ast.Call) and last_name(node.func) == "isinstance":
      value, types = node.args
      if last_name(value) in COMPARED - {"target"} or TYPES & set(map(last_name, ast.walk(types))):
        expressions.append(value)
  return [text for text in map(ast.unparse, expressions) if not text.endswith("dtype.kind")]


def kinds_of_target(text):
  """Returns the expressions that look one kind of target up, in place of asking it for its properties."""
  names = {each.name for each in Target} - {"NOTHING"}
  return [
    ast.unparse(node)
    for node in walk(text)
    if isinstance(node, ast.Attribute) and node.attr in names and last_name(node.value) == "Target"
  ]


def sizes(text):
  """Returns the expressions that read a size of Swin: an attribute, a key, or the variable's name."""
  expressions = []
  for node in walk(text):
    if isinstance(node, (ast.Attribute, ast.Subscript)) and last_name(node) in SIZES:
      expressions.append(ast.unparse(node))
    elif isinstance(node, ast.Constant) and node.value in SIZES - {"version"}:
      expressions.append(node.value)
  return expressions


def joined_paths(text):
  """Returns the calls that make a name of a tree path with a separator."""
  return [
    ast.unparse(node)
    for node in walk(text)
    if isinstance(node, ast.Call)
    and last_name(node.func) == "keystr"
    and any(keyword.arg == "separator" for keyword in node.keywords)
  ]


def read(file):
  return (PACKAGE / file).read_text()


@pytest.mark.parametrize("file", FILES)
def test_no_other_file_names_a_task_or_a_kind_of_target(file):
  if not file.startswith(TASKS + TARGETS):
    assert not [word for word in constants(read(file)) if (file, word) not in OTHER_WORDS]


@pytest.mark.parametrize("file", FILES)
def test_only_readers_and_tasks_look_up_a_kind_of_target(file):
  if not file.startswith(("tasks/", "data/read/")):
    assert not kinds_of_target(read(file))


@pytest.mark.parametrize("file", FILES)
def test_nothing_compares_a_task_or_a_kind(file):
  assert not [text for text in comparisons(read(file)) if (file, text) not in OTHER_KINDS]


@pytest.mark.parametrize("file", FILES)
def test_no_other_file_reads_the_sizes_of_swin(file):
  if not file.startswith(BACKBONES):
    assert not [text for text in sizes(read(file)) if (file, text) not in OTHER_VERSIONS]


@pytest.mark.parametrize("file", FILES)
def test_one_function_names_the_paths_of_a_tree(file):
  assert len(joined_paths(read(file))) == (file == "mesh/sharding.py")


@pytest.mark.parametrize(
  "rule, bad, good",
  [
    (constants, 'x = "segmentation"', 'x = "segmentation of images"'),
    (constants, 'f(kind="labels")', "f(labels=1)"),
    (comparisons, "config.task == other", "config.task in KINDS"),
    (comparisons, 'settings["task"] != x', "kind is not other"),
    (comparisons, "x == kind_of(c).needs", "x == image.dtype.kind"),
    (comparisons, "isinstance(kind, str)", "isinstance(target, bytes)"),
    (comparisons, "isinstance(x, (int, TaskKind))", "isinstance(x, int)"),
    (comparisons, "match task:\n  case 'a': pass", "match name:\n  case 'a': pass"),
    (kinds_of_target, "x is targets.Target.VALUES", "x is not Target.NOTHING"),
    (sizes, "len(model.depths)", "len(levels)"),
    (sizes, 'description["model"]["version"]', "version = 1"),
    (sizes, 'getattr(m, "window_sizes")', "window_sizes = ()"),
    (joined_paths, "keystr(path, simple=True, separator='.')", "keystr(path)"),
  ],
)
def test_each_rule_sees_what_it_forbids(rule, bad, good):
  assert rule(bad) and not rule(good)


def test_exceptions_are_still_needed():
  for exceptions, rule in ((OTHER_WORDS, constants), (OTHER_KINDS, comparisons), (OTHER_VERSIONS, sizes)):
    for file, text in exceptions:
      assert text in rule(read(file)), (file, text)
