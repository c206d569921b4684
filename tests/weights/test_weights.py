"""Import and export of foreign weights: every layout and size, strictly checked, and what is refused."""

import json
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from swin_jax.saved import choices, folder, tensors
from swin_jax.saved import description as descriptions
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import conventions, importer, inference, layouts
from tests.support import official
from tests.support import tiny as tiny_run
from tests.support.folders import TINY, command, imported, refusal, save
from tests.support.golden import golden


def plan(path, layout="auto", **hints):
  return importer.plan(tensors.open_tensors(str(path)), inference.Hints(**hints), layout)


def tiny(tmp_path, name="tiny.safetensors", **changes):
  """Writes a file in the official code's layout with random weights."""
  return save(tmp_path / name, official.random(official.state_dict(2, **TINY | changes)))


# Published models: (version, width, blocks, heads, window, image size, rest) → number of parameters, from the
# specification.
S, GIANT, AT_192 = (2, 2, 18, 2), (2, 2, 42, 2), (12, 12, 12, 6)
PUBLISHED = {
  "V2-T": (
    dict(version=2, embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window=16, image_size=256),
    28_347_154,
  ),
  "V2-S": (
    dict(version=2, embed_dim=96, depths=S, num_heads=(3, 6, 12, 24), window=8, image_size=256),
    49_728_418,
  ),
  "V2-B": (
    dict(
      version=2, embed_dim=128, depths=S, num_heads=(4, 8, 16, 32), window=24, image_size=384, trained=AT_192
    ),
    87_918_816,
  ),
  "V2-B-22k": (
    dict(
      version=2, embed_dim=128, depths=S, num_heads=(4, 8, 16, 32), window=12, image_size=192, classes=21841
    ),
    109_280_841,
  ),
  "V2-L": (
    dict(
      version=2, embed_dim=192, depths=S, num_heads=(6, 12, 24, 48), window=16, image_size=256, trained=AT_192
    ),
    196_739_932,
  ),
  "V1-T": (
    dict(version=1, embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window=7, image_size=224),
    28_288_354,
  ),
  "V1-S": (
    dict(version=1, embed_dim=96, depths=S, num_heads=(3, 6, 12, 24), window=7, image_size=224),
    49_606_258,
  ),
  "V1-B": (
    dict(version=1, embed_dim=128, depths=S, num_heads=(4, 8, 16, 32), window=12, image_size=384),
    87_903_584,
  ),
  "V1-L": (
    dict(version=1, embed_dim=192, depths=S, num_heads=(6, 12, 24, 48), window=7, image_size=224),
    196_532_476,
  ),
  "SimMIM S": (
    dict(version=2, embed_dim=96, depths=S, num_heads=(3, 6, 12, 24), window=12, image_size=192, simmim=True),
    51_321_882,
  ),
  "SimMIM B": (
    dict(
      version=2,
      embed_dim=128,
      depths=S,
      num_heads=(4, 8, 16, 32),
      window=12,
      image_size=192,
      simmim=True,
      bias_mlp="rpe_mlp",
    ),
    90_042_744,
  ),
  "SimMIM L": (
    dict(
      version=2, embed_dim=192, depths=S, num_heads=(6, 12, 24, 48), window=12, image_size=192, simmim=True
    ),
    199_924_788,
  ),
  "SimMIM H": (
    dict(
      version=2, embed_dim=352, depths=S, num_heads=(11, 22, 44, 88), window=12, image_size=192, simmim=True
    ),
    663_865_098,
  ),
  "SimMIM g": (
    dict(
      version=2, embed_dim=448, depths=S, num_heads=(14, 28, 56, 112), window=12, image_size=192, simmim=True
    ),
    1_071_990_564,
  ),
  "V1 SimMIM B": (
    dict(version=1, embed_dim=128, depths=S, num_heads=(4, 8, 16, 32), window=6, image_size=192, simmim=True),
    None,
  ),
  "SatVision": (
    dict(
      version=2,
      embed_dim=512,
      depths=GIANT,
      num_heads=(16, 32, 64, 128),
      window=8,
      image_size=128,
      simmim=True,
      bands=14,
      extra_norm_every=6,
    ),
    None,
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_is_filled(name, tmp_path):
  spec, count = PUBLISHED[name]
  state = official.state_dict(**spec)
  planned = plan(official.write_sparse(tmp_path / "model.safetensors", state))
  assert sum(int(np.prod(shape)) for shape in planned.shapes.values()) == (count or count_of(state))
  model, data = planned.description["model"], planned.description["data"]
  assert [model[key] for key in ("version", "embed_dim")] == [spec["version"], spec["embed_dim"]]
  assert tuple(model["depths"]) == spec["depths"] and tuple(model["num_heads"]) == spec["num_heads"]
  assert (
    model["extra_norm_every"] == spec.get("extra_norm_every", 0)
    and model["mlp_ratio"] == 4
    and model["patch_size"] == 4
  )
  maps = [spec["image_size"] // 4 // 2**i for i in range(4)]
  assert (
    data["image_size"] == [spec["image_size"]] * 2 and model["window_sizes"] == [[spec["window"]] * 2] * 4
  )
  trained = [[t, t] for t in spec.get("trained", [min(spec["window"], side) for side in maps])]
  assert model["trained_window_sizes"] == (trained if spec["version"] == 2 else [])
  assert len(data["mean"]) == spec.get("bands", 3)
  assert planned.description["task"] == ("masked_pixels" if spec.get("simmim") else "classification")
  if name in ("V1-T", "SimMIM H"):  # these have stacked blocks and single arrays, with values
    for path in ("encoder/stage3/blocks/block1/attn/qkv/kernel", "encoder/merge0/reduction/kernel"):
      assert planned.read(path).shape == planned.shapes[path] and planned.read(path).dtype == np.float32


def count_of(state):
  """Returns the number of parameters in a state dict."""
  return sum(int(np.prod(value)) for value in state.values() if isinstance(value, tuple))


@pytest.mark.slow
def test_sizes_are_called_by_their_names(tmp_path):
  said = []
  for name in ("V2-B", "SimMIM g", "SatVision", "V1-L"):
    planned = plan(
      official.write_sparse(tmp_path / "model.safetensors", official.state_dict(**PUBLISHED[name][0]))
    )
    said.append(" ".join(descriptions.summary(planned.description, planned.shapes)))
  assert said[0].startswith("Swin V2-B, classifier of 1000 classes: 87,918,816 parameters")
  assert "384 × 384 px, windows 24, 24, 24, 12, trained with 12, 12, 12, 6" in said[0]
  assert said[1].startswith("Swin V2-giant of 1.06 B, masked-image model (SimMIM)")
  assert (
    said[2].startswith("Swin V2-giant of 2.6 B, masked-image model")
    and "an extra norm every 6 blocks, 14 bands; 128" in said[2]
  )
  assert said[3].startswith("Swin V1-L")


@pytest.mark.every_python
@pytest.mark.slow
@pytest.mark.parametrize("name", ["V2-T", "V1-T"])
def test_a_full_size_goes_through_the_command(name, tmp_path, capsys):
  state = official.random(official.state_dict(**PUBLISHED[name][0]))
  path = save(tmp_path / "model.safetensors", state)
  assert command("import", path, tmp_path / "ours") == 0
  assert f"{PUBLISHED[name][1]:,} parameters" in capsys.readouterr().out
  assert command("export", tmp_path / "ours", tmp_path / "back.safetensors", "--layout=official") == 0
  back = load_file(tmp_path / "back.safetensors")
  assert back.keys() == state.keys()
  weights = [name for name in state if not layouts.is_buffer(name)]
  assert all(np.array_equal(back[name], state[name]) for name in weights)


GOLDEN = (
  "v1_window7_img56",
  "v2_window4_img64",
  "v2_window8_img128_pretrained4",
  "simmim_v2_window6_img96",
  "timm_v2_window4_img64",
  "hf_v2_window4_img64",
  "hf_simmim_v2_window4_img64",
)


@pytest.mark.every_python
@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_a_round_trip_changes_no_bit(name, tmp_path):
  """The weights go through each layout that can hold the model and back to the original one: names, shapes,
  dtypes and every bit stay the same.
  """
  layout = name.split("_")[0] if name.startswith(("timm", "hf")) else "official"
  sizes = [] if layout == "official" else ["--image_size=64", "--window=4", "--trained_window=4,4,4,2"]
  assert (
    command("import", golden(f"{name}.safetensors"), tmp_path / "ours", f"--layout={layout}", *sizes) == 0
  )
  assert_same_file(golden(f"{name}.safetensors"), export_of(tmp_path / "ours", layout, tmp_path / "direct"))
  # the other two say how padding is treated: test_foreign_names.py
  others = {"official", "timm", "hf"} - {layout} - ({"timm"} if "simmim" in name else set())
  for other in sorted(others):
    exported = export_of(tmp_path / "ours", other, tmp_path / other)
    # only timm's layout needs flags; the other two state these sizes
    said = [] if other != "timm" else sizes or window_flags(tmp_path / "ours")
    assert command("import", exported, tmp_path / f"from_{other}", *said) == 0
    assert (tmp_path / f"from_{other}" / "config.json").read_text() == (
      tmp_path / "ours" / "config.json"
    ).read_text()
    assert_same_file(
      golden(f"{name}.safetensors"), export_of(tmp_path / f"from_{other}", layout, tmp_path / f"{other}_back")
    )


def export_of(source, layout, destination):
  path = destination / "model.safetensors"
  assert command("export", source, path, f"--layout={layout}") == 0
  return path


def assert_same_file(one, other):
  before, after = load_file(one), load_file(other)
  assert before.keys() == after.keys()
  for key in before:
    assert (before[key].dtype, before[key].shape) == (after[key].dtype, after[key].shape), key
    assert before[key].tobytes() == after[key].tobytes(), key


def window_flags(source):
  description = descriptions_of(source)
  model = description["model"]
  flags = [f"--image_size={description['data']['image_size'][0]}", f"--window={model['window_sizes'][0][0]}"]
  trained = ",".join(str(side) for side, _ in model["trained_window_sizes"])
  return flags + ([f"--trained_window={trained}"] if trained else [])


@pytest.mark.every_python
def test_what_is_written_the_library_reads(tmp_path):
  state = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4),
    "c": np.float32(7).reshape(()),
  }
  tensors.write(
    tmp_path / "x.safetensors", [(name, value.shape, value.dtype) for name, value in state.items()], state.get
  )
  read = load_file(tmp_path / "x.safetensors")
  for name, value in state.items():
    np.testing.assert_array_equal(read[name], value)
    assert read[name].dtype == value.dtype


def test_a_failed_write_leaves_nothing(tmp_path):
  def read(name):
    if name == "b":
      raise OSError("gone")
    return np.zeros(3, np.float32)

  with pytest.raises(OSError, match="gone"):
    tensors.write(tmp_path / "x.safetensors", [(name, (3,), np.dtype(np.float32)) for name in "abc"], read)
  description = plan(tiny(tmp_path)).description
  with pytest.raises(OSError, match="gone"):
    folder.write(str(tmp_path / "model"), description, {"a": (3,), "b": (3,)}, read)
  assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]
  (tmp_path / "model").mkdir()
  (tmp_path / "model" / "notes.txt").write_text("mine")
  with pytest.raises(BadInput, match="already exists"):
    folder.write(str(tmp_path / "model"), description, {"a": (3,)}, read)


