"""UPerNet in the files of transformers, of the official segmentation code and of mmsegmentation: logits equal
to golden ones, equal parameters under all names, and files that come out as they came in.
"""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import swin_jax
from swin_jax.tasks import dense
from tests.support.folders import command, refusal
from tests.support.golden import golden

torch = pytest.importorskip("torch", reason="torch is not installed; pip install -r requirements-peers.txt")

from tests.support import peers  # noqa: E402  (needs torch)

pytestmark = pytest.mark.every_python

FAMILIES = {  # name of the golden file → (layout, flags)
  "upernet_swin_window4": ("hf", ()),
  "upernet_swin_window4_fork.pth": ("official", ("--image_size=128",)),
  "upernet_swin_window4_mmseg.pth": ("openmmlab", ("--image_size=128",)),
}
COUNTER, INDEX = "num_batches_tracked", "relative_position_index"


def imported(name, destination):
  assert command("import", golden(f"upernet/{name}"), destination, *FAMILIES.get(name, ("", ()))[1]) == 0
  return destination


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
  """Returns the model folder of the golden model with windows of 4."""
  return imported("upernet_swin_window4", tmp_path_factory.mktemp("models") / "ours")


def tensors_of(file):
  """Returns the tensors in a golden file or folder, without those that no model reads."""
  if file.suffix == ".pth":
    return {name: value.numpy() for name, value in torch.load(file, weights_only=True)["state_dict"].items()}
  state = load_file(file / "model.safetensors")
  return {name: value for name, value in state.items() if not name.startswith("backbone.swin.layernorm")}


def without_dropout(call, args, kwargs, context):
  return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "padded"])
@pytest.mark.parametrize("window", [4, 7])
def test_logits_equal_those_of_transformers(window, kind, tmp_path):
  model, params = swin_jax.load(imported(f"upernet_swin_window{window}", tmp_path / "ours"))
  values = np.load(golden(f"upernet/upernet_swin_window{window}.npz"))
  expected = {name: torch.tensor(values[f"{kind}/{name}"]) for name in ("logits_quarter", "auxiliary")}
  images = values[f"{kind}/image"].astype(np.float32).transpose(0, 2, 3, 1)
  quarter = model.apply(params, images)
  peers.check(np.asarray(quarter).transpose(0, 3, 1, 2), expected["logits_quarter"], 2e-5)

  @jax.jit
  def train(params, images):
    return model.module.apply({"params": params}, images, train=True, rngs={"dropout": jax.random.key(0)})

  with nn.intercept_methods(without_dropout):
    (logits, auxiliary), _ = train(params, images)
  peers.check(np.asarray(logits).transpose(0, 3, 1, 2), expected["logits_quarter"], 2e-5)
  peers.check(np.asarray(auxiliary).transpose(0, 3, 1, 2), expected["auxiliary"], 2e-5)

  whole = np.asarray(dense.whole(lambda images: model.apply(params, images), images))
  peers.check(whole[:, -40:, -40:].transpose(0, 3, 1, 2), torch.tensor(values[f"{kind}/logits_corner"]), 2e-5)
  second, first = np.moveaxis(np.sort(whole, -1)[..., -2:], -1, 0)
  clear = first - second > 2 * 2e-5 * np.abs(whole).max()
  np.testing.assert_array_equal(whole.argmax(-1)[clear], values[f"{kind}/classes"][clear])
  assert clear.mean() > 0.999


@pytest.mark.parametrize("name", list(FAMILIES)[1:])
def test_all_names_give_equal_parameters(name, ours, tmp_path):
  theirs = imported(name, tmp_path / "theirs")
  left, right = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
  assert left.keys() == right.keys()
  for path, value in left.items():
    np.testing.assert_array_equal(right[path], value, err_msg=path)
  one, other = (json.loads((folder / "config.json").read_text()) for folder in (ours, theirs))
  del one["digests"], other["digests"]
  assert one == other


@pytest.mark.parametrize("name", FAMILIES)
def test_files_come_out_as_they_came_in(name, ours, tmp_path):
  """From the names of every program to those of every other."""
  layout, _ = FAMILIES[name]
  back = tmp_path / "model.safetensors"
  assert command("export", ours, back, f"--layout={layout}") == 0
  before, after = tensors_of(golden(f"upernet/{name}")), load_file(back)
  added = after.keys() - before.keys()
  assert before.keys() <= after.keys() and all(name.endswith(INDEX) for name in added)
  assert bool(added) == (layout != "hf")
  for tensor, value in before.items():
    assert (after[tensor].dtype, after[tensor].shape) == (value.dtype, value.shape), tensor
    assert after[tensor].tobytes() == value.tobytes() or tensor.endswith(COUNTER), tensor
  assert all(value == 0 for tensor, value in after.items() if tensor.endswith(COUNTER))
  again = tmp_path / "again"
  assert command("import", back if layout != "hf" else tmp_path, again, "--image_size=128") == 0
  assert (again / "model.safetensors").read_bytes() == (ours / "model.safetensors").read_bytes()


