"""Files with the names of other programs: they fill the same parameters as the official code's, and come out
as they came in.
"""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from swin_jax.saved import tensors
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import importer, inference, layouts
from tests.support import foreign, official
from tests.support.folders import TINY, command, refusal, save

pytestmark = pytest.mark.every_python


def official_state(version, **changes):
  return official.random(official.state_dict(version, **TINY | changes))


def plan(path, **hints):
  return importer.plan(tensors.open_tensors(str(path)), inference.Hints(**hints))


def assert_equal(ours, theirs, except_for=()):
  assert ours.shapes == theirs.shapes
  for path in ours.shapes:
    if not path.startswith(except_for or "-"):
      np.testing.assert_array_equal(theirs.read(path), ours.read(path), err_msg=path)


def named(layout, state, version):
  return foreign.torchvision(state) if layout == "torchvision" else foreign.openmmlab(state, version)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("layout", ["torchvision", "openmmlab"])
def test_names_of_other_libraries(layout, version, tmp_path):
  state = official_state(version)
  ours = plan(save(tmp_path / "official.safetensors", state))
  theirs = plan(save(tmp_path / "x.safetensors", named(layout, state, version)), image_size=32)
  assert theirs.layout.name == layout
  assert_equal(ours, theirs)
  assert theirs.description["model"] == ours.description["model"] | {"padding": "attended"}
  assert (layout == "openmmlab") == any("reordered from OpenMMLab's order" in note for note in theirs.notes)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("layout", ["torchvision", "openmmlab"])
def test_a_round_trip_changes_no_bit(layout, version, tmp_path):
  state = named(layout, official_state(version), version)
  state = {
    name: value for name, value in state.items() if not name.endswith("attn_mask")
  }  # only in old files
  path = save(tmp_path / "x.safetensors", state)
  assert command("import", path, tmp_path / "ours", "--image_size=32") == 0
  for there in ("official", "hf", layout):
    middle = tmp_path / there / "model.safetensors"
    assert command("export", tmp_path / "ours", middle, f"--layout={there}") == 0
    assert command("import", middle, tmp_path / f"from_{there}", "--image_size=32") == 0
    written = tmp_path / f"{there}.safetensors"
    assert command("export", tmp_path / f"from_{there}", written, f"--layout={layout}") == 0
    read = load_file(written)
    assert read.keys() == state.keys()
    for name, value in state.items():
      assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape), name
      assert read[name].tobytes() == value.tobytes(), name


def test_names_of_openmmlab_with_a_plain_head_and_norm_inside_the_backbone(tmp_path):
  state = official_state(1)
  old = {
    re.sub(r"^head\.fc", "backbone.head", name): value for name, value in foreign.openmmlab(state, 1).items()
  }
  old |= {f"backbone.norm.{leaf}": old.pop(f"backbone.norm1.{leaf}") for leaf in ("weight", "bias")}
  theirs = plan(save(tmp_path / "x.safetensors", old))
  assert theirs.layout.name == "openmmlab"
  assert_equal(plan(save(tmp_path / "official.safetensors", state)), theirs)


def test_images_of_torchvision_have_as_many_windows_as_in_its_models(tmp_path):
  state = official_state(2, window=8, image_size=64)
  theirs = plan(save(tmp_path / "x.safetensors", foreign.torchvision(state)))
  assert theirs.description["data"]["image_size"] == [64, 64]
  assert any("--image_size" in note for note in theirs.notes)


@pytest.mark.parametrize("prefix", ["swin.", "encoder.", "model.encoder.", "net.backbone.", "swinv2."])
def test_a_head_inside_the_prefix_of_the_encoder(prefix, tmp_path):
  state = official_state(2)
  ours = plan(save(tmp_path / "official.safetensors", state))
  wrapped = {prefix + name: value for name, value in state.items()}
  assert_equal(ours, plan(save(tmp_path / "x.safetensors", wrapped)))
  hugging_face = layouts.Layout("hf", prefix, prefix, last_norm=f"{prefix}layernorm", head="classifier")
  named = {}
  for name, value in state.items():
    parts = hugging_face.spell(name)
    named |= dict(zip(parts, np.split(value, len(parts)), strict=True))
  assert_equal(ours, plan(save(tmp_path / "hf.safetensors", named)))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("new", [False, True])