@pytest.mark.every_python
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_becomes_float32(dtype, tmp_path):
  state = official.random(official.state_dict(2, **TINY))
  halved = {
    name: value.astype(jnp.dtype(dtype)) if value.dtype == np.float32 else value
    for name, value in state.items()
  }
  halved |= {name: value for name, value in state.items() if layouts.is_buffer(name)}
  planned = plan(save(tmp_path / "x.safetensors", halved))
  kernel = planned.read("head/kernel")
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel, halved["head.weight"].astype(np.float32).T)


@pytest.mark.every_python
def test_a_model_in_several_files(tmp_path):
  state = official.random(official.state_dict(2, **TINY))
  names = sorted(state)
  parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
  for part, held in parts.items():
    save(tmp_path / "hub" / part, {name: state[name] for name in held})
  index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
  (tmp_path / "hub" / "model.safetensors.index.json").write_text(json.dumps(index))
  whole = plan(save(tmp_path / "whole.safetensors", state))
  planned = plan(tmp_path / "hub")
  assert planned.description == whole.description
  for path in whole.shapes:
    np.testing.assert_array_equal(planned.read(path), whole.read(path))


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.encoder.", "_orig_mod."])
def test_wrappers_of_the_model_are_seen_through(prefix, tmp_path):
  state = official.random(official.state_dict(2, **TINY | dict(classes=0)))
  wrapped = {prefix + name: value for name, value in state.items()}
  assert (
    plan(save(tmp_path / "x.safetensors", wrapped)).description
    == plan(save(tmp_path / "y.safetensors", state)).description
  )