def test_transformers_loads_an_export_without_a_warning(ours, tmp_path):
  transformers = pytest.importorskip("transformers", reason="pip install -r requirements-peers.txt")
  file = tmp_path / "model.safetensors"
  assert command("export", ours, file, "--layout=hf") == 0
  load = transformers.UperNetForSemanticSegmentation.from_pretrained
  model, report = load(tmp_path, output_loading_info=True)
  assert not any(report.values())
  before = json.loads((golden("upernet/upernet_swin_window4") / "config.json").read_text())
  after = json.loads((tmp_path / "config.json").read_text())
  own = {"auxiliary_channels", "auxiliary_in_channels", "hidden_size", "pool_scales", "use_auxiliary_head"}
  assert {key: after[key] for key in own} == {key: before[key] for key in own}
  values = np.load(golden("upernet/upernet_swin_window4.npz"))
  with torch.no_grad():
    logits = model.eval()(torch.tensor(values["exact/image"].astype(np.float32))).logits
  peers.check(logits[..., -40:, -40:], torch.tensor(values["exact/logits_corner"]), 2e-5)


@pytest.mark.parametrize(
  "group, changes, reason",
  [
    (
      "segmentation",
      dict(norm="group", channels=32),
      "segmentation.norm='group', statistics of each image over 16 channels, where other programs' UPerNet"
      " has batch norm",
    ),
    ("model", dict(padding="masked"), "has model.padding = 'masked', which --layout=hf cannot represent"),
    ("model", dict(clamp_windows=True), "has model.clamp_windows = True, which"),
    ("model", dict(version=2), "has a backbone of Swin V2, where other programs' UPerNet has V1"),
  ],
  ids=str,
)
def test_a_model_that_others_cannot_have_is_refused(group, changes, reason, ours, tmp_path, capsys):
  config = json.loads((ours / "config.json").read_text())
  config[group] |= changes
  del config["digests"]
  folder = tmp_path / "folder"
  folder.mkdir()
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "model.safetensors").write_bytes((ours / "model.safetensors").read_bytes())
  words = ("export", folder, tmp_path / "out" / "model.safetensors", "--layout=hf")
  assert reason in refusal(capsys, *words, prints=True)
  assert not (tmp_path / "out").exists()


def test_other_layouts_have_no_upernet(ours, tmp_path, capsys):
  said = refusal(capsys, "export", ours, tmp_path / "x.safetensors", "--layout=timm")
  assert "is a UPerNet, which timm does not have; --layout=hf, openmmlab or official" in said


def test_padding_and_clamping_can_be_adapted_aloud(ours, tmp_path, capsys):
  words = ("adapt", ours, tmp_path / "adapted", "--padding=masked", "--clamp_windows=true")
  assert command(*words) == 0
  printed = capsys.readouterr().out
  assert "model.padding was attended and is masked: on maps that" in printed
  assert "model.clamp_windows was False and is True" in printed
  before, after = (json.loads((path / "config.json").read_text()) for path in (ours, tmp_path / "adapted"))
  assert after["model"] == before["model"] | {"padding": "masked", "clamp_windows": True}
  assert command("adapt", ours, tmp_path / "same", "--padding=attended", "--clamp_windows=false") == 0
  assert "outputs differ" not in capsys.readouterr().out


def test_class_names_come_from_the_files(tmp_path):
  state = torch.load(golden("upernet/upernet_swin_window4_fork.pth"), weights_only=True)
  names = [f"class {letter}" for letter in "abcdef"]
  for key, meta in {"old": {"CLASSES": tuple(names)}, "new": {"dataset_meta": {"classes": names}}}.items():
    torch.save(state | {"meta": meta}, tmp_path / f"{key}.pth")
    assert command("import", tmp_path / f"{key}.pth", tmp_path / key, "--image_size=128") == 0
    assert json.loads((tmp_path / key / "config.json").read_text())["data"]["class_names"] == names


def test_images_have_the_size_that_the_processor_gives_them(tmp_path):
  """The backbone's own image size is that of its pre-training."""
  source = golden("upernet/upernet_swin_window4")
  folder = tmp_path / "hf"
  folder.mkdir()
  for name in ("model.safetensors", "config.json"):
    (folder / name).write_bytes((source / name).read_bytes())
  (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 256, "width": 320}}))
  assert command("import", folder, tmp_path / "ours") == 0
  config = json.loads((tmp_path / "ours" / "config.json").read_text())
  assert config["data"]["image_size"] == [256, 320]
  assert config["dense"] == {"sides": [1024, 256], "eval_canvas": [1024, 1024], "window": []}


def test_what_the_head_lacks_is_named(tmp_path, capsys):
  state = tensors_of(golden("upernet/upernet_swin_window4"))
  config = (golden("upernet/upernet_swin_window4") / "config.json").read_text()
  cases = {
    "hidden_states_norms.stage2": "backbone.norm1.bias is missing",
    "hidden_states_norms": "does not norm the maps that its UPerNet reads",
    "fpn_convs.1.batch_norm.running_var": "decode_head.fpn_convs.1.batch_norm.running_var is missing",
    "auxiliary_head": "has a UPerNet without the auxiliary classifier",
  }
  for number, (part, reason) in enumerate(cases.items()):
    folder = tmp_path / str(number)
    folder.mkdir()
    kept = {name: value for name, value in state.items() if part not in name}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text(config)
    said = refusal(capsys, "import", folder, tmp_path / "ours")
    assert reason in said and "--encoder_only import" in said
    assert command("import", folder, folder / "encoder", "--encoder_only") == 0
