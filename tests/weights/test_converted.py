"""Public weights that `swin_jax.load` and config.init_from take directly: converted once, into a cache."""

import concurrent.futures
import json
import os
import pathlib

import numpy as np
import pytest

import swin_jax
from swin_jax.run import train
from swin_jax.saved import folder
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import converted
from tests.support import hub, official, tiny
from tests.support.folders import TINY, imported, save

pytestmark = pytest.mark.every_python


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """Returns the cache that is used, which does not exist yet."""
  monkeypatch.setenv(converted.CACHE, str(tmp_path / "a" / "cache"))
  return tmp_path / "a" / "cache"


def entries(cache):
  return sorted(path.name for path in cache.iterdir() if path.name != ".lock")


def state(seed=0, **changes):
  return official.random(official.state_dict(2, **TINY | changes), seed)


def foreign(path, seed=0):
  return str(save(path, state(seed)))


def test_a_file_is_converted_once(tmp_path, cache, capsys):
  file = foreign(tmp_path / "swin_tiny.safetensors")
  path = pathlib.Path(converted.path(file))
  assert path.parent == cache and path.name.endswith("--swin_tiny-" + path.name[-16:])
  printed = capsys.readouterr().out
  assert f"converted {file} into {path}" in printed and "windows from the file" in printed
  theirs = imported(tmp_path)
  assert (path / "model.safetensors").read_bytes() == (
    pathlib.Path(theirs) / "model.safetensors"
  ).read_bytes()
  before = (path / "config.json").stat().st_ino
  assert converted.path(file) == str(path) and (path / "config.json").stat().st_ino == before
  assert capsys.readouterr() == ("", "")
  model, params = swin_jax.load(file)
  assert model.image_size == (32, 32)
  expected = state()["patch_embed.norm.weight"]
  np.testing.assert_array_equal(params["encoder"]["patch_embed"]["norm"]["scale"], expected)


def test_a_changed_file_is_another_source(tmp_path, cache):
  file = foreign(tmp_path / "x.safetensors")
  first = converted.path(file)
  status = os.stat(file)
  foreign(tmp_path / "x.safetensors", seed=1)
  os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
  second = converted.path(file)
  assert first != second and len(entries(cache)) == 2
  (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
  assert folder.open_saved(converted.path(file)).config["data"]["mean"] == [0.5] * 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "config"])
def test_a_damaged_conversion_is_made_again(damage, tmp_path, cache, capsys):
  file = foreign(tmp_path / "x.safetensors")
  weights = pathlib.Path(converted.path(file)) / "model.safetensors"
  content = weights.read_bytes()
  if damage == "cut":
    weights.write_bytes(content[:-4])
  elif damage == "flipped":
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  elif damage == "missing":
    weights.unlink()
  else:
    weights.with_name("config.json").write_text("{")
  capsys.readouterr()
  assert converted.path(file) == str(weights.parent)
  assert capsys.readouterr().err.count("a conversion in the cache is damaged and will be made again") >= 1
  assert weights.read_bytes() == content
  assert len(entries(cache)) == 1


def test_many_at_once_convert_once(tmp_path, cache, capsys):
  file = foreign(tmp_path / "x.safetensors")
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    paths = set(pool.map(converted.path, [file] * 4))
  assert len(paths) == 1 and entries(cache) == [pathlib.Path(*paths).name]
  assert capsys.readouterr().out.count("converted ") == 1
  folder.open_saved(*paths)