def test_old_names_of_the_bias_mlp_and_of_the_extra_norm(tmp_path):
  spec = TINY | dict(simmim=True, depths=(2, 6), extra_norm_every=3)
  state = official.random(official.state_dict(2, **spec))
  old = {name.replace("cpb_mlp", "rpe_mlp").replace("norm3", "enorm"): value for name, value in state.items()}
  new, old = plan(save(tmp_path / "new.safetensors", state)), plan(save(tmp_path / "old.safetensors", old))
  assert old.description == new.description and old.description["model"]["extra_norm_every"] == 3
  for path in new.shapes:
    np.testing.assert_array_equal(old.read(path), new.read(path))


@pytest.mark.slow
def test_sizes_from_hugging_face_or_timm_beside_it(tmp_path):
  state = official.random(
    official.state_dict(
      2, **TINY | dict(buffers=False, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), image_size=64)
    )
  )
  path = save(tmp_path / "model.safetensors", state)
  config = path.with_name("config.json")
  config.write_text(
    json.dumps(dict(model_type="swinv2", image_size=64, window_size=4, pretrained_window_sizes=[0, 0, 0, 0]))
  )
  model = plan(path).description["model"]
  assert (model["window_sizes"], model["trained_window_sizes"]) == (
    [[4, 4]] * 4,
    [[4, 4], [4, 4], [4, 4], [2, 2]],
  )
  config.write_text(
    json.dumps(dict(model_type="swinv2", image_size=64, window_size=4, pretrained_window_sizes=[2, 2, 2, 1]))
  )
  assert plan(path).description["model"]["trained_window_sizes"] == [[2, 2], [2, 2], [2, 2], [1, 1]]
  config.write_text(json.dumps(dict(architecture="swinv2_base_window12to16_192to256")))
  description = plan(path).description
  assert (
    description["data"]["image_size"] == [256, 256] and description["model"]["window_sizes"] == [[16, 16]] * 4
  )
  assert description["model"]["trained_window_sizes"] == [[12, 12]] * 3 + [[6, 6]]
  config.write_text(json.dumps(dict(architecture="swinv2_tiny_window8_256.ms_in1k")))
  assert plan(path).description["model"]["trained_window_sizes"] == [[8, 8]] * 4
  config.write_text(
    json.dumps(dict(architecture="swinv2_tiny_window8_256", model_args=dict(img_size=64, window_size=4)))
  )
  description = plan(path).description
  assert description["data"]["image_size"] == [64, 64] and description["model"]["trained_window_sizes"] == [
    [4, 4]
  ] * 3 + [[2, 2]]
  assert plan(path, trained_window=(4, 4, 4, 2)).description["model"]["trained_window_sizes"] == [
    [4, 4]
  ] * 3 + [[2, 2]]


