"""Comparison with the original libraries: files written by torch, and models that transformers and timm
create during the test.
"""

import numpy as np
import pytest
from safetensors.numpy import load_file

import swin_jax
from swin_jax.models import windows
from swin_jax.models.swin import bias_tables
from swin_jax.weights import layouts
from tests.support import official
from tests.support.folders import TINY, command, refusal

torch = pytest.importorskip("torch", reason="torch is not installed; pip install -r requirements-peers.txt")
import safetensors.torch  # noqa: E402  (needs torch)

from tests.support import peers  # noqa: E402  (needs torch)

pytestmark = pytest.mark.every_python

NEEDS = "is not installed; pip install -r requirements-peers.txt"


def torch_state(**changes):
  """Returns a state dict of the official code, as torch holds it."""
  return {
    name: torch.tensor(value)
    for name, value in official.random(official.state_dict(2, **TINY | changes)).items()
  }


@pytest.mark.parametrize("entry", ["model", "module", "state_dict", None])
def test_files_of_torch(entry, tmp_path):
  state = torch_state()
  torch.save(
    state if entry is None else {entry: state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
    tmp_path / "x.pth",
  )
  assert command("import", tmp_path / "x.pth", tmp_path / "ours") == 0
  assert command("export", tmp_path / "ours", tmp_path / "x.safetensors", "--layout=official") == 0
  back = load_file(tmp_path / "x.safetensors")
  assert back.keys() == state.keys()
  assert all(np.array_equal(back[name], state[name].numpy()) for name in state if not layouts.is_buffer(name))


def test_a_deepspeed_file_of_14_bands_with_extra_norms(tmp_path, capsys):
  """The file resembles SatVision's: half precision, under `module`, an extra norm every few blocks."""
  state = torch_state(simmim=True, bands=14, depths=(2, 6), extra_norm_every=3, image_size=64)
  halved = {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()}
  torch.save(
    {"module": halved, "ds_config": {"zero": 2}, "global_steps": 7}, tmp_path / "mp_rank_00_model_states.pt"
  )
  capsys.readouterr()
  assert command("import", tmp_path / "mp_rank_00_model_states.pt", tmp_path / "ours") == 0
  assert "an extra norm every 3 blocks, 14 bands" in capsys.readouterr().out
  model, params = swin_jax.load(tmp_path / "ours")
  assert model.apply(params, peers.pixels(1, 64, 14), np.zeros((1, 16, 16), bool)).shape == (1, 64, 64, 14)
  kernel = params["encoder"]["stage1"]["blocks"]["block5"]["mlp"]["fc2"]["kernel"][0]
  np.testing.assert_array_equal(kernel, halved["encoder.layers.1.blocks.5.mlp.fc2.weight"].float().numpy().T)


class Settings:
  """Stands for the config object that checkpoints of the official training code hold."""


def test_a_pickle_is_refused_unless_asked_for(tmp_path, capsys):
  torch.save({"model": torch_state(), "config": Settings()}, tmp_path / "x.pth")
  said = refusal(capsys, "import", tmp_path / "x.pth", tmp_path / "ours")
  assert "holds more than tensors" in said and "if you trust them: --allow_pickle" in said
  assert not (tmp_path / "ours").exists()
  assert command("import", tmp_path / "x.pth", tmp_path / "ours", "--allow_pickle") == 0


def test_other_files_of_torch_are_refused(tmp_path, capsys):
  torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "x.pth")
  said = refusal(capsys, "import", tmp_path / "x.pth", tmp_path / "ours")
  assert (
    "has no entry 'model' with weights (nor 'module' or 'state_dict'); its entries are epoch, optimizer"
    in said
  )
  torch.save([torch.zeros(3)], tmp_path / "x.pth")
  assert "it is a list" in refusal(capsys, "import", tmp_path / "x.pth", tmp_path / "ours")
  torch.save({"model": torch_state()}, tmp_path / "x.pth")
  whole = (tmp_path / "x.pth").read_bytes()
  for cut in (whole[: len(whole) // 2], whole[:10], b"\x80\x02"):
    (tmp_path / "x.pth").write_bytes(cut)
    assert "is neither a PyTorch nor a .safetensors file, or is truncated" in refusal(
      capsys, "import", tmp_path / "x.pth", tmp_path / "ours"
    )
  (tmp_path / "x.pth").write_bytes(b"")
  said = refusal(capsys, "import", tmp_path / "x.pth", tmp_path / "ours")
  assert "is neither a PyTorch nor a .safetensors file: it begins with b''" in said
  assert "--allow_pickle" not in said


@pytest.mark.parametrize("window, trained", [(7, 7), (7, 6), (12, 12), (16, 8), (16, 12), (24, 12), (40, 12)])
def test_offsets_are_those_of_torch_bit_for_bit(window, trained):
  """The official code computes them in float32; import and export must reproduce the same bits."""
  offsets = torch.arange(1 - window, window, dtype=torch.float32) / (trained - 1) * 8
  offsets = torch.sign(offsets) * torch.log2(torch.abs(offsets) + 1.0) / np.log2(8)
  ours = windows.log_spaced_offsets((window, window), (trained, trained)).reshape(
    2 * window - 1, 2 * window - 1, 2
  )
  np.testing.assert_array_equal(ours[:, 0, 0], offsets.numpy())
  np.testing.assert_array_equal(ours[0, :, 1], offsets.numpy())


@pytest.mark.parametrize("old, new", [(7, 12), (12, 7), (4, 8), (8, 8)])
def test_bicubic_is_that_of_torch(old, new):
  table = np.random.default_rng(0).normal(size=((2 * old - 1) ** 2, 3)).astype(np.float32)
  grid = torch.tensor(table).T.reshape(1, 3, 2 * old - 1, 2 * old - 1)
  theirs = torch.nn.functional.interpolate(
    grid, size=(2 * new - 1, 2 * new - 1), mode="bicubic", align_corners=False
  )
  ours = bias_tables.resize_bias_table_bicubic(table, (2 * new - 1) ** 2)
  np.testing.assert_allclose(ours, theirs.reshape(3, -1).T.numpy(), atol=1e-5)


# (version, image, window, trained windows). At 160 px, the last map has 5 × 5 tokens and needs padding, which
# takes part in attention. At 64 × 128 and 128 × 256 px, a map of 4 × 8 tokens is shifted along no axis.
SIZES = [
  (2, 64, 4, (0, 0, 0, 0)),
  (2, 160, 4, (0, 0, 0, 0)),
  (1, 160, 4, ()),
  (2, (64, 128), 4, (0, 0, 0, 0)),
  (1, (128, 256), 4, ()),
  (2, 32, 4, (0, 0, 0, 0)),
  (2, 96, 6, (0, 0, 0, 0)),
  (2, 128, 8, (4, 4, 4, 2)),
  (1, 128, 4, ()),
  (1, 192, 6, ()),
]


def hf_config(version, size, window, trained, bands=3):
  transformers = pytest.importorskip("transformers", reason=f"transformers {NEEDS}")
  kind = transformers.Swinv2Config if version == 2 else transformers.SwinConfig
  extra = dict(pretrained_window_sizes=list(trained)) if version == 2 else {}
  return transformers, kind(
    image_size=size,
    window_size=window,
    embed_dim=16,
    depths=[2, 2, 2, 2],
    num_heads=[1, 2, 4, 8],
    num_labels=5,
    num_channels=bands,
    encoder_stride=32,
    **extra,
  )


@pytest.mark.slow
@pytest.mark.parametrize("version, size, window, trained", SIZES)
def test_transformers_classifier(version, size, window, trained, tmp_path, capsys):
  transformers, config = hf_config(version, size, window, trained)
  kind = (
    transformers.Swinv2ForImageClassification if version == 2 else transformers.SwinForImageClassification
  )
  theirs = peers.randomise(kind(config))
  theirs.save_pretrained(tmp_path / "hf")
  assert command("import", tmp_path / "hf", tmp_path / "ours") == 0
  images = peers.pixels(2, size)
  expected = theirs(peers.to_torch(images)).logits
  model, params = swin_jax.load(tmp_path / "ours")
  peers.check(model.apply(params, images), expected, 1e-4)
  capsys.readouterr()
  assert command("export", tmp_path / "ours", tmp_path / "back" / "model.safetensors", "--layout=hf") == 0
  names = {"transformers": transformers}
  exec(capsys.readouterr().out.splitlines()[-1], names)  # run the loading code that the command printed
  assert torch.equal(names["model"].eval()(peers.to_torch(images)).logits, expected)
  again, info = kind.from_pretrained(tmp_path / "back", output_loading_info=True)
  assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
  assert torch.equal(again.eval()(peers.to_torch(images)).logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("size, window, trained, bands", [(64, 4, (0, 0, 0, 0), 3), (96, 6, (0, 0, 0, 0), 4)])
def test_transformers_masked_images(size, window, trained, bands, tmp_path):
  transformers, config = hf_config(2, size, window, trained, bands)
  theirs = peers.randomise(transformers.Swinv2ForMaskedImageModeling(config))
  theirs.save_pretrained(tmp_path / "hf")
  assert command("import", tmp_path / "hf", tmp_path / "ours") == 0
  images, mask = (
    peers.pixels(2, size, bands),
    np.random.default_rng(2).random((2, size // 4, size // 4)) < 0.6,
  )
  expected = theirs(peers.to_torch(images), bool_masked_pos=torch.tensor(mask.reshape(2, -1))).reconstruction
  model, params = swin_jax.load(tmp_path / "ours")
  peers.check(np.asarray(model.apply(params, images, mask)).transpose(0, 3, 1, 2), expected, 1e-4)
  assert command("export", tmp_path / "ours", tmp_path / "back" / "model.safetensors", "--layout=hf") == 0
  again = transformers.Swinv2ForMaskedImageModeling.from_pretrained(tmp_path / "back").eval()
  assert torch.equal(
    again(peers.to_torch(images), bool_masked_pos=torch.tensor(mask.reshape(2, -1))).reconstruction, expected
  )


@pytest.mark.parametrize(
  "version, size, window, trained",
  [
    (2, 64, 4, (0, 0, 0, 0)),
    (2, 128, 8, (4, 4, 4, 2)),
    (1, 64, 4, ()),
    (2, (128, 256), 4, (0, 0, 0, 0)),  # the last map, of 4 × 8 tokens, is shifted along one axis
    (1, (128, 256), 4, ()),
  ],
)
def test_timm(version, size, window, trained, tmp_path, capsys):
  timm = pytest.importorskip("timm", reason=f"timm {NEEDS}, on Python 3.12 or newer")
  arguments = dict(
    img_size=size,
    window_size=window,
    embed_dim=16,
    depths=(2, 2, 2, 2),
    num_heads=(1, 2, 4, 8),
    num_classes=5,
  )
  if version == 2:
    make = lambda: timm.models.swin_transformer_v2.SwinTransformerV2(
      **arguments, pretrained_window_sizes=trained
    )
  else:
    make = lambda: timm.models.swin_transformer.SwinTransformer(**arguments)
  theirs = peers.randomise(make())
  torch.save(theirs.state_dict(), tmp_path / "x.pth")
  sizes = [f"--image_size={size if isinstance(size, int) else ','.join(map(str, size))}"]
  sizes += [f"--window={window}"] if version == 2 else []
  sizes += [f"--trained_window={','.join(map(str, trained))}"] if version == 2 else []
  assert command("import", tmp_path / "x.pth", tmp_path / "ours", "--layout=timm", *sizes) == 0
  images = peers.pixels(2, size)
  expected = theirs(peers.to_torch(images))
  model, params = swin_jax.load(tmp_path / "ours")
  peers.check(model.apply(params, images), expected, 2e-5)
  capsys.readouterr()
  assert command("export", tmp_path / "ours", tmp_path / "back.safetensors", "--layout=timm") == 0
  names = {"timm": timm, "safetensors": safetensors}
  exec(capsys.readouterr().out.splitlines()[-1], names)  # run the loading code that the command printed
  assert torch.equal(names["model"].eval()(peers.to_torch(images)), expected)
