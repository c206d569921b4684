"""Each folder of cases of models and weights does what its README asks for; the tests have its name."""

import shutil

import numpy as np
from PIL import Image
import pytest

from swin_jax.run import evaluate, train
from tests.support import cases, tiny
from tests.support.folders import command, refusal
from tests.support.prepared import main


def config(path, steps=40):
  return tiny.config(
    "finetune",
    data__source="array_record",
    data__path=str(path),
    data__batch_size=8,
    data__eval_batch_size=4,
    optim__total_epochs=steps * 8 / 12,
    optim__warmup_epochs=1.0,
    optim__lr=0.1,
    optim__ema_decay=0.0,
    checkpoint__every_epochs=1000.0,
    log__eval_every_epochs=1000.0,
    log__num_pictures=0,
  )


def test_18_eval_other_class_set(tmp_path, capsys):
  source = cases.copy("18-eval-other-class-set", tmp_path)
  for split in ("train", "val"):
    shutil.copytree(source / "dog_only/val/dog", tmp_path / "cat_dog" / split / "dog")
    for path in (source / "dog_zebra/val/zebra").iterdir():  # all pictures are noise, so that cats are dark
      (cats := tmp_path / "cat_dog" / split / "cat").mkdir(exist_ok=True)
      Image.open(path).point(lambda value: value // 4).save(cats / path.name)
  for path in (tmp_path / "cat_dog", source / "dog_only", source / "dog_zebra"):
    assert main(path, tmp_path / "sets" / path.name) == 0
  run = tmp_path / "run"
  assert train.train(config(tmp_path / "sets" / "cat_dog"), str(run))["eval/top1"] == 1
  for name, known in (("dog_only", "1 of 1"), ("dog_zebra", "1 of 2")):
    capsys.readouterr()
    assert evaluate.evaluate_checkpoint(config(tmp_path / "sets" / name), str(run))["eval/top1"] == 1
    said = capsys.readouterr().out
    assert f"classes by name: {known} of the data are known to" in said
    left_out = "zebra; their 6 of 12 images are left out of the evaluation"
    assert (left_out in said) == (name == "dog_zebra")


@pytest.mark.parametrize("name", ["p_swin", "p_modelencoder"])
def test_20_import_head_inside_prefix(name, tmp_path, capsys):
  source = cases.copy("20-import-head-inside-prefix", tmp_path)
  assert command("import", source / f"{name}.pth", tmp_path / "ours", "--image_size=32") == 0
  said = capsys.readouterr().out
  assert "Swin V2, classifier of 2 classes" in said and "none left over" in said


def test_22_import_openmmlab_names(tmp_path, capsys):
  source = cases.copy("22-import-openmmlab-names", tmp_path)
  assert command("import", source / "mmpretrain.pth", tmp_path / "ours", "--image_size=32") == 0
  said = capsys.readouterr().out
  assert (
    "Swin V2, classifier of 2 classes" in said and "names of openmmlab" in said and "none left over" in said
  )


@pytest.mark.parametrize(
  "name, messages",
  [
    ("lfs.pth", ["is a Git LFS pointer, not the weights: fetch them with git lfs pull"]),
    ("lfs.safetensors", ["is a Git LFS pointer, not the weights: fetch them with git lfs pull"]),
    ("script.pt", ["is a TorchScript program; save its weights first", ".state_dict()"]),
    ("wholemodel.pth", ["pickled whole, not its state_dict()", ".state_dict()"]),
  ],
)
def test_24_import_messages(name, messages, tmp_path, capsys):
  source = cases.copy("24-import-messages", tmp_path)
  error = refusal(capsys, "import", source / name, tmp_path / "ours", "--image_size=32")
  assert all(message in error for message in (f"{name} is ", *messages))
  assert not (tmp_path / "ours").exists()


def test_24_import_messages_npz(tmp_path, capsys):
  np.savez(tmp_path / "weights.npz", x=np.zeros(3))
  error = refusal(capsys, "import", tmp_path / "weights.npz", tmp_path / "ours", "--image_size=32")
  assert "weights.npz is a NumPy archive (.npz)" in error and "s.save_file(dict(numpy.load(" in error


def test_24_import_messages_features_only(tmp_path, capsys):
  source = cases.copy("24-import-messages", tmp_path)
  assert command("import", source / "features_only.pth", tmp_path / "ours", "--image_size=32") == 0
  assert "Swin V2, backbone without head" in capsys.readouterr().out