def test_names_of_classes_come_with_hugging_face_and_go(tmp_path):
  state = official.random(official.state_dict(2, **TINY))
  path, names = save(tmp_path / "theirs/model.safetensors", state), ["ant", "bee", "cat", "dog", "eel"]
  config = path.with_name("config.json")

  def labelled(labels):
    config.write_text(json.dumps({"id2label": {str(i): label for i, label in enumerate(labels)}}))
    return plan(path).description["data"]["class_names"]

  assert (
    labelled([f"LABEL_{i}" for i in range(5)]) == []
    and labelled(names[:4]) == []
    and labelled([*names, "fox"]) == []
  )
  assert labelled(names) == names
  assert command("import", path, tmp_path / "ours") == 0
  assert command("export", tmp_path / "ours", tmp_path / "hf/model.safetensors", "--layout=hf") == 0
  settings = json.loads((tmp_path / "hf/config.json").read_text())
  assert (
    settings["id2label"] == {str(i): name for i, name in enumerate(names)}
    and settings["label2id"]["eel"] == 4
  )


def rewritten(state, **changes):
  return {name: changes.get(name.rpartition(".")[2], lambda x: x)(value) for name, value in state.items()}


@pytest.mark.parametrize(
  "change, named",
  [
    # offsets with another spacing give another bias
    (dict(relative_coords_table=lambda x: x * 0.9), "relative_coords_table"),
    (dict(relative_position_index=lambda x: x.T.copy()), "relative_position_index"),
    (dict(attn_mask=lambda x: x / 10), "attn_mask"),
  ],
)
def test_constants_that_mean_something_else_are_refused(change, named, tmp_path, capsys):
  state = rewritten(official.random(official.state_dict(2, **TINY)), **change)
  said = refusal(
    capsys, "import", save(tmp_path / "x.safetensors", state), tmp_path / "ours", "--trained_window=0"
  )
  assert f"{named} does not follow from images of [32, 32] px" in said


def test_a_bias_of_keys_must_be_zero(tmp_path, capsys):
  state = official.random(official.state_dict(2, **TINY))
  state["layers.0.blocks.0.attn.k_bias"] = np.zeros(16, np.float32)
  assert command("import", save(tmp_path / "x.safetensors", state), tmp_path / "ours") == 0
  state["layers.0.blocks.0.attn.k_bias"] += 1
  assert "k_bias does not follow" in refusal(
    capsys, "import", save(tmp_path / "x.safetensors", state), tmp_path / "other"
  )


def test_without_masks_the_image_size_is_not_guessed(tmp_path, capsys):
  """Hugging Face's older files hold an index and no masks."""
  state = official.random(official.state_dict(1, **TINY))
  path = save(
    tmp_path / "model.safetensors",
    {name: value for name, value in state.items() if not name.endswith("attn_mask")},
  )
  assert "does not say its image size" in refusal(capsys, "import", path, tmp_path / "ours")
  assert command("import", path, tmp_path / "ours", "--image_size=32") == 0


def test_mean_and_std(tmp_path, capsys):
  grey = tiny(tmp_path, "grey.safetensors", bands=1)
  capsys.readouterr()
  assert command("import", grey, tmp_path / "supposed") == 0
  assert "mean 0 (if not: --mean); std 1 (if not: --std)" in capsys.readouterr().out
  assert command("import", grey, tmp_path / "said", "--mean=0.3", "--std=0.35") == 0
  assert descriptions_of(tmp_path / "said")["data"]["mean"] == [0.3]
  assert "--mean must have 1 numbers" in refusal(capsys, "import", grey, tmp_path / "x", "--mean=0.3,0.4")
  (tmp_path / "preprocessor_config.json").write_text(
    json.dumps(dict(image_mean=[0.5] * 3, image_std=[0.25] * 3))
  )
  assert command("import", tiny(tmp_path), tmp_path / "beside") == 0
  assert (
    "mean from the file next to it (if not: --mean); std from the file next to it (if not: --std)"
    in capsys.readouterr().out
  )
  assert descriptions_of(tmp_path / "beside")["data"]["std"] == [0.25] * 3
  assert (
    command(
      "import",
      tiny(tmp_path, "masked.safetensors", simmim=True),
      tmp_path / "masked",
      "--target_norm_window=47",
    )
    == 0
  )
  assert "targets are pixels normalised by 47 px around them" in capsys.readouterr().out


