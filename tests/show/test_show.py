"""Pictures: attention is drawn at the right place of the image, and Grad-CAM and principal components match
their definitions.
"""

import functools

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from swin_jax.data.view import masks
from swin_jax.drawing import panels as drawing
from swin_jax.models import layers, swin
from swin_jax.models.swin import attention_maps
from swin_jax.saved import description as descriptions
from swin_jax.saved import folder, pretrained
from swin_jax.show import __main__ as command
from swin_jax.show import attention, features, images, reconstruction
from swin_jax.show.grad_cam import grad_cam
from swin_jax.tasks import masked_loss
from swin_jax.terminal.errors import BadInput
from tests.support import blocks, slow_block


def describe(
  version=2,
  *,
  bands=3,
  image_size=(38, 24),
  classes=5,
  target_norm_window=None,
  mean=0.4,
  padding="masked",
):
  """Returns the description of a model with maps of 10 × 6 and 5 × 3 tokens: windows are padded, shifted, not
  square, and in the second stage as wide as the map.
  """
  return {
    "task": "classification" if target_norm_window is None else "masked_pixels",
    "model": dict(
      version=version,
      patch_size=4,
      embed_dim=16,
      depths=[4, 2],
      num_heads=[2, 4],
      window_sizes=[[4, 3], [4, 3]],
      trained_window_sizes=[[4, 3], [4, 3]] if version == 2 else [],
      mlp_ratio=2.0,
      extra_norm_every=0,
      padding=padding,
    ),
    "data": dict(
      image_size=list(image_size), dtype="uint8", mean=[mean] * bands, std=[0.25] * bands, class_names=[]
    ),
    "classification": dict(num_classes=0 if target_norm_window is not None else classes),
    "masked_pixels": dict(target_norm_window=target_norm_window or 0),
  }


@functools.cache
def load(version=2, **changes):
  description = describe(version, **changes)
  shapes = {
    path: jax.ShapeDtypeStruct(shape, jnp.float32)
    for path, shape in descriptions.parameter_shapes(description).items()
  }
  tree = flax.traverse_util.unflatten_dict(shapes, sep="/")
  return pretrained.Model(description), slow_block.random_params(tree, 0)


def photo(height=38, width=24, bands=3, seed=0):
  return np.random.default_rng(seed).random((height, width, bands)).astype(np.float32)


