"""Which modules may import which: dependencies go one way, and every package stays replaceable."""

import ast

import pytest

from tests.support.paths import ROOT

# Package → our packages that its files may import, besides itself. A name stands for everything below it; the
# most specific matching name decides.
MODEL_USERS = {"saved", "tasks", "models", "drawing", "kernels", "mesh", "data.read", "data.view", "terminal"}
MAY_IMPORT = {
  "terminal": set(),
  "ops": set(),
  "mesh": {"terminal"},
  "data": set(),  # its __init__
  "data.read": {"terminal"},
  "kernels": {"terminal"},
  "data.view": {"data.read", "terminal"},
  "data.feed": {"data.read", "mesh", "terminal"},
  "data.prepare": {"data.read", "terminal"},
  "models": {"kernels", "mesh", "terminal"},
  "drawing": {"data.read", "terminal"},
  "tasks": {"models", "ops", "drawing", "data.read", "data.view", "mesh", "terminal"},
  "saved": {"tasks", "models", "data.read", "data.view", "mesh", "kernels", "terminal"},
  "": {"weights"},  # swin_jax/__init__.py
  "weights": MODEL_USERS,
  "show": MODEL_USERS | {"weights"},
  "export": MODEL_USERS | {"weights"},
  "probe": MODEL_USERS | {"weights", "data.feed"},
  "run": {"weights", "saved", "tasks", "models", "drawing", "data", "ops", "mesh", "kernels", "terminal"},
  "plan": {"run", "weights", "saved", "tasks", "models", "data", "ops", "mesh", "kernels", "terminal"},
  "main": {"run", "mesh", "terminal"},
  "__main__": {"terminal"},
}
OURS = ("swin_jax", "configs", "tests", "experiments")
WITHOUT_JAX = ("terminal", "data.read", "data.view", "data.prepare")


def modules(package):
  names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / package).rglob("*.py"))
  return sorted(name.removesuffix(".__init__") for name in names)


def path_of(module):
  path = ROOT.joinpath(*module.split("."))
  return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def exists(module):
  return path_of(module).exists() or ROOT.joinpath(*module.split(".")).is_dir()


def imports(module):
  """Returns every module that a module imports, at its top or inside a function, by full name."""
  names = set()
  for node in ast.walk(ast.parse(path_of(module).read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      source = node.module
      if node.level:  # the folder is also swin_jax.configs
        assert node.level == 1 and inside(module, "configs"), f"{module} imports relatively"
        source = ".".join(filter(None, ["configs", node.module]))
      for alias in node.names:
        whole = f"{source}.{alias.name}"
        names.add(whole if source.split(".")[0] in OURS and exists(whole) else source)
  return names


def inside(name, package):
  return name == package or name.startswith(package + ".")


def package_of(module):
  """Returns the key of MAY_IMPORT that a module of swin_jax falls under."""
  name = module.removeprefix("swin_jax").removeprefix(".")
  keys = [key for key in MAY_IMPORT if name == key or (key and inside(name, key))]
  assert keys, f"{module} belongs to no package of MAY_IMPORT"
  return max(keys, key=len)


@pytest.mark.parametrize("module", modules("swin_jax"))
def test_a_module_imports_only_what_its_package_may(module):
  package = package_of(module)
  ours = {name.removeprefix("swin_jax.") for name in imports(module) if name.split(".")[0] in OURS}
  allowed = MAY_IMPORT[package] | ({package} if package else set())
  assert not [name for name in sorted(ours) if not any(inside(name, target) for target in allowed)]


def test_packages_import_each_other_in_one_direction():
  """The table itself has no cycle, so no chain of imports between packages can have one."""
  names = set(MAY_IMPORT) - {""}
  graph = {
    name: {each for each in names for t in MAY_IMPORT[name] if inside(each, t)} - {name} for name in names
  }
  while graph:
    leaves = [name for name, targets in graph.items() if not targets & graph.keys()]
    assert leaves, f"a cycle among {sorted(graph)}"
    for name in leaves:
      del graph[name]


@pytest.mark.parametrize("module", modules("swin_jax"))
def test_the_core_needs_no_other_framework(module):
  roots = {name.split(".")[0] for name in imports(module)}
  # imported inside a function, if installed
  only_for_its_files = {"torch"} if module == "swin_jax.saved.tensors" else set()
  assert not (roots - only_for_its_files) & {
    "tensorflow",
    "torch",
    "torchvision",
    "clu",
    "timm",
    "transformers",
  }
  if package_of(module) in WITHOUT_JAX:
    assert not roots & {"jax", "flax"}
  if module in ("swin_jax.models.windows", "swin_jax.kernels.window_attention"):
    assert "flax" not in roots  # plain functions
  if "orbax" in roots:
    assert module in ("swin_jax.saved.checkpoint", "swin_jax.saved.parameters")


@pytest.mark.parametrize("module", modules("configs"))
def test_a_config_loads_anywhere(module):
  """It imports its neighbours relatively, because the folder has two names."""
  assert "from configs" not in path_of(module).read_text()
  assert {name.split(".")[0] for name in imports(module)} <= {"configs", "ml_collections"}


@pytest.mark.parametrize("module", modules("tests"))
def test_no_test_imports_another(module):
  """Code that tests share is in tests.support."""
  assert not [
    name for name in sorted(imports(module)) if inside(name, "tests") and not inside(name, "tests.support")
  ]


@pytest.mark.parametrize("package", ["swin_jax", "experiments", "configs"])
def test_nobody_imports_in_a_circle(package):
  graph = {module: {name for name in imports(module) if inside(name, package)} for module in modules(package)}
  done, path = set(), []

  def visit(module):
    assert module not in path, f"circle: {' → '.join(path[path.index(module) :] + [module])}"
    if module in done or module not in graph:
      return
    path.append(module)
    for name in sorted(graph[module]):
      visit(name)
    path.pop()
    done.add(module)

  for module in graph:
    visit(module)