def descriptions_of(source):
  return json.loads((source / "config.json").read_text())


def test_a_config_of_another_file_is_not_believed(tmp_path, capsys):
  path = tiny(tmp_path, buffers=False)
  other = dict(model_type="swinv2", image_size=64, window_size=8, embed_dim=96, depths=[2, 2, 6, 2])
  path.with_name("config.json").write_text(json.dumps(other))
  assert "does not say its image size" in refusal(capsys, "import", path, tmp_path / "x")


def test_damaged_values_and_settings_are_refused(tmp_path, capsys):
  state = official.random(official.state_dict(2, **TINY))
  state["layers.1.blocks.2.mlp.fc1.weight"][3, 4] = np.nan
  path = save(tmp_path / "x.safetensors", state)
  said = refusal(capsys, "import", path, tmp_path / "ours", prints=True)
  assert "layers.1.blocks.2.mlp.fc1.weight holds numbers that are not finite" in said
  path.with_name("config.json").write_text('{"model_type": "swinv2"')
  assert "config.json is damaged: it is not valid JSON" in refusal(capsys, "import", path, tmp_path / "ours")
  path.with_name("config.json").write_text('{"model_type": "swinv2", "id2label": [1]}')
  assert "must have an object as id2label" in refusal(capsys, "import", path, tmp_path / "ours")
  assert not (tmp_path / "ours").exists()


def test_what_a_file_does_not_say_is_asked_for(tmp_path, capsys):
  path = tiny(tmp_path, buffers=False)
  said = refusal(capsys, "import", path, tmp_path / "x")
  assert (
    "does not say its image size and windows and trained windows: give --image_size= (in pixels) and"
    " --window=" in said
  )
  words = ("import", path, tmp_path / "x", "--image_size=32", "--window=4")
  assert (
    "does not say its trained windows: give --trained_window= (those of pre-training, one per stage"
    in refusal(capsys, *words)
  )
  assert "must be one number per stage, as in 12,12,12,6" in refusal(capsys, *words, "--trained_window=3")
  assert command(*words, "--trained_window=4") == 0
  assert descriptions_of(tmp_path / "x")["model"]["trained_window_sizes"] == [[4, 4], [4, 4]]
  buffers = tiny(tmp_path, "buffers.safetensors")
  said = refusal(capsys, "import", buffers, tmp_path / "y", "--window=8")
  assert "does not follow from images of [32, 32] px and windows ((8, 8), (4, 4))" in said
  # the same facts in other words
  assert command("import", buffers, tmp_path / "z", "--window=4,4", "--trained_window=0") == 0
  assert "one number of tokens, or 2, one per stage" in refusal(
    capsys, *words[:2], tmp_path / "y", "--image_size=32", "--window=4,4,4"
  )


def broken(state, case):
  """Returns a defective state dict, and what the message about it must contain."""
  if case == "a tensor too many":
    return state | {
      "layers.0.blocks.0.ls1.gamma": np.zeros(16, np.float32)
    }, "1 tensors are unused: layers.0.blocks.0.ls1.gamma"
  if case == "a tensor too few":
    return {name: value for name, value in state.items() if name != "layers.1.blocks.3.mlp.fc2.bias"}, (
      "1 parameters are not filled: layers.1.blocks.3.mlp.fc2.bias is missing"
    )
  if case == "another shape":
    return state | {
      "layers.0.blocks.1.mlp.fc1.weight": np.zeros((60, 16), np.float32)
    }, "fc1.weight makes (16, 60), not (16, 64)"
  if case == "a block missing":
    return {
      name: value for name, value in state.items() if ".blocks.2." not in name
    }, "some of its blocks are missing"
  if case == "a ViT":
    vit = {
      "cls_token": np.zeros((1, 1, 8), np.float32),
      "patch_embed.proj.weight": np.zeros((8, 3, 4, 4), np.float32),
    }
    return vit, "is not a Swin Transformer of another program but a Vision Transformer (ViT"
  if case == "a ResNet":
    return {"layer1.0.conv1.weight": np.zeros((8, 8, 3, 3), np.float32)}, "but a ResNet"
  if case == "a ConvNeXt":
    convnext = {
      "features.0.0.weight": np.zeros((8, 3, 4, 4), np.float32),
      "features.1.0.layer_scale": np.zeros((8, 1, 1), np.float32),
    }
    return convnext, "but a ConvNeXt (it has features.1.0.layer_scale)"
  if case == "a model of ours":
    return {"encoder/norm/bias": np.zeros(8, np.float32)}, "but a model of swin_jax itself"
  if case == "an unknown network":
    unknown = {"tokens.0": np.zeros(8, np.float32)}
    return unknown, "is not a Swin Transformer: it has no patch embedding; its first tensors are tokens.0"
  if case == "patches without blocks":
    patches = {"patch_embed.proj.weight": np.zeros((8, 3, 4, 4), np.float32)}
    return patches, "is not a Swin Transformer: it has no layers of blocks"
  if case == "a model of clips":
    clips = {"patch_embed.proj.weight": np.zeros((16, 3, 2, 4, 4), np.float32)}
    return state | clips, "is a Swin Transformer of clips or volumes: its patches are [2, 4, 4]"
  if case == "absolute positions":
    return state | {"absolute_pos_embed": np.zeros((1, 64, 16), np.float32)}, "absolute position embeddings"
  if case == "experts":
    return state | {
      "layers.0.blocks.1.mlp._moe_layer.experts.fc1": np.zeros((8, 4, 4), np.float32)
    }, "mixtures of experts"
  if case == "neither version":
    return {
      name: value for name, value in state.items() if "logit_scale" not in name
    }, "neither Swin V2 nor V1"
  if case == "norms in between":
    extra = {
      f"layers.1.blocks.{j}.norm3.{leaf}": np.zeros(32, np.float32)
      for j in (0, 3)
      for leaf in ("weight", "bias")
    }
    return state | extra, "its extra norms are not at regular intervals"
  raise ValueError(case)