def block_params(params, stage, block):
  """Returns the parameters of one block of these models, whose blocks are stacked in pairs."""
  return jax.tree.map(
    lambda leaf: leaf[block // 2], params["encoder"][f"stage{stage}"]["blocks"][f"block{block % 2}"]
  )


@functools.cache
def block_input(version, stage, block, padding="masked"):
  """Computes a block's input for the photo with loops, float64 [H, W, C]."""
  model, params = load(version, padding=padding)
  x = model.normalise(photo())
  if stage == 0:
    x = layers.PatchEmbed((4, 4), 16, jnp.float32).apply(
      {"params": params["encoder"]["patch_embed"]}, x[None]
    )[0]
  else:
    x = model.features(params, x[None], [0])[0]
    x = layers.PatchMerge((2, 2), version == 1, jnp.float32).apply(
      {"params": params["encoder"]["merge0"]}, x
    )[0]
  for i in range(block):
    x = slow_block.block(
      x, block_params(params, stage, i), **geometry(version, stage, i), attended=padding == "attended"
    )
  return np.asarray(x)


def geometry(version, stage, block):
  return dict(
    version=version,
    num_heads=(2, 4)[stage],
    window=(4, 3),
    trained=(4, 3) if version == 2 else None,
    shifted=block % 2 == 1,
  )


# Attention.


@pytest.mark.slow
@pytest.mark.parametrize(
  "version, stage, block", [(1, 0, 2), (1, 0, 3), (1, 1, 1), (2, 0, 0), (2, 0, 3), (2, 1, 1)]
)
def test_attention_on_the_image_equals_loops_over_the_image(version, stage, block):
  """The loops use neither roll nor padding nor masks: tokens attend to the tokens in their cell of a grid on
  the image.
  """
  model, params = load(version)
  attended = attention.capture(model, params, photo(), stage, block)
  expected = slow_block.attention(
    block_input(version, stage, block), block_params(params, stage, block), **geometry(version, stage, block)
  )
  size = attended.map_size
  assert size == ((10, 6), (5, 3))[stage] and attended.stride == (4, 8)[stage]
  cell, _ = slow_block.cells(size, (4, 3), block % 2 == 1)
  for i, (row, column) in enumerate(np.ndindex(size)):
    looks = attended.of(row, column)
    np.testing.assert_allclose(looks, expected[:, i].reshape(-1, *size), atol=2e-4)
    np.testing.assert_allclose(looks.sum((1, 2)), 1.0, atol=1e-5)
    reach = (cell == cell[i]).all(1).reshape(size)
    np.testing.assert_array_equal(attended.reach(row, column), reach)
    assert (looks[:, ~reach] < 1e-30).all()  # nothing crosses an edge of the image
  np.testing.assert_allclose(attended.received(), expected.sum(1).reshape(-1, *size), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("version, stage, block", [(1, 0, 2), (1, 1, 1), (2, 0, 0), (2, 1, 1)])
def test_attention_with_attended_padding_equals_loops_over_the_padded_map(version, stage, block):
  """Each window at the bottom has rows of padding, which take attention away from the image."""
  model, params = load(version, padding="attended")
  captured = attention.capture(model, params, photo(), stage, block)
  expected = slow_block.attention(
    block_input(version, stage, block, "attended"),
    block_params(params, stage, block),
    **geometry(version, stage, block),
    attended=True,
  )
  size = captured.map_size
  assert expected.sum(-1).min() < 0.9
  for i, (row, column) in enumerate(np.ndindex(size)):
    np.testing.assert_allclose(captured.of(row, column), expected[:, i].reshape(-1, *size), atol=2e-4)
  np.testing.assert_allclose(captured.received(), expected.sum(1).reshape(-1, *size), atol=2e-3)


@pytest.mark.parametrize("version", [1, 2])
def test_the_weights_are_those_that_the_model_used(version):
  """Weights times values, projected, give the output of the attention layer."""
  model, params = load(version)
  inputs = model.normalise(photo())[None]

  @jax.jit
  def run(params, inputs):
    return model.module.apply(
      {"params": params},
      inputs,
      mutable=["intermediates"],
      capture_intermediates=lambda module, _: module.name == "attn",
    )[1]["intermediates"]["encoder"]["stage0"]["blocks"]["block1"]["attn"]

  kept = run(params, inputs)
  values, p = np.asarray(kept["attention"][0][0])[1][..., 2, :], block_params(params, 0, 3)["attn"]["proj"]
  weights = attention.capture(model, params, photo(), 0, 3).weights
  out = (
    np.einsum("mkqt,mtkd->mqkd", weights, values[0]).reshape(*weights.shape[:1], 12, 16) @ p["kernel"]
    + p["bias"]
  )
  expected = np.asarray(kept["__call__"][0])[1, 0]
  np.testing.assert_allclose(out, expected, atol=1e-5 * np.abs(expected).max())


def test_received_attention_of_uniform_weights_is_one():
  """The right two tokens of a window of 2 × 2 are padding. Each of the other two receives half the attention
  of both.
  """
  weights = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]] * 2, np.float32)[None, None]
  attended = attention_maps.Attention(
    weights, np.array([[0, -1, 1, -1]]), np.array([[0, -1, 0, -1]]), (2, 1), 4
  )
  np.testing.assert_array_equal(attended.received(), np.ones((1, 2, 1)))
  np.testing.assert_array_equal(attended.reach(1, 0), [[True], [True]])


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "block"])
@pytest.mark.parametrize("version", [1, 2])
def test_what_is_left_for_pictures_costs_training_nothing(version, remat, monkeypatch):
  encoder = swin.make_encoder(
    version=version,
    patch_size=4,
    embed_dim=16,
    depths=(4, 2),
    num_heads=(2, 4),
    window_sizes=(4, 4),
    trained_window_sizes=(),
    mlp_ratio=2.0,
    drop_path_rate=0.1,
    extra_norm_every=0,
    remat=remat,
    unroll=False,
    dtype="bfloat16",
  )
  x = np.zeros((1, 32, 32, 3), np.float32)

  def program():
    variables = jax.eval_shape(lambda: encoder.init(jax.random.key(0), x))
    assert set(variables) == {"params"}
    params = flax.core.meta.unbox(variables)["params"]

    def loss(params, rng):
      return encoder.apply({"params": params}, x, train=True, rngs={"dropout": rng})[0].sum()

    return str(jax.make_jaxpr(jax.grad(loss))(params, jax.random.key(0)))

  ours = program()
  monkeypatch.setattr(nn.Module, "sow", lambda *args, **kwargs: False)
  assert ours == program()


