"""The exported program is the model, for any batch size, and runs without this package."""

import importlib.util
import json
import re
import runpy
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import swin_jax
from swin_jax.export import __main__ as command
from swin_jax.export import stablehlo
from swin_jax.saved import description as descriptions
from swin_jax.saved import folder
from swin_jax.weights import __main__ as weights
from tests.support import damages
from tests.support.paths import ROOT

pytestmark = pytest.mark.every_python

BATCHES = (1, 3, 8)
KINDS = ("v1", "v2", "simmim")
# Runs the code that follows it in a process that cannot import what only this package needs.
ALONE = (
  "import sys; sys.modules |= dict.fromkeys(['swin_jax', 'flax', 'safetensors', 'orbax', 'optax',"
  " 'ml_collections']); "
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """Writes a model folder of each kind, with random weights; at this image size V2 pads its maps."""
  root = tmp_path_factory.mktemp("models")
  for kind in KINDS:
    v2 = kind != "v1"
    description = descriptions.describe(
      {
        "task": "masked_pixels" if kind == "simmim" else "classification",
        "model": {
          "version": 2 if v2 else 1,
          "patch_size": 4,
          "embed_dim": 16,
          "depths": [2, 1],
          "num_heads": [2, 4],
          "mlp_ratio": 2.0,
          "extra_norm_every": 0,
          "window_sizes": [4, 4],
          "trained_window_sizes": [],
        },
        "data": {
          "image_size": [36, 28] if v2 else [32, 32],
          "mean": [0.4, 0.5, 0.6],
          "std": [0.2, 0.2, 0.3],
          "class_names": [],
          "dtype": "uint8",
        },
        "classification": {"num_classes": 5},
        "masked_pixels": {"target_norm_window": 0},
      },
      kind,
    )
    rng, shapes = np.random.default_rng(0), descriptions.parameter_shapes(description)
    values = lambda path, rng=rng, shapes=shapes: rng.normal(0, 0.2, shapes[path]).astype(np.float32)
    folder.write(str(root / kind), description, shapes, values)
  return root


@pytest.fixture(scope="module", params=KINDS)
def answered(request, models):
  """Returns a model folder, the model in it, and (inputs, result) for each batch size."""
  model, params = swin_jax.load(models / request.param)
  return (
    models / request.param,
    model,
    [(inputs, model.apply(params, *inputs)) for inputs in (inputs_for(model, n) for n in BATCHES)],
  )


def export(source, destination, *flags):
  assert command.main(["export", str(source), str(destination), *flags]) == 0
  return destination


def load(exported):
  """Returns what the folder's own load.py returns."""
  spec = importlib.util.spec_from_file_location("load", exported / "load.py")
  loader = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(loader)
  return loader.load()


def inputs_for(model, batch):
  rng = np.random.default_rng(batch)
  images = rng.normal(size=(batch, *model.image_size, 3)).astype(np.float32)
  return [images] + (
    [rng.random((batch, *(side // 4 for side in model.image_size))) < 0.6] if model.masked else []
  )


def check(ours, theirs):
  theirs = np.asarray(theirs, np.float32)
  assert np.abs(np.asarray(ours, np.float32) - theirs).max() <= 2e-5 * np.abs(theirs).max()


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["inside", "beside"])
def test_it_is_the_model(answered, tmp_path, weights):
  source, model, answers = answered
  run, config = load(export(source, tmp_path / "out", f"--weights={weights}"))
  for inputs, expected in answers:
    result = run(*inputs)
    check(result, expected)
    for entry, array in zip(
      config["export"]["inputs"] + config["export"]["outputs"], [*inputs, result], strict=True
    ):
      assert (["batch", *array.shape[1:]], array.dtype.name) == (entry["shape"], entry["dtype"])
  assert config["data"] == model.description["data"]


def test_another_window_and_image_size(models, tmp_path):
  run, config = load(export(models / "v2", tmp_path / "out", "--window=3", "--image_size=40,24"))
  model, params = swin_jax.load(models / "v2", window=3, image_size=(40, 24))
  check(run(*inputs_for(model, 3)), model.apply(params, *inputs_for(model, 3)))
  assert config["data"]["image_size"] == [40, 24]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_features(models, tmp_path, dtype):
  run, config = load(
    export(models / "simmim", tmp_path / "out", "--features", f"--dtype={dtype}", "--weights=beside")
  )
  model, params = swin_jax.load(models / "simmim", dtype=dtype)
  images = inputs_for(model, 3)[0]
  expected = model.features(params, images, stages=(0, 1))
  for ours, theirs, entry in zip(run(images), expected, config["export"]["outputs"], strict=True):
    check(ours, theirs)
    assert (["batch", *ours.shape[1:]], ours.dtype.name, dtype) == (
      entry["shape"],
      entry["dtype"],
      entry["dtype"],
    )


def test_weights_beside_are_a_model_folder(models, tmp_path, capsys):
  exported = export(models / "v2", tmp_path / "out", "--weights=beside")
  jax.tree.map(np.testing.assert_array_equal, swin_jax.load(exported)[1], swin_jax.load(models / "v2")[1])
  assert weights.main(["weights", "verify", str(exported)]) == 0
  assert "; 3 files are as they were written" in capsys.readouterr().out


@pytest.mark.slow
def test_the_loader_needs_only_jax(models, tmp_path):
  exported = export(models / "simmim", tmp_path / "out", "--weights=beside")
  model, params = swin_jax.load(models / "simmim")
  inputs = inputs_for(model, 3)
  np.savez(tmp_path / "in.npz", *inputs)
  code = ALONE + (
    f"sys.path.insert(0, {str(exported)!r}); import load, numpy as np; run, config = load.load(); inputs ="
    " np.load('in.npz');"
    " np.save('out.npy', run(inputs['arr_0'], inputs['arr_1']))"
  )
  subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
  check(np.load(tmp_path / "out.npy"), model.apply(params, *inputs))


def test_the_loader_is_a_program_too(models, tmp_path):
  exported = export(models / "v1", tmp_path / "out")
  code = ALONE + f"import runpy; runpy.run_path({str(exported / 'load.py')!r}, run_name='__main__')"
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
  )
  assert done.stdout == "logits (1, 5) float32\n"


@pytest.fixture(name="program")
def _program(tmp_path):
  """A folder such as the command writes, whose program is not one: it is only compared with its digest."""
  path = tmp_path / "out"
  path.mkdir()
  shutil.copyfile(stablehlo.loader.__file__, path / stablehlo.LOADER)
  (path / stablehlo.PROGRAM).write_bytes(bytes(range(256)) * 64)
  (path / folder.WEIGHTS).write_bytes(bytes(range(255, -1, -1)) * 64)
  folder.write_config(
    path, {"data": {"mean": (0.25, 1e-05), "class_names": ["ä"]}, "export": {"weights": "beside"}}
  )
  stablehlo.loader.check(path, json.loads((path / folder.CONFIG).read_text()))
  return path


@pytest.mark.parametrize("name", [stablehlo.PROGRAM, folder.WEIGHTS])
@pytest.mark.parametrize("damage", damages.OF_A_FILE, ids=lambda function: function.__name__)
def test_its_loader_refuses_damaged_files(program, capsys, name, damage):
  damage(program / name)
  with pytest.raises((ValueError, OSError), match=name):
    load(program)
  with pytest.raises(SystemExit, match=rf"^load.py: .*{name}"):
    runpy.run_path(str(program / stablehlo.LOADER), run_name="__main__")
  assert weights.main(["weights", "verify", str(program)]) == 2
  assert f"{name} " in capsys.readouterr().out


def test_its_loader_refuses_a_damaged_description(program, capsys):
  path = program / folder.CONFIG
  content = path.read_text()
  changed = (content.replace("0.25", "0.75"), content.replace("digests", "digestr"), content[:-20])
  for text in (*changed, "[]", '{"digests": [1]}', '{"digests": {"config.json": ""}}', ""):
    path.write_text(text)
    with pytest.raises(SystemExit, match="^load.py: .*config.json has changed"):
      runpy.run_path(str(program / stablehlo.LOADER), run_name="__main__")
    assert weights.main(["weights", "verify", str(program)]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_in_it_belongs_to_one_machine(models, tmp_path, dtype):
  data = (export(models / "v2", tmp_path / "out", f"--dtype={dtype}") / stablehlo.PROGRAM).read_bytes()
  assert not any(part in data for part in (str(ROOT).encode(), b"site-packages", b".py"))
  exported = jax.export.deserialize(bytearray(data))
  text = exported.mlir_module()
  assert exported.platforms == ("cpu", "cuda", "tpu") and exported.nr_devices == 1
  assert "sharding" not in text and "mesh" not in text
  assert set(re.findall(r"custom_call @(\w+)", text)) == {"shape_assertion"}
  products = re.findall(r"stablehlo\.dot_general.*", text)
  assert len(products) > 10
  if dtype == "float32":
    assert all("precision = [HIGHEST, HIGHEST]" in product for product in products)
  else:
    assert sum("xbf16>" in product for product in products) > len(products) / 2


def test_the_same_model_gives_the_same_bytes(models, tmp_path):
  first, second = (export(models / "v1", tmp_path / name) / stablehlo.PROGRAM for name in "ab")
  assert first.read_bytes() == second.read_bytes()


def test_a_failed_export_leaves_nothing(models, tmp_path, monkeypatch):
  def fail(path, *_):
    (path / "begun").touch()
    raise RuntimeError

  monkeypatch.setattr(stablehlo, "write", fail)
  assert command.main(["export", str(models / "v2"), str(tmp_path / "out")]) == 1
  assert not list(tmp_path.iterdir())


def test_bad_input_is_said_in_one_line(models, tmp_path, capsys, monkeypatch):
  def refused(*arguments):
    assert command.main(["export", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line

  out = tmp_path / "out"
  assert "already exists" in refused(models / "v2", models / "v1")
  assert "holds no checkpoint" in refused(tmp_path / "none", out)
  assert "only between square windows" in refused(models / "v1", out, "--image_size=8,32")
  assert "--image_size: '0' must be at least 1" in refused(models / "v2", out, "--image_size=0")
  assert "image_size must be a positive number" in refused(models / "v2", out, "--image_size=1,2,3")
  assert "--window: '-4' must be at least 1" in refused(models / "v2", out, "--window=-4")
  assert "did you mean --weights" in refused(models / "v2", out, "--weight=beside")
  assert "leave out --dtype and --weights" in refused(models / "v2", out, "--format=onnx", "--weights=beside")
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  assert "pip install -e '.[onnx]'" in refused(models / "v1", out, "--format=onnx")
  monkeypatch.setattr(command, "LARGEST_BYTES", 10)
  assert "give --weights=beside" in refused(models / "v2", out)
  assert not list(tmp_path.iterdir())


@pytest.fixture
def onnxruntime():
  pytest.importorskip("jax2onnx", reason="in an environment of its own: pip install -e '.[onnx]'")
  return pytest.importorskip("onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_is_the_model(onnxruntime, models, tmp_path, kind):
  exported = export(models / kind, tmp_path / "out", "--format=onnx", "--image_size=32")
  about = json.loads((exported / "config.json").read_text())["export"]
  session = onnxruntime.InferenceSession(exported / "model.onnx")
  model, params = swin_jax.load(models / kind, image_size=32)
  for inputs in (inputs_for(model, batch) for batch in BATCHES):
    named = dict(zip((entry["name"] for entry in about["inputs"]), inputs, strict=True))
    (result,) = session.run([about["outputs"][0]["name"]], named)
    check(result, model.apply(params, *inputs))


@pytest.mark.slow
def test_onnx_features(onnxruntime, models, tmp_path):
  exported = export(models / "simmim", tmp_path / "out", "--format=onnx", "--features", "--image_size=32")
  session = onnxruntime.InferenceSession(exported / "model.onnx")
  model, params = swin_jax.load(models / "simmim", image_size=32)
  images = inputs_for(model, 3)[0]
  results, expected = (
    session.run(["stage0", "stage1"], {"images": images}),
    model.features(params, images, stages=(0, 1)),
  )
  for ours, theirs in zip(results, expected, strict=True):
    check(ours, theirs)


def test_onnx_of_what_is_padded_is_refused(onnxruntime, models, tmp_path, capsys):
  assert command.main(["export", str(models / "v2"), str(tmp_path / "out"), "--format=onnx"]) == 2
  assert "jax2onnx cannot pad" in capsys.readouterr().err