CASES = (
  "a tensor too many",
  "a tensor too few",
  "another shape",
  "a block missing",
  "a ViT",
  "a ResNet",
  "a ConvNeXt",
  "a model of ours",
  "an unknown network",
  "patches without blocks",
  "a model of clips",
  "absolute positions",
  "experts",
  "neither version",
  "norms in between",
)


@pytest.mark.parametrize("case", CASES)
def test_another_architecture_is_refused(case, tmp_path, capsys):
  state, said = broken(official.random(official.state_dict(2, **TINY)), case)
  assert said in refusal(capsys, "import", save(tmp_path / "x.safetensors", state), tmp_path / "ours")
  assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_another_architecture_with_the_names_of_hugging_face(tmp_path, capsys):
  state = {"swinv2.embeddings.patch_embeddings.projection.weight": np.zeros((16, 3, 4, 4), np.float32)}
  state["swinv2.encoder.layers.0.blocks.0.attention.self.query.weight"] = np.zeros((16, 16), np.float32)
  said = refusal(capsys, "import", save(tmp_path / "x.safetensors", state), tmp_path / "ours")
  assert (
    "neither Swin V2 nor V1: it has no swinv2.encoder.layers.0.blocks.0.attention.self.logit_scale" in said
  )


@pytest.mark.every_python
def test_bad_files_are_refused(tmp_path, capsys):
  whole = tiny(tmp_path)
  cut = tmp_path / "cut.safetensors"
  cut.write_bytes(whole.read_bytes()[:-100])
  assert "cut.safetensors is not a complete safetensors file" in refusal(
    capsys, "import", cut, tmp_path / "ours"
  )
  assert "no such file" in refusal(capsys, "import", tmp_path / "none.pth", tmp_path / "ours")
  assert "holds none of model.safetensors" in refusal(capsys, "import", tmp_path, tmp_path / "ours")
  assert "has the names of --layout=official, not of --layout=hf" in refusal(
    capsys, "import", whole, tmp_path / "ours", "--layout=hf"
  )
  assert "is not a model folder; convert it: python -m swin_jax.weights import" in refusal(
    capsys, "adapt", whole, tmp_path / "ours"
  )
  assert "did you mean --layout?" in refusal(capsys, "import", whole, tmp_path / "ours", "--layot=hf")
  assert command("import", whole, tmp_path / "ours") == 0
  before = (tmp_path / "ours" / "model.safetensors").stat().st_mtime_ns
  assert "already exists" in refusal(capsys, "import", whole, tmp_path / "ours")
  assert "already exists" in refusal(capsys, "adapt", tmp_path / "ours", tmp_path / "ours")
  assert (tmp_path / "ours" / "model.safetensors").stat().st_mtime_ns == before
  assert command("export", tmp_path / "ours", tmp_path / "hf" / "x.safetensors", "--layout=hf") == 0
  words = ("export", tmp_path / "ours", tmp_path / "hf" / "x.safetensors")
  assert "x.safetensors already exists" in refusal(capsys, *words, "--layout=timm")
  assert "config.json already exists" in refusal(
    capsys, *words[:2], tmp_path / "hf" / "y.safetensors", "--layout=hf"
  )
  assert "must end in .safetensors" in refusal(
    capsys, "export", tmp_path / "ours", tmp_path / "x.pth", "--layout=timm"
  )
  (tmp_path / "ours" / "config.json").write_text("{}")
  assert "is not a swin_jax model folder" in refusal(capsys, "adapt", tmp_path / "ours", tmp_path / "x")