# Grad-CAM.


def tail(params, features, stage):
  """Computes the logits from a stage's output, layer by layer."""
  x, encoder = features, params["encoder"]
  if stage == 0:
    x = layers.PatchMerge((2, 2), False, jnp.float32).apply({"params": encoder["merge0"]}, x)
    stage1 = blocks.stage(window=(4, 3), heads=4)
    x, _ = stage1.apply({"params": encoder["stage1"]}, x, None, train=False)
  x = layers.LayerNorm(jnp.float32).apply({"params": encoder["norm"]}, x)
  return (jnp.mean(x, (1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None])[0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_grad_cam_is_the_weighted_sum_of_the_paper(stage):
  model, params = load()
  features_of = model.features(params, model.normalise(photo())[None], [stage])[0]

  def worst(x):
    logits = tail(params, x, stage)
    return logits.min(), logits

  gradient, logits = jax.jit(jax.grad(worst, has_aux=True))(features_of)
  label, gradient = int(np.argmin(logits)), np.asarray(gradient, np.float64)
  expected = np.maximum((gradient.mean((1, 2)) * np.asarray(features_of)).sum(-1), 0.0)[0]
  cam = grad_cam(model, params, photo(), label, stage)
  assert cam.label == label and cam.stride == 4 * 2**stage and 0 < (expected > 0).mean() < 1
  np.testing.assert_allclose(cam.heat, expected, atol=1e-4 * expected.max())
  np.testing.assert_allclose(cam.probability, jax.nn.softmax(logits)[label], rtol=1e-3)


def test_grad_cam_takes_the_predicted_class():
  model, params = load()
  best = int(model.apply(params, model.normalise(photo())[None]).argmax())
  cam = grad_cam(model, params, photo())
  assert cam.label == best and cam.heat.shape == (5, 3)
  np.testing.assert_allclose(cam.heat, grad_cam(model, params, photo(), best).heat, rtol=1e-4, atol=1e-6)


def test_grad_cam_calls_the_class_by_its_name(monkeypatch):
  model, params = load()
  monkeypatch.setattr(drawing, "sheet", lambda panels, columns: [caption for caption, _ in panels])
  assert attention.picture(model, params, photo(), label=2)[2].startswith("Grad-CAM: class 2 (")
  monkeypatch.setitem(model.description["data"], "class_names", ["ant", "bee", "cat"])
  assert attention.picture(model, params, photo(), label=2)[2].startswith("Grad-CAM: cat (")


# Reconstruction.


@pytest.mark.parametrize("window", [0, 5])
def test_reconstruction_is_the_models_in_pixels(window):
  model, params = load(image_size=(32, 16), target_norm_window=window)
  image = photo(32, 16)
  reconstructed, masked = reconstruction.reconstruct(model, params, image, mask_ratio=0.5, seed=3)
  # a mask cell is a token of the last stage
  mask = masks.block_mask(np.random.default_rng(3), (32, 16), 8, 4, 0.5)
  np.testing.assert_array_equal(masked[:, :, 0], mask.repeat(4, 0).repeat(4, 1))
  normalised = (image - model.mean) / model.std
  out = np.asarray(model.apply(params, normalised[None], mask[None]))[0]
  if window:
    mean, std = (np.asarray(x)[0] for x in masked_loss.local_statistics(normalised[None], window))
    out = out * std + mean
  np.testing.assert_allclose(reconstructed, out * model.std + model.mean, atol=1e-5 * np.abs(out).max())


def test_the_normalisation_of_targets_is_undone():
  x = photo()[None]
  np.testing.assert_allclose(masked_loss.in_pixels(masked_loss.normalise_target(x, 5), x, 5), x, atol=1e-5)
  assert masked_loss.in_pixels(x, 2 * x, 0) is x


def test_picture_of_a_reconstruction():
  """Panels have 192 pixels on the short side and are 8 pixels apart; unmasked pixels are pasted from the
  original.
  """
  model, params = load(image_size=(32, 16), target_norm_window=0)
  image = photo(32, 16)
  sheet = np.asarray(reconstruction.picture(model, params, image, mask_ratio=0.5, bands=(2, 1, 0)))
  _, masked = reconstruction.reconstruct(model, params, image, mask_ratio=0.5)
  masked, top = masked[:, :, 0].repeat(12, 0).repeat(12, 1), sheet.shape[0] - 8 - 384
  original, hidden, reconstructed, pasted = (
    sheet[top : top + 384, 8 + 200 * i : 200 + 200 * i] for i in range(4)
  )
  np.testing.assert_array_equal(
    original, np.round(image[:, :, ::-1] * 255).astype(np.uint8).repeat(12, 0).repeat(12, 1)
  )
  assert (hidden[masked] == drawing.GREY).all()
  np.testing.assert_array_equal(hidden[~masked], original[~masked])
  np.testing.assert_array_equal(pasted[masked], reconstructed[masked])
  np.testing.assert_array_equal(pasted[~masked], original[~masked])
  assert (reconstructed != original).any(-1).mean() > 0.9


# Features.


def test_features_are_principal_components_of_all_images_together():
  model, params = load()
  photos = [photo(seed=0), photo(seed=1) * 0.3, photo(seed=0)]
  ours = features.components(model, params, photos)
  inputs = np.stack([(x - model.mean) / model.std for x in photos])
  for stage, (projected, maps) in enumerate(zip(ours, model.features(params, inputs, [0, 1]), strict=True)):
    assert projected.shape == (3, *((10, 6), (5, 3))[stage], 3)
    x = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
    x = x - x.mean(0)
    values = x @ np.linalg.svd(x, full_matrices=False)[2][:3].T
    low, high = np.percentile(values, (2, 98), axis=0)
    expected = np.clip((values - low) / (high - low), 0, 1).reshape(projected.shape)
    for i in range(3):  # the sign of a component is arbitrary
      error = min(
        np.abs(projected[..., i] - expected[..., i]).max(),
        np.abs(1 - projected[..., i] - expected[..., i]).max(),
      )
      assert error < 1e-3
    np.testing.assert_array_equal(projected[0], projected[2])


def test_features_of_one_token_are_finite():
  """The second stage has no variance at all for a single image of 8 pixels."""
  model, params = load()
  small = features.components(model, params, [photo(8, 8)])[1]
  assert small.shape == (1, 1, 1, 3) and np.isfinite(small).all()


# Drawing.


def test_colours_of_bands():
  image = photo(200, 250, 3)
  np.testing.assert_array_equal(drawing.to_rgb(image, image), np.round(image * 255).astype(np.uint8))
  np.testing.assert_array_equal(drawing.to_rgb(image + 9, image)[0, 0], [255] * 3)
  np.testing.assert_array_equal(
    drawing.to_rgb(image, image, (1,)), np.round(image[:, :, [1] * 3] * 255).astype(np.uint8)
  )
  wide = photo(200, 250, 13) * np.arange(1, 14, dtype=np.float32) * 50 - 7
  shown = drawing.to_rgb(wide, wide, (3, 12, 1)) / 255
  low, high = np.percentile(wide, (2, 98), axis=(0, 1))
  np.testing.assert_allclose(
    shown, np.clip((wide - low) / (high - low), 0, 1)[:, :, [3, 12, 1]], atol=1 / 255
  )
  np.testing.assert_allclose(
    drawing.to_rgb(wide * 0 + low + 0.25 * (high - low), wide) / 255, 0.25, atol=1 / 255
  )
  outside = drawing.to_rgb(image * 4, image * 4) / 255  # three bands, but not within 0..1
  assert (
    (outside == 0).mean() > 0.01 and (outside == 1).mean() > 0.01 and abs(np.median(outside) - 0.5) < 0.02
  )
  with pytest.raises(BadInput, match="no band 13; they have bands 0 to 12"):
    drawing.to_rgb(wide, wide, (0, 1, 13))


def test_heat_gets_lighter():
  values = np.linspace(0, 2, 50)[None].repeat(3, 0)
  panel = drawing.heat(np.full((3, 50, 3), 90, np.uint8), values, np.arange(3)[:, None].repeat(50, 1) < 2)
  light = panel[:2].astype(int) @ [299, 587, 114]
  assert (np.diff(light, axis=1) > 0).all()
  assert (panel[2] == round(0.4 * 90 + 0.6 * 255)).all()


def test_tokens_cover_their_pixels():
  values = np.arange(6, dtype=np.float32).reshape(2, 3)
  spread = drawing.spread(values, 4, (7, 11))
  assert spread.shape == (7, 11)
  for y, x in np.ndindex(7, 11):
    assert spread[y, x] == values[y // 4, x // 4]
  smooth = drawing.spread(values, 4, (7, 11), smooth=True)
  assert smooth.shape == (7, 11) and (np.diff(smooth, axis=1) >= 0).all() and smooth[0, 0] == 0


def test_a_frame_stays_in_the_picture():
  panel = np.full((20, 20, 3), 100, np.uint8)
  framed = drawing.frame(panel, (12, 12, 24, 24))  # the frame of a token that extends beyond the image
  assert (framed[10:, 19] == 0).all() and (framed[19, 10:] == 0).all() and (framed[11, 11:19] == 255).all()
  assert (framed[12:18, 12:18] == 100).all() and (framed[:10] == 100).all() and (framed[:, :10] == 100).all()


def test_a_long_caption_is_made_to_fit():
  panels = [
    (caption, np.full((192, 192, 3), 255, np.uint8))
    for caption in ("a", "Grad-CAM: " + "a class of a long name " * 3)
  ]
  ink = (np.asarray(drawing.sheet(panels, 2)) < 128).any((0, 2))
  assert (
    90 < ink[8:200].argmax() < 100 and ink[208:400].any() and not ink[200:206].any() and not ink[402:].any()
  )


def test_rows_of_a_sheet():
  panels = [(str(i), np.full((192, 192, 3), 10 * i, np.uint8)) for i in range(5)]
  sheet = np.asarray(drawing.sheet(panels, 4))
  assert sheet.shape[1] == 8 + 3 * 200  # three panels and two
  line = (sheet.shape[0] - 8) // 2 - 200
  for i in range(5):
    y, x = 8 + i // 3 * (line + 200) + line, 8 + i % 3 * 200
    assert (sheet[y : y + 192, x : x + 192] == 10 * i).all()


# Images.


def write(path, array):
  np.save(path, array) if path.suffix == ".npy" else Image.fromarray(array).save(path)
  return path


def test_images_of_a_folder(tmp_path):
  pixels = (photo(60, 30) * 255).astype(np.uint8)
  (tmp_path / "b").mkdir()
  (tmp_path / ".hidden").mkdir()
  for name in ("2.png", "b/1.png", ".hidden/0.png", "note.txt"):
    Image.fromarray(pixels).save(tmp_path / name, "PNG")
  model, _ = load()
  loaded = list(images.read(model, tmp_path))
  assert [name for name, _ in loaded] == ["2", "1"]
  assert (
    loaded[0][1].shape == (38, 24, 3)
    and loaded[0][1].dtype == np.float32
    and 0 <= loaded[0][1].min() <= loaded[0][1].max() <= 1
  )


def test_an_image_of_the_right_size_is_as_it_was(tmp_path):
  pixels = (photo() * 255).astype(np.uint8)
  model, _ = load()
  for array in (pixels, pixels / 255.0):
    ((name, image),) = images.read(model, write(tmp_path / "a.npy", array))
    assert name == "a"
    np.testing.assert_allclose(image, pixels / 255.0, atol=1e-6)


def test_only_the_ends_of_the_longer_side_are_cut_off(tmp_path):
  """The central 76 × 48 pixels are resized to 38 × 24."""
  wide = np.zeros((76, 200, 3), np.uint8)
  wide[:, 76:124] = 200
  ((_, image),) = images.read(load()[0], write(tmp_path / "wide.png", wide))
  np.testing.assert_allclose(image, 200 / 255, atol=1e-6)
  tall = wide.transpose(1, 0, 2)[:, :48]
  ((_, image),) = images.read(load()[0], write(tmp_path / "tall.png", tall))
  np.testing.assert_allclose(image[7:31], 200 / 255, atol=0.1)  # 48 of 76 rows
  assert image[:6].max() < 0.1 and image[32:].max() < 0.1


def test_float_is_resized_as_bytes_are(tmp_path):
  pixels = np.asarray(Image.fromarray((photo(8, 5) * 155 + 50).astype(np.uint8)).resize((75, 120)))
  model, _ = load()
  resized = [
    next(images.read(model, write(tmp_path / "a.npy", array)))[1]
    for array in (pixels, (pixels / 255).astype(np.float32))
  ]
  np.testing.assert_allclose(resized[0], resized[1], atol=1.01 / 255)


def test_grey_and_colours(tmp_path):
  pixels = (photo() * 255).astype(np.uint8)
  grey, colour = load(bands=1)[0], load()[0]
  luma = np.asarray(Image.fromarray(pixels).convert("L")) / 255
  for path in (write(tmp_path / "c.png", pixels), write(tmp_path / "c.npy", pixels / 255.0)):
    np.testing.assert_allclose(next(images.read(grey, path))[1][:, :, 0], luma, atol=1.01 / 255)
  for array in (pixels[:, :, 0], pixels[:, :, :1] / 255.0):
    image = next(images.read(colour, write(tmp_path / "g.npy", array)))[1]
    np.testing.assert_allclose(image, pixels[:, :, [0] * 3] / 255, atol=1e-6)


def test_arrays_of_many_bands_and_images(tmp_path):
  model, _ = load(bands=13)
  several = np.stack([photo(bands=13, seed=i) for i in range(11)])
  np.savez(tmp_path / "scenes.npz", bands=several, clouds=several[..., 0], dates=np.arange(11))
  loaded = list(images.read(model, tmp_path / "scenes.npz"))
  assert [name for name, _ in loaded][::10] == ["scenes-00", "scenes-10"]
  np.testing.assert_array_equal(np.stack([image for _, image in loaded]), several)


# The command.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Writes model folders: a classifier, a backbone without head, a masked-image model."""
  root = tmp_path_factory.mktemp("models")
  for name, changes in {
    "classifier": {},
    "headless": dict(classes=0),
    "masked": dict(image_size=(32, 16), target_norm_window=5),
  }.items():
    model, params = load(**changes)
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    folder.write(
      str(root / name), model.description, {path: leaf.shape for path, leaf in flat.items()}, flat.__getitem__
    )
  return root


@pytest.fixture
def two(tmp_path):
  """Writes two images with the same name, and an array."""
  for i, name in enumerate(("in/cat.png", "in/more/cat.png")):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, (photo(50, 70, seed=i) * 255).astype(np.uint8))
  np.save(tmp_path / "in/dog.npy", photo())
  return tmp_path / "in"


def show(*words):
  return command.main(["show", *map(str, words)])


@pytest.mark.slow
@pytest.mark.parametrize(
  "words, panels",
  [
    (("reconstruct", "masked", "--bands=0", "--mask_patch=16", "--seed=2", "--image_size=32,16"), (1, 4)),
    (
      (
        "attention",
        "classifier",
        "--stage=0",
        "--block=3",
        "--head=1",
        "--at=0.1,1.0",
        "--at=37,0",
        "--class=2",
      ),
      (2, 3),
    ),
    (("attention", "headless", "--head=mean", "--window=5"), (2, 4)),
    (("features", "masked", "--window=4,2"), (1, 3)),
  ],
  ids=("reconstruct", "attention", "attention without head", "features"),
)
def test_the_command_writes_pictures(words, panels, saved, two, tmp_path, capsys):
  name, model, *rest = words
  assert show(name, saved / model, two, f"--out={tmp_path / 'a/b'}", *rest) == 0
  written = sorted((tmp_path / "a/b").iterdir())
  assert [path.name for path in written] == [f"cat-2-{name}.png", f"cat-{name}.png", f"dog-{name}.png"]
  assert capsys.readouterr().out.splitlines() == [
    f"wrote {path}" for path in (written[1], written[2], written[0])
  ]
  pixels = [np.asarray(Image.open(path)) for path in written]
  height = 384 if model == "masked" else 304
  assert pixels[0].shape[1] == 8 + panels[1] * (192 + 8)
  assert panels[0] * height < pixels[0].shape[0] < panels[0] * (height + 40)
  assert (pixels[0] != pixels[1]).any()


@pytest.mark.slow
def test_a_bad_file_costs_no_other_its_picture_and_no_picture_is_written_over(saved, tmp_path, capsys):
  (tmp_path / "in").mkdir()
  for name in ("a.png", "d.png"):
    (tmp_path / "in" / name).write_text("no image")
  np.save(tmp_path / "in/b.npy", photo())
  np.save(tmp_path / "in/c.npy", photo(bands=1))
  np.save(tmp_path / "in/e.npy", photo(bands=4))
  for name in ("attention", "features"):
    message = refused(capsys, name, saved / "classifier", tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert message.startswith(f"{tmp_path / 'in/a.png'} cannot be read as an image")
    assert message.endswith("; 2 others were refused too; 2 pictures of the others were written")
  (tmp_path / "out/b-features.png").write_text("mine")
  assert show("features", saved / "classifier", tmp_path / "in/b.npy", f"--out={tmp_path / 'out'}") == 0
  assert (tmp_path / "out/b-features.png").read_text() == "mine"
  assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
    "b-2-features.png",
    "b-attention.png",
    "b-features.png",
    "c-attention.png",
    "c-features.png",
  ]


def test_masks_differ_and_can_be_had_again(saved, two, tmp_path):
  def masked(out, *flags):
    assert (
      show(
        "reconstruct", saved / "masked", two / "dog.npy", two / "dog.npy", f"--out={tmp_path / out}", *flags
      )
      == 0
    )
    return [np.asarray(Image.open(path))[:, 208:400] for path in sorted((tmp_path / out).iterdir())]

  first, again, other = masked("a"), masked("b", "--seed=0"), masked("c", "--seed=7")
  assert (first[0] != first[1]).any() and (first[0] != other[0]).any()
  np.testing.assert_array_equal(first, again)


def refused(capsys, *words):
  assert show(*words) == 2
  out, err = capsys.readouterr()
  assert err.count("\n") == 1 and "Traceback" not in err
  return err.removeprefix("swin_jax: ").strip()


@pytest.mark.slow
@pytest.mark.parametrize(
  "words, message",
  [
    (("reconstruct", "classifier"), "the model is not a masked-image model"),
    (("reconstruct", "masked", "--mask_patch=12"), "mask patches of 12 px must divide the image"),
    (("reconstruct", "masked", "--mask_patch=0"), "--mask_patch: '0' must be at least 1"),
    (("reconstruct", "masked", "--mask_ratio=1.5"), "--mask_ratio: '1.5' must be at least 0 and at most 1"),
    (("reconstruct", "masked", "--bands=3"), "the images have no band 3; they have bands 0 to 2"),
    (("reconstruct", "masked", "--bands=1,2"), "--bands: takes 1 or 3 values separated by commas, got 2"),
    (("attention", "headless", "--class=1"), "the model has no head"),
    (("attention", "masked", "--class=1"), "the model has no head"),
    (("attention", "classifier", "--class=5"), "the model has no class 5; it has classes 0 to 4"),
    (("attention", "classifier", "--cam_stage=2"), "the model has no stage 2; it has stages 0 to 1"),
    (("attention", "classifier", "--stage=2"), "the model has no stage 2; it has stages 0 to 1"),
    (("attention", "classifier", "--stage=-1"), "--stage: '-1' must be at least 0"),
    (("attention", "classifier", "--block=4"), "stage 0 has no block 4; it has blocks 0 to 3"),
    (("attention", "classifier", "--head=2"), "this block has no head 2; it has heads 0 to 1"),
    (("attention", "classifier", "--head=most"), "'most' must be mean, or the number of a head"),
    (("attention", "classifier", "--at=0.5"), "'0.5' must be like 0.5,0.5 or 112,112"),
    (("attention", "classifier", "--at=38,0"), "38,0 is not in the image of 38 × 24 px"),
    (("attention", "classifier", "--at=0.5,1.1"), "0.5,1.1 is not in the image"),
    (("features", "classifier", "--window=0"), "--window: '0' must be at least 1"),
    (("features", "classifier", "--stage=0"), "--stage is unknown"),
    (("features", "nothing"), "nothing"),
  ],
  ids=str,
)
def test_what_cannot_be_shown_is_said_in_a_line(words, message, saved, two, tmp_path, capsys):
  assert message in refused(capsys, words[0], saved / words[1], two, f"--out={tmp_path / 'out'}", *words[2:])


@pytest.mark.slow
def test_images_that_cannot_be_read(saved, tmp_path, capsys):
  def said(file, array=None, model="classifier"):
    if array is not None:
      np.save(tmp_path / file, array)
    return refused(capsys, "features", saved / model, tmp_path / file, f"--out={tmp_path / 'out'}")

  assert said("absent.png") == f"{tmp_path / 'absent.png'}: no such file or folder"
  (tmp_path / "empty").mkdir()
  assert said("empty").startswith(f"{tmp_path / 'empty'} holds no image (.jpg ")
  for name in ("text.png", "text.npy", "text.npz"):
    (tmp_path / name).write_text("no image")
    assert said(name).startswith(f"{tmp_path / name} cannot be read as an ")
  (tmp_path / "cut.npy").write_bytes(
    (tmp_path / "four.npy").read_bytes()[:900] if said("four.npy", photo(bands=4)) else b""
  )
  assert "cannot be read as an array" in said("cut.npy")
  assert said("four.npy").endswith("four.npy has 4 bands, not 3")
  assert said("bytes.npy", np.zeros((8, 8, 4), np.uint8)).endswith("has 4 bands, not 3")
  assert "has uint16 pixels from 999 to 999" in said("wide.npy", np.full((8, 8, 3), 999, np.uint16))
  assert "divide them by 255" in said("floats.npy", np.full((8, 8, 3), 200.0))
  assert said("nan.npy", np.full((8, 8, 3), np.nan)).endswith("holds numbers that are not finite")
  assert said("line.npy", np.zeros(5)).endswith("is [5], not [height, width, bands]")
  assert said("none.npy", np.zeros((0, 8, 8, 3))).endswith("holds no image")
  assert "cannot be read as an array" in said("objects.npy", np.array([{}], object))
  np.savez(tmp_path / "two.npz", a=photo(), b=photo(), c=np.zeros(3))
  assert said("two.npz").endswith(
    "must hold one array [..., height, width, 3], the model's bands; it holds a [38, 24, 3], b [38, 24, 3],"
    " c [3]"
  )


def test_a_folder_that_cannot_be_written(saved, two, tmp_path, capsys):
  (tmp_path / "file").write_text("")
  for out in ("file", "file/below"):
    message = refused(capsys, "features", saved / "classifier", two, f"--out={tmp_path / out}")
    assert message.startswith(f"--out={tmp_path / out} cannot be created")