def test_features_only_of_timm(version, new, tmp_path):
  state = official_state(version, classes=0)
  ours = plan(save(tmp_path / "official.safetensors", state))
  theirs = plan(save(tmp_path / "x.safetensors", foreign.features_only(state, new)))
  assert_equal(ours, theirs, except_for="encoder/norm/")
  assert (theirs.read("encoder/norm/scale") == 1).all() and (theirs.read("encoder/norm/bias") == 0).all()
  assert any("there is no last norm: its scale becomes 1 and its bias 0" in note for note in theirs.notes)


def test_a_classifier_without_last_norm_is_refused(tmp_path, capsys):
  state = {name: value for name, value in official_state(2).items() if not name.startswith("norm.")}
  said = refusal(capsys, "import", save(tmp_path / "x.safetensors", state), tmp_path / "ours")
  assert "2 parameters are not filled: norm.bias is missing, norm.weight is missing" in said


def with_norms(state, spell, stages=2):
  """Returns a backbone with a norm for the map of every stage; that of the last stage is the last norm."""
  backbone = {name: value for name, value in state.items() if not name.startswith(("norm.", "head."))}
  for stage in range(stages):
    for leaf in ("weight", "bias"):
      last = state[f"norm.{leaf}"]
      value = last if stage == stages - 1 else last[: len(last) // 2 ** (stages - 1 - stage)]
      backbone[f"{spell(stage)}.{leaf}"] = value
  return backbone


@pytest.mark.parametrize(
  "family", ["fork", "openmmlab", "hf", "hf in memory", "hf of version 5", "maskformer"]
)
def test_backbones_of_dense_models(family, tmp_path):
  """Every map has a norm; ours has the last one."""
  state = official_state(1)
  if family == "maskformer" or family.startswith("hf"):
    prefix = {"hf in memory": "swin.", "maskformer": "encoder.model."}.get(family, "")
    first, last = ("0", "1") if family == "maskformer" else ("stage1", "stage2")
    spelling = layouts.Layout("hf", prefix, last_norm=f"hidden_states_norms.{last}", head="classifier")
    named = {}
    for name, value in state.items():
      parts = spelling.spell(name)
      if not name.startswith("head."):
        named |= dict(zip(parts, np.split(value, len(parts)), strict=True))
    named |= {
      f"hidden_states_norms.{first}.{leaf}": state[f"norm.{leaf}"][:16] for leaf in ("weight", "bias")
    }
    if family != "hf":
      named |= {
        f"{prefix or 'swin.'}layernorm.{leaf}": np.ones(32, np.float32) for leaf in ("weight", "bias")
      }
  elif family == "openmmlab":
    named = {f"backbone.norm0.{leaf}": state[f"norm.{leaf}"][:16] for leaf in ("weight", "bias")}
    named |= foreign.openmmlab({n: value for n, value in state.items() if not n.startswith("head.")}, 1)
  else:
    named = with_norms(state, lambda stage: f"norm{stage}")
    named = {f"backbone.{name}": value for name, value in named.items()}
  # a window that does not shrink to its map has shifted blocks and masks there, which these files lack
  named = {name: value for name, value in named.items() if not name.endswith("attn_mask")}
  theirs = plan(save(tmp_path / "x.safetensors", named), image_size=32)
  model = theirs.description["model"]
  assert (model["padding"], model["clamp_windows"]) == ("attended", False)
  assert theirs.description["classification"]["num_classes"] == 0
  ours = plan(save(tmp_path / "official.safetensors", official_state(1)), encoder_only=True)
  assert_equal(ours, theirs)
  assert any("left out, because they belong to dense heads" in note for note in theirs.notes)
  left_over = any("left out, because no model uses them" in note for note in theirs.notes)
  assert left_over == (family not in ("fork", "openmmlab", "hf"))


def dense(tmp_path, **more):
  state = {f"backbone.{name}": value for name, value in official_state(2, classes=0).items()}
  state |= {"decode_head.conv_seg.weight": np.zeros((5, 8, 1, 1), np.float32)}
  state |= {"decode_head.conv_seg.bias": np.zeros(5, np.float32)}
  state |= {"auxiliary_head.conv_seg.bias": np.zeros(5, np.float32)}
  return save(tmp_path / "x.safetensors", state | more)


def test_the_encoder_alone(tmp_path, capsys):
  path = dense(tmp_path)
  said = refusal(capsys, "import", path, tmp_path / "ours")
  assert "3 tensors are unused: auxiliary_head.conv_seg.bias" in said
  assert "the encoder is complete: --encoder_only imports it alone" in said
  assert command("import", path, tmp_path / "ours", "--encoder_only") == 0
  printed = capsys.readouterr().out
  assert "because of --encoder_only: auxiliary_head (1 tensors), decode_head (2 tensors)" in printed
  ours = plan(save(tmp_path / "official.safetensors", official_state(2, classes=0)))
  assert_equal(ours, plan(path, encoder_only=True))
  gamma = {"backbone.layers.0.blocks.0.ls1.gamma": np.zeros(16, np.float32)}  # changes what the encoder does
  said = refusal(capsys, "import", dense(tmp_path, **gamma), tmp_path / "x", "--encoder_only")
  assert "1 tensors are unused: backbone.layers.0.blocks.0.ls1.gamma" in said
  assert "encoder is complete" not in said


@pytest.mark.parametrize("simmim", [False, True])
def test_the_encoder_of_a_classifier_and_of_a_masked_image_model(simmim, tmp_path):
  path = save(tmp_path / "x.safetensors", official_state(2, simmim=simmim))
  theirs = plan(path, encoder_only=True)
  assert theirs.description["task"] == "classification"
  assert not any(path.startswith(("head/", "decoder/", "mask_token")) for path in theirs.shapes)
  whole = plan(path)
  for path in theirs.shapes:
    np.testing.assert_array_equal(theirs.read(path), whole.read(path))


def test_tensors_that_are_ignored(tmp_path, capsys):
  path = dense(tmp_path)
  words = ("import", path, tmp_path / "ours")
  assert command(*words, r"--ignore=^(decode|auxiliary)_head\.") == 0
  assert "--ignore leaves out 3 tensors: auxiliary_head.conv_seg.bias, decode_head" in capsys.readouterr().out
  words = ("import", path, tmp_path / "other")
  assert "--ignore=lpips matches no tensor of" in refusal(capsys, *words, "--ignore=lpips")
  assert "--ignore=. matches all tensors of" in refusal(capsys, *words, "--ignore=.")
  assert "is not a regular expression" in refusal(capsys, *words, "--ignore=(")
  assert "has no entries, as torch files have" in refusal(capsys, *words, "--entry=ema")


def test_two_encoders_in_a_file(tmp_path, capsys):
  state = official_state(2)
  both = {f"student.{name}": value for name, value in state.items()}
  both |= {f"teacher.{name}": value + 1 for name, value in state.items() if not layouts.is_buffer(name)}
  path = save(tmp_path / "x.safetensors", both)
  said = refusal(capsys, "import", path, tmp_path / "ours")
  assert "holds 2 encoders, under 'student.' and 'teacher.'" in said
  flag = re.search(r"--ignore='(.*)'", said)[1]
  assert command("import", path, tmp_path / "ours", f"--ignore={flag}") == 0
  student = plan(save(tmp_path / "official.safetensors", state))
  assert_equal(
    student, importer.plan(tensors.open_tensors(str(path)).without(re.compile(flag)), inference.Hints())
  )


def test_sizes_of_a_nested_backbone(tmp_path):
  state = official_state(2, buffers=False, classes=0)
  path = save(tmp_path / "model.safetensors", {f"backbone.{name}": value for name, value in state.items()})
  theirs = dict(model_type="swinv2", image_size=32, window_size=4, pretrained_window_sizes=[0, 0])
  settings = {"model_type": "upernet", "backbone_config": theirs}
  path.with_name("config.json").write_text(json.dumps(settings))
  description = plan(path).description
  assert description["data"]["image_size"] == [32, 32]
  assert description["model"]["window_sizes"] == [[4, 4]] * 2
  path.with_name("config.json").write_text(json.dumps(settings | {"backbone_config": [1]}))
  with pytest.raises(BadInput, match="must have an object as backbone_config"):
    plan(path)


def test_the_config_next_to_an_unknown_network_says_what_it_is(tmp_path, capsys):
  path = save(tmp_path / "hub/model.safetensors", {"tokens.0": np.zeros(8, np.float32)})
  path.with_name("config.json").write_text(json.dumps({"model_type": "perceiver"}))
  said = refusal(capsys, "import", path, tmp_path / "ours")
  assert "the config.json next to it says perceiver" in said


SATLAS = {
  "sentinel2_swinb_si_ms": (9, "B04 B03 B02", [0] * 9, [255] * 3 + [8160] * 6),
  "any_name": (9, "B04 B03 B02", [0] * 9, [255] * 3 + [8160] * 6),
  "sentinel2_swint_mi_rgb_5a3c": (3, "B04 B03 B02", [0] * 3, [1] * 3),
  "aerial_swinb_si": (3, "R G B", [0] * 3, [1] * 3),
  "landsat_swint_si": (11, "B01 to B11", [4000] * 11, [16320] * 11),
  "sentinel1_swint_si": (2, "VH VV", [0] * 2, [1] * 2),
  "swin_v2_t-b137f0e2": (3, "", inference.IMAGENET_MEAN, inference.IMAGENET_STD),
}


@pytest.mark.parametrize("stem", SATLAS)
@pytest.mark.parametrize("prefix", ["", "backbone.backbone."])
def test_bands_and_normalisation_of_satlas(stem, prefix, tmp_path):
  bands, order, mean, std = SATLAS[stem]
  state = foreign.torchvision(official_state(2, window=8, image_size=64, bands=bands))
  path = save(tmp_path / f"{stem}.safetensors", {prefix + name: value for name, value in state.items()})
  planned = plan(path)
  data = planned.description["data"]
  assert (data["mean"], data["std"], data["image_size"]) == (mean, std, [64, 64])
  assert data["dtype"] == ("float32" if bands > 4 else "uint8")
  said = [note for note in planned.notes if note.startswith("bands assumed to be those of Satlas")]
  assert len(said) == bool(order) and order in "".join(said)
  given = plan(path, mean=[0.5] * bands, std=[0.25] * bands).description["data"]
  assert (given["mean"], given["std"]) == ([0.5] * bands, [0.25] * bands)


def test_bands_of_other_libraries_are_not_those_of_satlas(tmp_path):
  state = official_state(2, bands=9)
  assert plan(save(tmp_path / "x.safetensors", state)).description["data"]["std"] == [1.0] * 9


@pytest.mark.parametrize("layout", ["official", "torchvision", "openmmlab"])
@pytest.mark.parametrize(
  "size, matters", [((32, 64), True), ((64, 32), True), ((32, 32), False), ((64, 96), False)]
)
def test_how_a_layout_clamps_windows(layout, size, matters, tmp_path, capsys):
  """With windows of 4 tokens, the last map of 32 × 64 px has one row of windows."""
  state = official_state(1, buffers=False)
  state = state if layout == "official" else named(layout, state, 1)
  theirs = plan(save(tmp_path / "x.safetensors", state), image_size=size)
  axes = "all" if matters and layout != "torchvision" else "each"
  assert theirs.description["model"]["clamp_axes"] == axes
  words = ("import", tmp_path / "x.safetensors", tmp_path / "ours", f"--image_size={size[0]},{size[1]}")
  assert command(*words) == 0
  for other, goes in (("official", axes == "all" or not matters), ("timm", axes == "each")):
    words = ("export", tmp_path / "ours", tmp_path / f"{other}.safetensors", f"--layout={other}")
    if goes:
      assert command(*words) == 0
    else:
      assert f"has model.clamp_axes = '{axes}', which --layout={other}" in refusal(capsys, *words)