@pytest.mark.parametrize(
  "words, said",
  [
    (("--image_size=0",), "--image_size: '0' must be at least 1"),
    (("--image_size=32,32,32",), "--image_size: takes 1 or 2 values separated by commas, got 3"),
    (("--window=0",), "--window: '0' must be at least 1"),
    (("--window=4,4,4",), "--window must be one number of tokens, or 2, one per stage"),
    (("--trained_window=-3",), "--trained_window: '-3' must be at least 0"),
    (("--target_norm_window=4",), "--target_norm_window must be odd, or 0; it is 4"),
    (("--target_norm_window=-3",), "--target_norm_window: '-3' must be at least 0 and at most 9,999"),
    (("--window=x",), "'x' must be an integer"),
  ],
)
def test_sizes_that_are_none_are_refused(words, said, tmp_path, capsys):
  assert said in refusal(capsys, "import", tiny(tmp_path), tmp_path / "ours", *words)


def test_destinations_that_cannot_be(tmp_path, capsys):
  path = tiny(tmp_path)
  (tmp_path / "file").write_text("")
  (tmp_path / "ours.partial").mkdir()
  (tmp_path / "ours.partial" / "mine.txt").write_text("mine")
  assert "cannot be created" in refusal(capsys, "import", path, tmp_path / "file" / "ours")
  assert command("import", path, tmp_path / "ours") == 0
  assert "cannot be created" in refusal(
    capsys, "export", tmp_path / "ours", tmp_path / "file" / "x.safetensors", "--layout=timm"
  )
  assert (tmp_path / "ours.partial" / "mine.txt").read_text() == "mine"
  # readable by others, like any file a user creates
  assert oct((tmp_path / "ours" / "model.safetensors").stat().st_mode & 0o044) == "0o44"


@pytest.mark.every_python
def test_without_torch_it_says_how_to_convert(tmp_path, capsys, monkeypatch):
  (tmp_path / "x.pth").write_bytes(b"PK")
  monkeypatch.setitem(sys.modules, "torch", None)
  said = refusal(capsys, "import", tmp_path / "x.pth", tmp_path / "ours")
  assert "pip install torch, or convert it where PyTorch is installed: python -c" in said


def test_what_another_layout_cannot_hold(tmp_path, capsys):
  masked = imported(tmp_path, name="masked", simmim=True)
  for layout in ("timm", "torchvision", "openmmlab"):
    assert f"is a masked-image model, which {layout} does not have" in refusal(
      capsys, "export", masked, tmp_path / "x.safetensors", f"--layout={layout}"
    )
  assert "reconstructs the bands it was trained with; to pre-train on others" in refusal(
    capsys, "adapt", masked, tmp_path / "x", "--bands=5"
  )
  normed = imported(tmp_path, name="normed", depths=(2, 6), extra_norm_every=3)
  for layout in ("timm", "hf", "torchvision"):
    assert "an extra norm every 3 blocks" in refusal(
      capsys, "export", normed, tmp_path / "x.safetensors", f"--layout={layout}"
    )
  flat = imported(tmp_path, name="flat")
  assert command("adapt", flat, tmp_path / "wide", "--window=2,4") == 0
  assert "one square window" in refusal(
    capsys, "export", tmp_path / "wide", tmp_path / "x.safetensors", "--layout=timm"
  )
  for changes, lack in (
    (dict(bands=4), "has 4 bands, but torchvision's models have 3"),
    (dict(classes=0), "has no classes, but torchvision's models have a classifier"),
    (
      dict(window=8, depths=(2, 2, 2), num_heads=(2, 4, 8), image_size=64),
      "has windows ((8, 8), (8, 8), (4, 4)), but torchvision's models have one window for all stages",
    ),
    (dict(trained=(8, 8)), "has trained windows ((8, 8), (8, 8)), but torchvision's models use"),
  ):
    ours = imported(tmp_path, name=next(iter(changes)), **changes)
    assert lack in refusal(capsys, "export", ours, tmp_path / "x.safetensors", "--layout=torchvision")
  assert not (tmp_path / "x.safetensors").exists()


def write_zeros(path, **changes):
  """Writes a model folder whose parameters are zeros."""
  description = descriptions.describe(tiny_run.config("finetune", **changes).to_dict(), "a config")
  shapes = descriptions.parameter_shapes(description)
  folder.write(str(path), description, shapes, lambda path: np.zeros(shapes[path], np.float32))


def test_square_patches_may_have_a_size_for_each_axis(tmp_path):
  for name, patch in (("number", 4), ("axes", (4, 4))):
    write_zeros(tmp_path / name, model__patch_size=patch)
    assert command("export", tmp_path / name, tmp_path / "hf" / name / "x.safetensors", "--layout=hf") == 0
    assert command("export", tmp_path / name, tmp_path / f"{name}.safetensors", "--layout=official") == 0
  number, axes = (
    json.loads((tmp_path / "hf" / name / "config.json").read_text()) for name in ("number", "axes")
  )
  assert number == axes and number["patch_size"] == 4 and number["encoder_stride"] == 8


CLIP = dict(
  data__image_size=(4, 32, 32),
  model__patch_size=(2, 4, 4),
  model__merge_size=(1, 2, 2),
  model__window_sizes=((2, 4, 4), (2, 4, 4)),
)


# Windows of half the last map, along one axis.
RECTANGLES = dict(model__window_sizes=((2, 4), (2, 4)), model__padding="attended")
PADDED, ALL = dict(data__image_size=(40, 40)), choices.LAYOUTS  # 40 px make maps of 10 tokens, windows have 4


