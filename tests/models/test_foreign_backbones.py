"""Features of models that torchvision, timm and transformers make during the test, and of golden files of
segmentation models, equal to those of the same weights here.
"""

import numpy as np
import pytest
from safetensors.numpy import load_file

import swin_jax
from tests.support.folders import command
from tests.support.golden import golden

torch = pytest.importorskip("torch", reason="torch is not installed; pip install -r requirements-peers.txt")
import safetensors.torch  # noqa: E402  (needs torch)

from tests.support import peers  # noqa: E402  (needs torch)

pytestmark = [pytest.mark.every_python, pytest.mark.slow]
NEEDS = "is not installed; pip install -r requirements-peers.txt"
SIZES = dict(embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))


def normed(features, weights, name):
  """Returns a map after the layer norm that dense models of transformers have for every stage."""
  features = np.asarray(features)
  mean, variance = features.mean(-1, keepdims=True), features.var(-1, keepdims=True)
  scale, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
  return ((features - mean) / np.sqrt(variance + 1e-5) * scale + bias).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("kind", ["exact", "padded"])
@pytest.mark.parametrize(
  "file, size", [("window4", 128), ("window4_fork.pth", 128), ("window4_mmseg.pth", 128), ("window7", 224)]
)
def test_encoders_of_upernet(file, size, kind, tmp_path):
  """Windows do not shrink and padding takes part in attention, as in the published segmentation models."""
  case = f"upernet/upernet_swin_{file.partition('_')[0]}"
  source = golden(f"upernet/upernet_swin_{file}")
  words = ("import", source, tmp_path / "ours", "--encoder_only", f"--image_size={size}")
  assert command(*words) == 0
  values = np.load(golden(f"{case}.npz"))
  weights = load_file(golden(case) / "model.safetensors")
  model, params = swin_jax.load(tmp_path / "ours")
  maps = model.features(params, values[f"{kind}/image"].transpose(0, 2, 3, 1))
  for i, ours in enumerate(maps):
    ours = normed(ours, weights, f"backbone.hidden_states_norms.stage{i + 1}")
    peers.check(ours, torch.tensor(values[f"{kind}/map{i}"]), 2e-5)


def torchvision_model(version):
  torchvision = pytest.importorskip("torchvision", reason=f"torchvision {NEEDS}, on Python 3.12 or newer")
  swin = torchvision.models.swin_transformer
  arguments = dict(patch_size=[4, 4], window_size=[4, 4], num_classes=5, **SIZES)
  if version == 2:
    arguments |= dict(block=swin.SwinTransformerBlockV2, downsample_layer=swin.PatchMergingV2)
  model = peers.randomise(swin.SwinTransformer(**arguments))
  with torch.no_grad():  # the bias of keys, which is ignored, is zero in every published file
    for name, parameter in model.named_parameters():
      if version == 2 and name.endswith("qkv.bias"):
        parameter.chunk(3)[1].zero_()
  return torchvision, model


@pytest.mark.parametrize("size", [(128, 128), (144, 144), (128, 256)])
@pytest.mark.parametrize("version", [1, 2])
def test_torchvision(version, size, tmp_path, capsys):
  """At 144 px, maps have 36, 18, 9 and 5 tokens, so that padding takes part in attention. At 128 × 256 px,
  the last map is shifted along one axis.
  """
  torchvision, theirs = torchvision_model(version)
  torch.save(theirs.state_dict(), tmp_path / "x.pth")
  flags = [f"--image_size={size[0]},{size[1]}"] if size != (128, 128) else []
  assert command("import", tmp_path / "x.pth", tmp_path / "ours", *flags) == 0
  images = peers.pixels(2, size)
  maps, x = [], peers.to_torch(images)
  for layer in theirs.features:  # patches, then stages and mergings in turn
    x = layer(x)
    maps.append(x)
  model, params = swin_jax.load(tmp_path / "ours")
  assert model.image_size == size
  for ours, expected in zip(model.features(params, images), maps[1::2], strict=True):
    peers.check(ours, expected, 2e-5)
  logits = theirs(peers.to_torch(images))
  peers.check(model.apply(params, images), logits, 2e-5)
  capsys.readouterr()
  back = tmp_path / "back.safetensors"
  assert command("export", tmp_path / "ours", back, "--layout=torchvision") == 0
  before, after = theirs.state_dict(), load_file(back)
  assert before.keys() == after.keys()
  for name, value in before.items():
    assert after[name].shape == tuple(value.shape), name
    if "relative" not in name or name.endswith("bias_table"):
      assert after[name].tobytes() == value.numpy().tobytes(), name
  names = {"torchvision": torchvision, "safetensors": safetensors}
  exec(capsys.readouterr().out.splitlines()[-1], names)  # run the loading code that the command printed
  assert torch.equal(names["model"].eval()(peers.to_torch(images)), logits)


