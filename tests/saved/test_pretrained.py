"""Using a trained model: loading it, also with other windows, bands and classes."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import swin_jax
from swin_jax.models import attention, windows
from swin_jax.models.attention import INTERMEDIATES
from swin_jax.models.swin import bias_tables
from swin_jax.models.swin.settings import used_windows
from swin_jax.saved import choices, transfer
from swin_jax.saved import description as descriptions
from swin_jax.saved.pretrained import Model
from swin_jax.terminal.errors import BadInput
from tests.support import seals
from tests.support.folders import command, imported, refusal

pytestmark = pytest.mark.every_python


@pytest.mark.slow
def test_load(tmp_path):
  model, params = swin_jax.load(imported(tmp_path))
  images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  assert model.apply(params, images).shape == (2, 5)
  pyramid = model.features(params, images, stages=(0, 1))
  assert [level.shape for level in pyramid] == [(2, 8, 8, 16), (2, 4, 4, 32)]
  maps = model.module.apply({"params": params}, images, method=lambda m, x: m.encoder(x).levels)
  np.testing.assert_allclose(pyramid[1], maps[1], atol=1e-5)
  bytes_of = np.round(np.asarray(images) * 20 + 128).astype(np.uint8)
  np.testing.assert_allclose(model.normalise(bytes_of), model.normalise(bytes_of / 255), rtol=1e-5, atol=1e-6)
  with pytest.raises(BadInput, match="must be normalised numbers"):
    model.apply(params, bytes_of)
  assert len(model.features(params, images)) == 2
  with pytest.raises(BadInput, match=r"must be \[B, height, width, 3\], not \[2, 32, 32, 4\]"):
    model.apply(params, jnp.zeros((2, 32, 32, 4)))
  with pytest.raises(BadInput, match="no stage 2; it has stages 0 to 1"):
    model.features(params, images, stages=(0, 2))
  with pytest.raises(BadInput, match="only a masked-image model accepts a mask"):
    model.apply(params, images, jnp.zeros((2, 8, 8)))


def test_load_a_masked_image_model(tmp_path):
  model, params = swin_jax.load(imported(tmp_path, simmim=True, bands=4), dtype="bfloat16")
  images, mask = jnp.ones((2, 32, 32, 4)), np.zeros((2, 8, 8), int)
  assert (
    model.apply(params, images, mask).shape == images.shape
    and model.apply(params, images, mask).dtype == jnp.float32
  )
  assert model.features(params, images, stages=(1,))[0].dtype == jnp.bfloat16
  with pytest.raises(BadInput, match=r"needs a mask \(2, 8, 8\)"):
    model.apply(params, images)


def test_load_without_a_head(tmp_path):
  model, params = swin_jax.load(imported(tmp_path, classes=0))
  images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  features = model.module.apply({"params": params}, images, method=lambda m, x: m.encoder(x).last)
  np.testing.assert_allclose(model.apply(params, images), features.mean((1, 2)), atol=1e-5)


@pytest.mark.slow
def test_at_another_window_v2_is_the_same_function(tmp_path):
  """Offsets stay in units of the trained window, so two tokens as far apart as before keep their bias."""
  source = imported(tmp_path)
  model, params = swin_jax.load(source, window=8, image_size=64)
  assert used_windows(model.description) == ((8, 8), (8, 8))
  assert model.description["model"]["trained_window_sizes"] == [[4, 4], [4, 4]]
  assert command("adapt", source, tmp_path / "wide", "--window=8", "--image_size=64") == 0
  other, same = swin_jax.load(tmp_path / "wide")
  biases, (collection, name) = {}, INTERMEDIATES
  for size, window in ((32, (4, 4)), (64, (8, 8))):
    _, state = Model(descriptions.adapt(model.description, window[0], size)).module.apply(
      {"params": params}, jnp.zeros((1, size, size, 3)), mutable=collection
    )
    _, tables, _ = state[collection]["encoder"]["stage0"]["blocks"]["block0"]["attn"][name][0]
    biases[window] = dict(
      zip(map(tuple, windows.relative_offsets(window).tolist()), np.asarray(tables[0]), strict=True)
    )
  assert len(biases[4, 4]) == 49 and all(
    np.allclose(bias, biases[8, 8][offset], atol=1e-5) for offset, bias in biases[4, 4].items()
  )
  images = jax.random.normal(jax.random.key(0), (1, 64, 64, 3))
  np.testing.assert_array_equal(other.apply(same, images), model.apply(params, images))
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, same))


@pytest.mark.slow
@pytest.mark.parametrize("rule", choices.BIAS_TABLES)
def test_at_another_window_v1_tables_are_interpolated(rule, tmp_path, capsys):
  source = imported(tmp_path, version=1)
  capsys.readouterr()
  assert (
    command("adapt", source, tmp_path / "wide", "--window=8", "--image_size=64", f"--bias_tables={rule}") == 0
  )
  assert f"attn/bias_table (1, 49, 2) → (1, 225, 2), {rule}" in capsys.readouterr().out
  model, params = swin_jax.load(tmp_path / "wide")
  before = swin_jax.load(source)[1]["encoder"]["stage0"]["blocks"]["block1"]["attn"]["bias_table"]
  after = params["encoder"]["stage0"]["blocks"]["block1"]["attn"]["bias_table"]
  resize = bias_tables.resize_bias_table if rule == "geometric" else bias_tables.resize_bias_table_bicubic
  np.testing.assert_allclose(after[0], resize(np.asarray(before[0]), 225), atol=1e-6)
  assert model.apply(params, jnp.ones((1, 64, 64, 3))).shape == (1, 5)
  with pytest.raises(BadInput, match=r"load it with image_size=\(16, 16\)"):
    model.apply(params, jnp.ones((1, 16, 16, 3)))


@pytest.mark.parametrize("rule", choices.BANDS)
def test_other_bands(rule):
  """A new band gets the weights that the rule defines; images that are grey in every band give the same
  output as before.
  """
  kernel = np.random.default_rng(0).normal(size=(4 * 4 * 3, 8)).astype(np.float32)
  changed = transfer.change_bands(kernel, 3, 5, rule).reshape(16, 5, 8)
  old = kernel.reshape(16, 3, 8)
  expected = {
    "repeat": [old[:, i % 3] * 3 / 5 for i in range(5)],
    "mean": [old.mean(1) * 3 / 5] * 5,
    "zero": [old[:, 0], old[:, 1], old[:, 2], old[:, 0] * 0, old[:, 0] * 0],
  }[rule]
  np.testing.assert_allclose(changed, np.stack(expected, 1), rtol=1e-6)
  fewer = transfer.change_bands(kernel, 3, 1, rule).reshape(16, 1, 8)
  np.testing.assert_allclose(
    fewer[:, 0], {"repeat": 3 * old[:, 0], "mean": old.sum(1), "zero": old[:, 0]}[rule], rtol=1e-5, atol=1e-6
  )


@pytest.mark.slow
def test_new_bands_come_with_mean_and_std(tmp_path, capsys):
  """Where new bands have zero weights, an added band changes nothing; a repeated band is normalised like the
  first.
  """
  source = imported(tmp_path)
  assert command("adapt", source, tmp_path / "four", "--bands=4", "--band_rule=zero") == 0
  assert "mean 0.485, 0.456, 0.406, 0; std 0.229, 0.224, 0.225, 1" in capsys.readouterr().out
  (three, old), (four, new) = swin_jax.load(source), swin_jax.load(tmp_path / "four")
  image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
  more = np.concatenate([image, np.ones((1, 32, 32, 1), np.float32)], -1)
  np.testing.assert_allclose(
    four.apply(new, four.normalise(more)), three.apply(old, three.normalise(image)), rtol=1e-5, atol=1e-6
  )
  assert command("adapt", source, tmp_path / "six", "--bands=6") == 0
  six, new = swin_jax.load(tmp_path / "six")
  twice = six.apply(new, six.normalise(np.concatenate([image, image], -1)))
  np.testing.assert_allclose(twice, three.apply(old, three.normalise(image)), rtol=1e-4, atol=1e-5)
  assert "give both" in refusal(capsys, "adapt", source, tmp_path / "x", "--band_rule=mean")
  assert "has no bias tables" in refusal(capsys, "adapt", source, tmp_path / "x", "--bias_tables=bicubic")
  assert "--bands: '0' must be at least 1 and at most 4,096" in refusal(
    capsys, "adapt", source, tmp_path / "x", "--bands=0"
  )


def test_classes_by_a_map(tmp_path, capsys):
  source = imported(tmp_path)
  names = ["ant", "bee", "cat", "dog", "eel"]
  seals.edit(pathlib.Path(source, "config.json"), lambda config: config["data"].update(class_names=names))
  (tmp_path / "map.txt").write_text("4\n0\n")
  assert command("adapt", source, tmp_path / "two", f"--class_map={tmp_path}/map.txt") == 0
  (five, old), (two, new) = swin_jax.load(source), swin_jax.load(tmp_path / "two")
  images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  np.testing.assert_allclose(two.apply(new, images), five.apply(old, images)[:, [4, 0]], rtol=1e-6)
  assert [two.class_name(label) for label in (0, 1, 2)] == ["eel", "ant", "class 2"]
  (tmp_path / "map.txt").write_text("5\n0\n")
  words = ("adapt", source, tmp_path / "x", f"--class_map={tmp_path}/map.txt")
  assert "names class 5, but the saved head has classes 0 to 4" in refusal(capsys, *words)
  (tmp_path / "map.txt").write_text("cat\n")
  assert "needs one line per class with the number, from 0, of a saved class; line 1 has none" in refusal(
    capsys, *words
  )
  (tmp_path / "map.txt").write_text("1\n\n2\n")
  assert "line 2 has none" in refusal(capsys, *words)
  (tmp_path / "map.txt").write_text("")
  assert "line 1 has none" in refusal(capsys, *words)
  assert "cannot be read" in refusal(capsys, *words[:3], "--class_map=none.txt")


@pytest.mark.slow
@pytest.mark.parametrize("simmim", [False, True])
def test_a_fixed_bias_is_what_the_mlp_makes(tmp_path, simmim):
  model, params = swin_jax.load(imported(tmp_path, simmim=simmim))
  images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  inputs = (images, np.zeros((2, 8, 8), int)) if simmim else (images,)
  fixed = model.fix_bias(params)
  np.testing.assert_allclose(model.apply(fixed, *inputs), model.apply(params, *inputs), atol=1e-6)
  assert [
    f",{attention.BIAS_MLP_WIDTH}]" in str(jax.make_jaxpr(model.apply)(p, *inputs)) for p in (params, fixed)
  ] == [True, False]
  assert model.fix_bias(fixed) is fixed
  with pytest.raises(BadInput, match=r"the bias was fixed for windows other than \(2, 2\)"):
    model.features(fixed, images[:, :16, :16])


def test_v1_has_no_bias_to_fix(tmp_path):
  model, params = swin_jax.load(imported(tmp_path, version=1))
  assert model.fix_bias(params) is params