@pytest.mark.parametrize("variable", [converted.CACHE, "XDG_CACHE_HOME", "HOME"])
def test_where_the_cache_is(variable, tmp_path, monkeypatch):
  for name in (converted.CACHE, "XDG_CACHE_HOME"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv(variable, str(tmp_path))
  below = {converted.CACHE: "", "XDG_CACHE_HOME": "swin_jax", "HOME": ".cache/swin_jax"}[variable]
  path = converted.path(foreign(tmp_path / "x.safetensors"))
  assert pathlib.Path(path).parent == tmp_path / below


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
  file = foreign(tmp_path / "x.safetensors")
  (tmp_path / "occupied").write_text("")
  monkeypatch.setenv(converted.CACHE, str(tmp_path / "occupied" / "cache"))
  with pytest.raises(BadInput, match="the cache .*occupied/cache cannot be written: .*set SWIN_JAX_CACHE"):
    swin_jax.load(file)


def test_an_intact_conversion_needs_no_writing(tmp_path, cache, monkeypatch):
  file = foreign(tmp_path / "x.safetensors")
  path = converted.path(file)
  monkeypatch.setattr(converted, "_locked", lambda lock: pytest.fail("it wants to write"))
  assert converted.path(file) == path


def test_what_cannot_be_imported_leaves_nothing(tmp_path, cache):
  whole = state(buffers=False)
  with pytest.raises(BadInput, match="give --image_size=.*python -m swin_jax.weights import .*x.safetensors"):
    converted.path(str(save(tmp_path / "x.safetensors", whole)))
  with pytest.raises(BadInput, match="is not a Swin Transformer"):
    converted.path(str(save(tmp_path / "y.safetensors", {"a": np.zeros(1, np.float32)})))
  assert not cache.exists()


def test_what_is_ours_is_used_where_it_is(tmp_path, cache):
  model = imported(tmp_path)
  for path in (model, str(tmp_path), str(tmp_path / "absent"), "runs/x"):
    assert converted.path(path) == path
  config = pathlib.Path(model) / "config.json"
  config.unlink()
  assert converted.path(model) == model  # a model folder without its config is damaged, not foreign
  assert not cache.exists()
  with pytest.raises(BadInput, match="is an address, but must be a path"):
    converted.path("gs://bucket/model")


def test_a_folder_of_other_weights(tmp_path, cache):
  save(tmp_path / "hf" / "model.safetensors", state(buffers=False))
  settings = dict(model_type="swinv2", image_size=32, window_size=4)
  (tmp_path / "hf" / "config.json").write_text(json.dumps(settings | TINY))
  assert pathlib.Path(converted.path(str(tmp_path / "hf"))).parent == cache


@pytest.fixture
def served(tmp_path, monkeypatch):
  """Returns the folder of the files of hf://owner/name."""
  files = tmp_path / "hub"
  save(files / "model.safetensors", state(buffers=False))
  settings = dict(model_type="swinv2", image_size=32, window_size=4)
  (files / "config.json").write_text(json.dumps(settings))
  server = hub.Hub(files)
  hub.use(monkeypatch, server.url, tmp_path / "downloads")
  yield files
  server.server.shutdown()


def test_a_model_of_the_hub(served, tmp_path, cache, capsys, monkeypatch):
  path = converted.path("hf://owner/name")
  assert entries(cache)[0].startswith("owner--name-")
  assert "converted hf://owner/name into" in capsys.readouterr().out
  assert converted.path("hf://owner/name") == path and not capsys.readouterr().out
  hub.use(monkeypatch, "http://localhost:9", tmp_path / "downloads")  # nobody listens there
  assert converted.path("hf://owner/name") == path
  with pytest.raises(
    BadInput, match="hf://owner/other cannot be fetched: http://localhost:9 cannot be reached"
  ):
    converted.path("hf://owner/other")


def test_a_model_of_ours_on_the_hub(served, tmp_path, cache):
  ours = pathlib.Path(imported(tmp_path))
  for file in ours.iterdir():
    (served / file.name).write_bytes(file.read_bytes())
  model, _ = swin_jax.load("hf://owner/name")
  assert model.image_size == (32, 32) and not cache.exists()


def test_a_name_that_the_hub_does_not_have(served):
  with pytest.raises(
    BadInput, match="hf://owner/nme: the hub has no model owner/nme, or it is private"
  ) as caught:
    converted.path("hf://owner/nme")
  assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_starts_from_the_hub(served, tmp_path, capsys):
  changes = dict(optim__total_epochs=1 / 89, optim__warmup_epochs=0.0)
  config = tiny.config("finetune", init_from="hf://owner/name", **changes)
  for key in ("embed_dim", "depths", "num_heads"):
    config.model[key] = TINY[key]
  config.model.window_sizes = (4, 4)
  train.train(config, str(tmp_path / "run"))
  assert "arrays loaded" in capsys.readouterr().out
