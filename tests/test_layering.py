"""Who imports whom: data flows one way, and every room stays replaceable."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Module or package → what of ours it may import; a name stands for itself and all inside it. `errors` is a leaf that anyone may use.
# A module that is not listed falls under its package; the most exact name wins.
MAY_IMPORT = {
  "swin_jax": {"swin_jax.pretrained"},  # its __init__
  "swin_jax.host_memory": set(),
  "swin_jax.main": {
    "swin_jax.train",
    "swin_jax.cli",
    "swin_jax.distributed",
    "swin_jax.preemption",
    "swin_jax.host_memory",
  },
  "swin_jax.train": {
    "swin_jax.inputs",
    "swin_jax.program",
    "swin_jax.progress",
    "swin_jax.data.pipeline",
    "swin_jax.sharding",
    "swin_jax.state",
    "swin_jax.checkpoint",
    "swin_jax.transfer",
    "swin_jax.evaluate",
    "swin_jax.metrics",
    "swin_jax.run_config",
    "swin_jax.same_run",
    "swin_jax.config_checks",
    "swin_jax.preemption",
    "swin_jax.distributed",
    "swin_jax.tasks.kinds",
    "swin_jax.weights.folder",
    "swin_jax.weights.description",
  },
  "swin_jax.program": {
    "swin_jax.tasks",
    "swin_jax.data.photometric",
    "swin_jax.data.rand_augment",
    "swin_jax.axes",
    "swin_jax.sharding",
    "swin_jax.state",
    "swin_jax.step",
    "swin_jax.optim",
    "swin_jax.run_config",
    "swin_jax.models.swin",
    "swin_jax.kernels",
  },
  "swin_jax.inputs": {"swin_jax.data", "swin_jax.tasks.kinds"},
  "swin_jax.same_run": {"swin_jax.models.windows", "swin_jax.weights.description"},
  "swin_jax.run_config": {
    "swin_jax.data.statistics",
    "swin_jax.distributed",
    "swin_jax.files",
    "swin_jax.optim",
    "swin_jax.sharding",
    "swin_jax.models.windows",
    "swin_jax.tasks.kinds",
    "swin_jax.weights.description",
  },
  "swin_jax.config_checks": {
    "swin_jax.optim",
    "swin_jax.kernels",
    "swin_jax.weights.choices",
    "swin_jax.models.windows",
    "swin_jax.models.remat",
    "swin_jax.models.upernet",
    "swin_jax.data.image_ops",
    "swin_jax.data.labels",
    "swin_jax.data.rand_augment",
    "swin_jax.tasks.kinds",
  },
  "swin_jax.legend": set(),
  "swin_jax.tasks": {
    "swin_jax.models",
    "swin_jax.metrics",
    "swin_jax.data.mixing",
    "swin_jax.data.pixels",
    "swin_jax.data.labels",
    "swin_jax.legend",
    "swin_jax.tasks.dense",
    "swin_jax.tasks.label_pictures",
    "swin_jax.tasks.value_pictures",
    "swin_jax.tasks.task",
  },
  "swin_jax.tasks.task": set(),
  "swin_jax.tasks.kinds": set(),
  "swin_jax.models": {"swin_jax.axes", "swin_jax.sharding", "swin_jax.kernels", "swin_jax.models"},
  "swin_jax.models.windows": set(),
  "swin_jax.kernels": {"swin_jax.kernels"},
  "swin_jax.step": {"swin_jax.state", "swin_jax.tasks.task"},
  "swin_jax.state": {"swin_jax.sharding"},
  "swin_jax.sharding": {"swin_jax.axes"},
  "swin_jax.evaluate": {"swin_jax.metrics", "swin_jax.progress"},
  "swin_jax.transfer": {"swin_jax.weights.folder"},
  "swin_jax.weights.choices": set(),
  "swin_jax.pretrained": {
    "swin_jax.transfer",
    "swin_jax.weights",
    "swin_jax.kernels",
    "swin_jax.models",
    "swin_jax.tasks.kinds",
  },
  "swin_jax.weights": {
    "swin_jax.models",
    "swin_jax.tasks.kinds",
    "swin_jax.checkpoint",
    "swin_jax.files",
    "swin_jax.progress",
    "swin_jax.weights",
  },
  "swin_jax.weights.official": {"swin_jax.models", "swin_jax.kernels"},
  "swin_jax.weights.__main__": {
    "swin_jax.cli",
    "swin_jax.pretrained",
    "swin_jax.transfer",
    "swin_jax.weights",
  },
  "swin_jax.export": {"swin_jax.pretrained", "swin_jax.weights.folder", "swin_jax.export"},
  "swin_jax.export.__main__": {"swin_jax.cli", "swin_jax.pretrained", "swin_jax.weights", "swin_jax.export"},
  "swin_jax.export.loader": set(),
  "swin_jax.show": {"swin_jax.pretrained", "swin_jax.models", "swin_jax.show"},
  "swin_jax.show.drawing": {"swin_jax.legend"},
  "swin_jax.show.output": set(),
  "swin_jax.show.images": {
    "swin_jax.pretrained",
    "swin_jax.data.image_ops",
    "swin_jax.data.image_files",
    "swin_jax.data.rasters",
  },
  "swin_jax.show.reconstruction": {
    "swin_jax.pretrained",
    "swin_jax.data.masks",
    "swin_jax.tasks.masked_pixels",
    "swin_jax.show",
  },
  "swin_jax.show.whole_images": {
    "swin_jax.pretrained",
    "swin_jax.progress",
    "swin_jax.data",
    "swin_jax.tasks.dense",
    "swin_jax.show",
  },
  "swin_jax.show.maps": {
    "swin_jax.legend",
    "swin_jax.data.rasters",
    "swin_jax.data.targets",
    "swin_jax.show",
  },
  "swin_jax.show.segmentation": {
    "swin_jax.pretrained",
    "swin_jax.data.labels",
    "swin_jax.data.targets",
    "swin_jax.tasks.label_pictures",
    "swin_jax.legend",
    "swin_jax.show",
  },
  "swin_jax.show.regression": {
    "swin_jax.pretrained",
    "swin_jax.data.targets",
    "swin_jax.tasks.value_pictures",
    "swin_jax.legend",
    "swin_jax.show",
  },
  "swin_jax.show.attention": {"swin_jax.pretrained", "swin_jax.models", "swin_jax.kernels", "swin_jax.show"},
  "swin_jax.show.features": {"swin_jax.pretrained", "swin_jax.progress", "swin_jax.show"},
  "swin_jax.show.__main__": {
    "swin_jax.cli",
    "swin_jax.pretrained",
    "swin_jax.progress",
    "swin_jax.tasks.kinds",
    "swin_jax.show",
  },
  "swin_jax.checkpoint": {"swin_jax.distributed", "swin_jax.files", "swin_jax.manifest"},
  "swin_jax.manifest": {"swin_jax.distributed", "swin_jax.files"},
  "swin_jax.files": set(),
  "swin_jax.distributed": set(),
  "swin_jax.preemption": set(),
  "swin_jax.optim": set(),
  "swin_jax.metrics": {"swin_jax.chips", "swin_jax.files", "swin_jax.progress"},
  "swin_jax.progress": set(),
  "swin_jax.plan": {"swin_jax.fit", "swin_jax.chips", "swin_jax.cli"},
  "swin_jax.fit": {
    "swin_jax.program",
    "swin_jax.run_config",
    "swin_jax.config_checks",
    "swin_jax.sharding",
    "swin_jax.chips",
    "swin_jax.footprint",
    "swin_jax.roofline",
    "swin_jax.hlo",
    "swin_jax.ahead_of_time",
    "swin_jax.kernels",
    "swin_jax.tasks.kinds",
  },
  "swin_jax.footprint": {"swin_jax.models", "swin_jax.sharding", "swin_jax.state", "swin_jax.tasks.task"},
  "swin_jax.roofline": {"swin_jax.models", "swin_jax.footprint", "swin_jax.chips", "swin_jax.hlo"},
  "swin_jax.ahead_of_time": {"swin_jax.chips"},
  "swin_jax.chips": set(),
  "swin_jax.hlo": set(),
  "swin_jax.axes": set(),
  "swin_jax.errors": set(),
  "swin_jax.data": {"swin_jax.data"},
  "swin_jax.data.prepare": {"swin_jax.data", "swin_jax.cli"},
  "swin_jax.data.bench": {
    "swin_jax.data",
    "swin_jax.cli",
    "swin_jax.config_checks",
    "swin_jax.distributed",
    "swin_jax.inputs",
    "swin_jax.program",
    "swin_jax.progress",
    "swin_jax.run_config",
    "swin_jax.sharding",
    "swin_jax.host_memory",
  },
  "swin_jax.cli": {"swin_jax.preemption"},
  "configs": {"configs.common"},
}
OURS = ("swin_jax", "configs", "tests", "experiments")
WITH_JAX_IN_DATA = (
  "swin_jax.data.pipeline",
  "swin_jax.data.mixing",
  "swin_jax.data.rand_augment",
  "swin_jax.data.photometric",
  "swin_jax.data.pixels",
  "swin_jax.data.bench",
)


def modules(package):
  return sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / package).rglob("*.py")
  )


def path_of(module):
  path = ROOT.joinpath(*module.split("."))
  return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def exists(module):
  return path_of(module).exists() or ROOT.joinpath(*module.split(".")).is_dir()


def imports(module):
  """Every module that a module imports, at the top or inside a function, by its full name."""
  found = set()
  for node in ast.walk(ast.parse(path_of(module).read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{module} imports relatively"
      for alias in node.names:
        whole = f"{node.module}.{alias.name}"
        found.add(whole if node.module.split(".")[0] in OURS and exists(whole) else node.module)
  return found


def inside(name, package):
  return name == package or name.startswith(package + ".")


def allowed(module):
  rule = max((name for name in MAY_IMPORT if inside(module, name)), key=len)
  assert rule != "swin_jax" or module == "swin_jax", (
    f"{module}: a new room; say in MAY_IMPORT whom it may import"
  )
  return MAY_IMPORT[rule]


@pytest.mark.parametrize("module", modules("swin_jax") + modules("configs"))
def test_a_module_imports_only_what_it_may(module):
  ours = {name for name in imports(module) if name.split(".")[0] in OURS}
  forbidden = {
    name for name in ours - {module} if not any(inside(name, target) for target in allowed(module))
  }
  if module.startswith("swin_jax"):
    forbidden.discard("swin_jax.errors")
  assert not forbidden, f"{module} imports {sorted(forbidden)}"


@pytest.mark.parametrize("module", modules("swin_jax"))
def test_the_core_needs_no_other_framework(module):
  roots = {name.split(".")[0] for name in imports(module)}
  only_for_its_files = (
    {"torch"} if module == "swin_jax.weights.tensors" else set()
  )  # inside a function, where it is installed
  assert not (roots - only_for_its_files) & {
    "tensorflow",
    "torch",
    "torchvision",
    "clu",
    "timm",
    "transformers",
  }
  if inside(module, "swin_jax.data") and module not in WITH_JAX_IN_DATA:
    assert not roots & {"jax", "flax"}
  if module in ("swin_jax.models.windows", "swin_jax.kernels.window_attention"):
    assert "flax" not in roots  # plain functions
  if "orbax" in roots:
    assert module == "swin_jax.checkpoint"


@pytest.mark.parametrize("module", modules("configs"))
def test_a_config_loads_anywhere(module):
  assert {name.split(".")[0] for name in imports(module)} <= {"configs", "ml_collections"}


def test_nobody_imports_in_a_circle():
  graph = {
    module: {name for name in imports(module) if name.split(".")[0] == "swin_jax"}
    for module in modules("swin_jax")
  }
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
