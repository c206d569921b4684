"""A damaged model folder is refused before anything in it is used, with the file named."""

import errno
import json
import os
import shutil

import numpy as np
import pytest

import swin_jax
from swin_jax.export import __main__ as export
from swin_jax.run import evaluate, train
from swin_jax.saved import description as descriptions
from swin_jax.saved import folder, tensors
from swin_jax.show import __main__ as show
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput, Fault
from swin_jax.weights import __main__ as weights
from tests.support import damages, images, seals, tiny


@pytest.fixture(scope="module", name="intact")
def _intact(tmp_path_factory):
  """A model folder with a further file, so that its sizes can be swapped."""
  path = tmp_path_factory.mktemp("intact") / "model"
  description = descriptions.describe(tiny.config("finetune").to_dict(), "a config")
  rng, shapes = np.random.default_rng(0), descriptions.parameter_shapes(description)
  folder.write(
    str(path), description, shapes, lambda name: rng.normal(0, 0.1, shapes[name]).astype(np.float32)
  )
  return path


@pytest.fixture(name="model")
def _model(intact, tmp_path):
  return shutil.copytree(intact, tmp_path / "model")


def refusal(path):
  with pytest.raises(BadInput) as error:
    folder.open_saved(str(path))
  assert "\n" not in str(error.value)
  return str(error.value)


def test_an_intact_folder_is_opened_without_a_word(model, capsys):
  assert folder.open_saved(str(model)).shapes
  assert weights.main(["weights", "verify", str(model)]) == 0
  assert capsys.readouterr().out.startswith(f"verifying {model}  ")
  assert json.loads((model / "config.json").read_text())["digests"].keys() == {
    "config.json",
    "model.safetensors",
  }