@pytest.mark.parametrize(
  "changes, message, refused_by",
  [
    (PADDED | dict(model__padding="attended"), "has model.padding = 'attended', which", ALL[:2]),
    (dict(model__clamp_windows=False), "has model.clamp_windows = False, which", ALL[:4]),
    (dict(model__merge_size=(2, 1)), r"has model.merge_size = \(2, 1\), which", ALL),
    (dict(model__patch_size=(4, 2)), r"has model.patch_size = \(4, 2\), which", ALL),
    (
      PADDED | dict(model__merge_size=(2, 1), model__padding="attended"),
      r"has model.merge_size = \(2, 1\) and model.padding = 'attended', which",
      ALL[:2],
    ),
    (
      RECTANGLES | dict(model__clamp_windows=False),
      "has model.clamp_windows = False, which",
      ["torchvision"],
    ),
    (
      RECTANGLES | dict(model__clamp_windows=False),
      r"has model.window_sizes = \[\[2, 4\], \[2, 4\]\], which",
      ["openmmlab", "official", "hf"],
    ),
    (CLIP | dict(model__version=1, model__bias_rows="first"), "is a model of clips, which", ALL),
    (CLIP, "is a model of clips, which", ALL),
  ],
  ids=[
    "padding",
    "windows",
    "merging",
    "patches",
    "two keys",
    "rectangles",
    "squares",
    "clips, first rows",
    "clips",
  ],
)
def test_what_only_our_own_models_have_is_not_exported(changes, message, refused_by, tmp_path, capsys):
  write_zeros(tmp_path / "ours", **changes)
  for layout in refused_by:
    words = ("export", tmp_path / "ours", tmp_path / "x.safetensors", f"--layout={layout}")
    assert re.search(f"{message} --layout={layout} cannot represent", refusal(capsys, *words))
  assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("axes", ["each", "all"])
def test_a_size_whose_windows_no_setting_gives_is_named(axes, tmp_path, capsys):
  """transformers computes the windows of V2 for images that are not padded to whole patches."""
  odd = dict(data__image_size=(30, 30), model__padding="attended")
  write_zeros(tmp_path / "ours", **odd, model__clamp_axes=axes)
  words = ("export", tmp_path / "ours", tmp_path / "x.safetensors", "--layout=hf")
  said = refusal(capsys, *words)
  assert ": images of 30 × 30 px have other windows or shifts in hf, whatever model.clamp_axes and" in said
  assert "has model" not in said


def test_a_setting_and_masked_padding_are_not_one_sentence(tmp_path, capsys):
  write_zeros(tmp_path / "ours", data__image_size=(24, 24), model__clamp_windows=False)
  words = ("export", tmp_path / "ours", tmp_path / "x.safetensors", "--layout=official")
  assert " has model.clamp_windows = False, which --layout=official cannot represent; python" in refusal(
    capsys, *words
  )


def test_windows_of_torchvision_may_be_rectangles_but_are_clamped():
  changes = dict(data__image_size=(56, 56), model__version=1, model__padding="attended")
  changes |= dict(model__window_sizes=((7, 14), (7, 14)), model__clamp_windows=False)
  description = descriptions.describe(tiny_run.config("finetune", **changes).to_dict(), "a config")
  assert conventions.unlike(description, "torchvision") == {"clamp_windows": False}
  clamped = description | {"model": description["model"] | {"clamp_windows": True}}
  assert conventions.unlike(clamped, "torchvision") == {}


def test_settings_that_make_no_difference_do_not_prevent_an_export(tmp_path, capsys):
  """Nothing is padded, so that padding cannot take part in attention."""
  write_zeros(tmp_path / "ours", model__padding="attended")
  for layout in ("official", "timm", "hf"):
    path = tmp_path / layout / "x.safetensors"
    assert command("export", tmp_path / "ours", path, f"--layout={layout}") == 0


@pytest.mark.parametrize("layout", ALL)
def test_masked_padding_is_not_exported(layout, tmp_path, capsys):
  """Other programs attend to padding, or do not pad. Where maps need none, a masked model is exported."""
  cases = ((40, "masked", False), (32, "masked", True), (40, "attended", layout in ALL[2:]))
  for size, padding, goes in cases:
    source, three = tmp_path / f"{padding}{size}", dict(data__mean=(0.5,) * 3, data__std=(0.5,) * 3)
    three["classification__num_classes"] = 3
    write_zeros(source, data__image_size=(size, size), model__padding=padding, **three)
    words = ("export", source, tmp_path / f"of_{padding}{size}" / "x.safetensors", f"--layout={layout}")
    if goes:
      assert command(*words) == 0
      continue
    masked = ": images of 40 × 40 px need padding, which this model masks; no other program does; python"
    attended = f"has model.padding = 'attended', which --layout={layout} cannot represent"
    assert (masked if padding == "masked" else attended) in refusal(capsys, *words)
    assert not words[2].exists()