@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (0, 2)])
@pytest.mark.parametrize(
  "version, size, window, trained", [(2, 128, 4, (0, 0, 0, 0)), (2, 128, 8, (4, 4, 4, 2)), (1, 128, 4, ())]
)
def test_features_only_of_timm(version, size, window, trained, stages, tmp_path):
  timm = pytest.importorskip("timm", reason=f"timm {NEEDS}, on Python 3.12 or newer")
  name = "swinv2_tiny_window8_256" if version == 2 else "swin_tiny_patch4_window7_224"
  arguments = dict(SIZES, img_size=size, window_size=window, features_only=True, out_indices=stages)
  if version == 2:
    arguments["pretrained_window_sizes"] = trained
  theirs = peers.randomise(timm.create_model(name, pretrained=False, **arguments))
  torch.save(theirs.state_dict(), tmp_path / "x.pth")
  flags = [f"--image_size={size}"]
  if version == 2:
    trained = trained[: stages[-1] + 1]
    flags += [f"--window={window}", f"--trained_window={','.join(map(str, trained))}"]
  assert command("import", tmp_path / "x.pth", tmp_path / "ours", *flags) == 0
  images = peers.pixels(2, size)
  model, params = swin_jax.load(tmp_path / "ours")
  ours = model.features(params, images, stages)
  for our_map, expected in zip(ours, theirs(peers.to_torch(images)), strict=True):
    peers.check(our_map, expected, 2e-5)


@pytest.mark.parametrize("size", [128, 160])
@pytest.mark.parametrize("version", [1, 2])
def test_backbones_of_transformers(version, size, tmp_path):
  """At 160 px, maps have 40, 20, 10 and 5 tokens, so that padding takes part in attention."""
  transformers = pytest.importorskip("transformers", reason=f"transformers {NEEDS}")
  family = "Swinv2" if version == 2 else "Swin"
  stages = [f"stage{i + 1}" for i in range(4)]
  config = getattr(transformers, f"{family}Config")(
    image_size=size, window_size=4, out_features=stages, **SIZES
  )
  theirs = peers.randomise(getattr(transformers, f"{family}Backbone")(config))
  theirs.save_pretrained(tmp_path / "hf")
  assert command("import", tmp_path / "hf", tmp_path / "ours") == 0
  images = peers.pixels(2, size)
  maps = theirs(peers.to_torch(images)).feature_maps
  model, params = swin_jax.load(tmp_path / "ours")
  norms = load_file(tmp_path / "hf" / "model.safetensors")
  for stage, ours, expected in zip(stages, model.features(params, images), maps, strict=True):
    # V1's backbone norms the map of every stage; ours leaves that to the heads
    name = f"hidden_states_norms.{stage}"
    ours = normed(ours, norms, name) if version == 1 else np.asarray(ours).transpose(0, 3, 1, 2)
    peers.check(ours, expected, 1e-4)
  if version == 1:
    scale = params["encoder"]["norm"]["scale"]
    np.testing.assert_array_equal(scale, norms["hidden_states_norms.stage4.weight"])


def test_the_encoder_of_donut(tmp_path):
  """It has no last norm, and its config is nested in that of an encoder and decoder."""
  transformers = pytest.importorskip("transformers", reason=f"transformers {NEEDS}")
  encoder = transformers.DonutSwinConfig(image_size=[160, 192], window_size=4, **SIZES)
  decoder = transformers.MBartConfig(
    vocab_size=20,
    d_model=128,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=8,
    is_decoder=True,
  )
  config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
  theirs = peers.randomise(transformers.VisionEncoderDecoderModel(config))
  theirs.save_pretrained(tmp_path / "hf")
  assert command("import", tmp_path / "hf", tmp_path / "ours", "--encoder_only") == 0
  images = np.random.default_rng(1).normal(size=(1, 160, 192, 3)).astype(np.float32)
  expected = theirs.encoder(peers.to_torch(images)).last_hidden_state
  model, params = swin_jax.load(tmp_path / "ours")
  assert model.image_size == (160, 192)
  peers.check(np.asarray(model.features(params, images, [3])[0]).reshape(1, 30, 128), expected, 1e-4)