@pytest.mark.parametrize(
  "damage, said", damages.OF_A_FILE.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_damaged_weights_are_refused(model, capsys, damage, said):
  path = model / folder.WEIGHTS
  damage(path)
  if damage in (damages.remove, damages.dangle):
    assert "holds no checkpoint" in refusal(model)  # not a model folder any more
  else:
    with pytest.raises(BadInput, match=f"^{path} {said}; restore it, or write the folder again$"):
      folder.open_saved(str(model))
  assert weights.main(["weights", "verify", str(model)]) == 2
  printed = capsys.readouterr()
  assert f"{folder.WEIGHTS} " in printed.out and "1 of 1 files are damaged or missing" in printed.err


def test_weights_of_another_model_are_refused(model, tmp_path):
  """Of the same size, such as two folders whose weights were swapped."""
  content = tensors.open_tensors(str(model))
  other = {name: content.read(name) + 1 for name in content.shapes}
  tensors.write(
    tmp_path / "other.safetensors",
    ((name, value.shape, value.dtype) for name, value in other.items()),
    other.__getitem__,
  )
  assert (tmp_path / "other.safetensors").stat().st_size == (model / folder.WEIGHTS).stat().st_size
  (tmp_path / "other.safetensors").replace(model / folder.WEIGHTS)
  assert "model.safetensors has changed" in refusal(model)


def test_a_flipped_bit_of_the_description_is_refused(model):
  """Also one that leaves a valid description, such as another digit of a mean."""
  path = model / folder.CONFIG
  content = path.read_bytes()
  rng, harmless = np.random.default_rng(0), 0
  for place in rng.choice(8 * len(content), 60, replace=False):
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    try:
      assert json.loads(flipped) == json.loads(content) or b"digests" not in flipped
      harmless += 1
    except (AssertionError, ValueError):
      assert f"{model} has no readable" in (said := refusal(model)) or str(path) in said
  assert harmless < 5
  assert b'"embed_dim": 16' in content
  path.write_bytes(content.replace(b'"embed_dim": 16', b'"embed_dim": 17'))
  assert "config.json has changed since it was written (its digests do not match); restore it, or" in refusal(
    model
  )


def test_a_changed_description_is_accepted_without_digests(model, capsys):
  """As the refusal says."""
  config = json.loads((model / folder.CONFIG).read_text())
  config["data"]["class_names"] = list("abcdefghij")
  (model / folder.CONFIG).write_text(json.dumps(config))
  assert "if you changed it yourself, delete its group 'digests'" in refusal(model)
  seals.unseal(model)
  assert folder.open_saved(str(model)).config["data"]["class_names"][0] == "a"
  assert capsys.readouterr().out.count("\n") == 1


def test_a_folder_without_digests_loads_with_one_line(model, capsys):
  seals.unseal(model)
  folder.open_saved(str(model))
  assert capsys.readouterr().out == (
    f"{model} has no digests, so damage to it cannot be detected; python -m swin_jax.weights adapt {model}"
    " DST writes a copy that has them\n"
  )
  assert weights.main(["weights", "verify", str(model)]) == 2
  assert "has no digests" in capsys.readouterr().err
  assert weights.main(["weights", "adapt", str(model), str(model.with_name("copy"))]) == 0
  capsys.readouterr()
  folder.open_saved(str(model.with_name("copy")))
  assert not capsys.readouterr().out


def test_weights_must_be_listed_and_further_files_have_their_size(model):
  (model / "notes.txt").write_text("one")
  folder.open_saved(str(model))  # an extra file changes nothing
  seals.reseal(model)
  (model / "notes.txt").write_text("three")
  assert "notes.txt has 5 bytes, not 3; restore it" in refusal(model)
  (model / "notes.txt").unlink()
  assert "notes.txt is missing" in refusal(model)
  content = (model / folder.WEIGHTS).read_bytes()
  (model / folder.WEIGHTS).unlink()
  seals.reseal(model)
  (model / folder.WEIGHTS).write_bytes(content)
  assert "model.safetensors is not listed in config.json" in refusal(model)


def test_the_weights_are_read_once(model, monkeypatch):
  """However many parameters are read one by one."""
  count, find_damage = [], folder.digests.find_damage
  monkeypatch.setattr(
    folder.digests,
    "find_damage",
    lambda path, *args, **options: (
      count.append((path.name, options.get("read", True))) or find_damage(path, *args, **options)
    ),
  )
  assert weights.main(["weights", "adapt", str(model), str(model.with_name("copy"))]) == 0
  assert count == [(folder.WEIGHTS, False), (folder.WEIGHTS, True)]


def test_every_command_refuses_it(model, tmp_path, capsys):
  damages.flip_a_bit(model / folder.WEIGHTS)
  image, out = tmp_path / "image.png", tmp_path / "out"
  image.write_bytes(images.encode(0))
  for main, *words in (
    (weights.main, "adapt", model, out),
    (weights.main, "export", model, tmp_path / "out.safetensors", "--layout=official"),
    (export.main, model, out),
    (show.main, "features", model, image, f"--out={out}"),
  ):
    assert main(["command", *map(str, words)]) == 2, words
    (line,) = capsys.readouterr().err.splitlines()
    assert "model.safetensors has changed" in line
  for function in (
    lambda: swin_jax.load(model),
    lambda: evaluate.evaluate_checkpoint(tiny.config("finetune"), str(model)),
    lambda: train.train(tiny.config("finetune", init_from=str(model)), str(out)),
  ):
    with pytest.raises(BadInput, match="model.safetensors has changed"):
      function()
  assert sorted(path.name for path in tmp_path.iterdir()) == ["image.png", "model"]


@pytest.mark.parametrize("number, kind", [(errno.ENOSPC, Fault), (errno.EACCES, BadInput)])
def test_a_full_disk_is_not_the_fault_of_the_destination(number, kind, tmp_path, monkeypatch):
  def fail(**_):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(files.tempfile, "TemporaryFile", fail)
  with pytest.raises(BadInput, match="new cannot be created: ") as error:
    files.check_free(str(tmp_path / "new"))
  assert type(error.value) is kind
