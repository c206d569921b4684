"""The command `python -m swin_jax.probe`."""

import json
import re

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from swin_jax.data.read import sources
from swin_jax.probe import features, report
from swin_jax.probe.__main__ import main
from swin_jax.saved import pretrained
from tests.support.folders import imported

pytestmark = pytest.mark.devices(2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return imported(tmp_path_factory.mktemp("model"), bands=1, depths=(2,), num_heads=(2,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder of bright and dark images; a third class has none to classify."""
  path, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
  shades = {"bright": 200, "dark": 40}
  for split, names, count in (("train", (*shades, "grey"), 9), ("val", shades, 7)):
    for name in names:
      for i in range(count):
        file = path / split / name / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(-30, 30, (40, 48)) + shades.get(name, 120)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
  return str(path)


def probe(*words):
  return main(["probe", *map(str, words)])


def test_it_separates_classes_and_writes_what_it_prints(model, folder, tmp_path, capsys):
  assert probe(model, folder, "--examples=2,4", "--seeds=3", f"--json={tmp_path / 'out.json'}") == 0
  said, written = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
  assert "16 features" in said and "27 images to learn from, 14 to classify, 3 classes" in said
  rows = [line.split()[0] for line in said.splitlines()[-3:]]
  assert rows == ["2", "4", "all"]
  assert [result["classifier"] for result in written["results"]] == 3 * ["ridge", "1-NN", "5-NN", "20-NN"]
  of_all = {each["classifier"]: each for each in written["results"] if each["examples"] is None}
  assert of_all["ridge"]["mean"] > 0.9 and of_all["1-NN"]["mean"] > 0.9 and len(of_all["ridge"]["top1"]) == 3
  assert written["majority_share"] == 0.5 and (written["train"], written["test"]) == (27, 14)
  assert f"{100 * of_all['1-NN']['mean']:.1f}" in said.splitlines()[-1]


def test_features_are_the_pooled_output_of_the_evaluation_view(model, folder):
  """In batches over two devices, they are those of one image at a time; other classes are left out."""
  loaded, params = pretrained.load(model)
  (source,) = sources.open_sources("folder", folder, ("val",))
  view = features.view(loaded, {"eval_crop_fraction": 0.5, "interpolation": "bilinear"})
  computed = features.of_source(loaded, params, source, view, "val", ("grey", "dark"))
  assert computed.labels.tolist() == 7 * [1]
  for i in (0, 6):
    pixels = np.asarray(Image.open(f"{folder}/val/dark/{i}.png"))[..., None]
    seen = loaded.normalise(view(pixels, None)["image"])[None]
    last = loaded.module.apply({"params": params}, seen, method=lambda module, x: module.encoder(x).last)
    np.testing.assert_allclose(computed.values[i], jnp.mean(last[0], (0, 1)), atol=1e-5)


@pytest.mark.parametrize(
  "words, message",
  [
    (("MODEL", "FOLDER", "--eval_split=test"), "no split 'test'"),
    (("MODEL", "nowhere"), "nowhere"),
    (("nowhere", "FOLDER"), "nowhere"),
    (("MODEL", "FOLDER", "--json=nowhere/out.json"), "--json=nowhere/out.json cannot be written"),
    (("MODEL", "FOLDER", "--examples=0"), "--examples"),
    (("MODEL", "FLAT"), "has no split 'val'"),
  ],
)
def test_bad_input_is_one_line(model, folder, tmp_path, words, message, capsys):
  (tmp_path / "train").mkdir()
  Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "train/x.png")
  capsys.readouterr()
  names = {"MODEL": model, "FOLDER": folder, "FLAT": tmp_path}
  assert probe(*(names.get(word, word) for word in words)) == 2
  err = capsys.readouterr().err
  assert err.count("\n") == 1 and re.search(message, err), err


def test_a_table_of_one_seed_has_no_spread():
  results = [{"examples": None, "classifier": "ridge", "top1": [0.5], "mean": 0.5, "std": 0.0}]
  assert report.table(results, 1)[0] == "top-1 accuracy in %" and report.table(results, 1)[-1].endswith(
    "50.0"
  )
