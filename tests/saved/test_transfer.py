"""What a run transfers from another model: V1's bias tables at another window, bands and classes, from
workdirs and model folders.
"""

import json
import os

import jax
import numpy as np
import pytest

import swin_jax
from swin_jax.models.swin import bias_tables
from swin_jax.run import evaluate, train
from swin_jax.saved import class_rows, transfer
from swin_jax.terminal.errors import BadInput
from tests.support import official, seals, tiny
from tests.support.folders import command, save


def offsets(window):
  return np.arange(1 - window, window)


@pytest.mark.parametrize("old, new", [(6, 7), (7, 14), (6, 12)])
def test_centre_and_corners_keep_their_place(old, new):
  """The official rule spaces offsets geometrically: 0 stays 0, 1 stays 1, and the largest old offset maps to
  the largest new one.
  """
  rows, columns = np.meshgrid(offsets(old), offsets(old), indexing="ij")
  table = np.stack([rows, columns, rows * 0 + 3.0], -1).reshape(-1, 3).astype(float)
  resized = bias_tables.resize_bias_table(table, (2 * new - 1) ** 2).reshape(2 * new - 1, 2 * new - 1, 3)
  middle = new - 1
  np.testing.assert_allclose(resized[middle, middle], [0, 0, 3], atol=1e-9)
  np.testing.assert_allclose(resized[middle + 1, middle - 1], [1, -1, 3], atol=1e-9)
  np.testing.assert_allclose(resized[-1, 0], [old - 1, 1 - old, 3], atol=0.02)
  np.testing.assert_allclose(resized[..., 2], 3, atol=1e-9)
  assert (np.diff(resized[:, middle, 0]) > 0).all()


@pytest.mark.parametrize(
  "old, new, why", [(45, 169, "square windows"), (169, 45, "square windows"), (9, 169, "four tokens")]
)
def test_windows_it_cannot_do_are_refused(old, new, why):
  with pytest.raises(BadInput, match=why):
    bias_tables.resize_bias_table(np.zeros((old, 1)), new)


def pretrained(tmp_path, version=2, **changes):
  """Writes a model folder of a masked-image model like that of `tests/support/tiny.py`, with
  random weights.
  """
  model = (
    dict(
      embed_dim=16, depths=(2, 2), num_heads=(2, 4), window=4, image_size=32, patch=4, bands=1, simmim=True
    )
    | changes
  )
  path = save(
    tmp_path / "public" / "model.safetensors", official.random(official.state_dict(version, **model))
  )
  assert command("import", path, tmp_path / "ours") == 0
  return str(tmp_path / "ours")


def short(**changes):
  brief = dict(optim__total_epochs=2 / 89, optim__warmup_epochs=1 / 89, optim__ema_decay=0.0)
  return tiny.config("finetune", model__depths=(2, 2), **brief, **changes)


@pytest.mark.slow
def test_a_run_starts_from_a_model_folder(tmp_path, capsys):
  source = pretrained(tmp_path)
  train.train(short(init_from=source, optim__lr=0.0, optim__warmup_lr=0.0), str(tmp_path / "run"))
  assert "note: the weights in init_from were trained with other images" in capsys.readouterr().out
  report = (tmp_path / "run" / "transfer.txt").read_text()
  assert report.startswith(f"from {source}: 77 arrays loaded, 0 adapted, 3 dropped, 2 newly initialised")
  assert "fresh    head/kernel" in report and "dropped  mask_token" in report
  ours, theirs = swin_jax.load(tmp_path / "run")[1]["encoder"], swin_jax.load(source)[1]["encoder"]
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), ours, theirs))


@pytest.mark.slow
def test_a_run_starts_with_other_bands_and_windows(tmp_path):
  source = pretrained(tmp_path, version=1, bands=3)
  changes = dict(
    model__version=1, model__window_sizes=(8, 4), transfer__bands="mean", transfer__bias_tables="bicubic"
  )
  train.train(short(init_from=source, optim__lr=0.0, optim__warmup_lr=0.0, **changes), str(tmp_path / "run"))
  report = (tmp_path / "run" / "transfer.txt").read_text()
  assert "adapted  encoder/patch_embed/proj/kernel (48, 16) → (16, 16), bands by mean" in report
  assert "adapted  encoder/stage0/blocks/block1/attn/bias_table (1, 49, 2) → (1, 225, 2), bicubic" in report
  (_, ours), (_, theirs) = swin_jax.load(tmp_path / "run"), swin_jax.load(source)
  kernel = np.asarray(theirs["encoder"]["patch_embed"]["proj"]["kernel"]).reshape(16, 3, 16)
  np.testing.assert_allclose(
    ours["encoder"]["patch_embed"]["proj"]["kernel"], kernel.sum(1), rtol=1e-5, atol=1e-6
  )
  table = np.asarray(theirs["encoder"]["stage0"]["blocks"]["block0"]["attn"]["bias_table"][0])
  wide = bias_tables.resize_bias_table_bicubic(table, 225)
  np.testing.assert_allclose(
    ours["encoder"]["stage0"]["blocks"]["block0"]["attn"]["bias_table"][0], wide, rtol=1e-5, atol=1e-6
  )


@pytest.mark.slow
def test_a_run_takes_rows_of_a_larger_head(tmp_path):
  source = pretrained(tmp_path, simmim=False, classes=21)
  (tmp_path / "map.txt").write_text("\n".join(str(20 - 2 * k) for k in range(10)))
  config = short(
    init_from=source, optim__lr=0.0, optim__warmup_lr=0.0, transfer__class_map=str(tmp_path / "map.txt")
  )
  train.train(config, str(tmp_path / "run"))
  (_, ours), (_, theirs) = swin_jax.load(tmp_path / "run"), swin_jax.load(source)
  np.testing.assert_array_equal(ours["head"]["kernel"], theirs["head"]["kernel"][:, 20:0:-2])
  np.testing.assert_array_equal(ours["head"]["bias"], theirs["head"]["bias"][20:0:-2])


def test_a_name_in_a_file_cannot_pass_for_a_line_of_the_report():
  report = transfer.Report("x", [], [], ["head/a\nforged"], [])
  assert report.lines()[1:] == ["  dropped  head/a\\nforged"]


def test_a_model_folder_is_not_trained_in(tmp_path):
  source = pretrained(tmp_path)
  before = (tmp_path / "ours" / "config.json").read_text()
  with pytest.raises(BadInput, match="is a model folder; to start from it: --config.init_from="):
    train.train(short(init_from=source), source)
  assert (tmp_path / "ours" / "config.json").read_text() == before and len(
    list((tmp_path / "ours").iterdir())
  ) == 2


def test_another_encoder_is_refused_with_the_flags_that_would_do(tmp_path):
  source = pretrained(tmp_path, version=1, depths=(2, 4))
  with pytest.raises(
    BadInput,
    match=r"is Swin V1, but this config's is Swin V2; to match it give --config.model.version=1"
    r" --config.model.depths=2,4$",
  ):
    train.train(short(init_from=source), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_a_class_map_without_a_head_is_refused(tmp_path):
  (tmp_path / "map.txt").write_text("0\n1\n")
  with pytest.raises(BadInput, match="has no head for"):
    train.train(
      short(init_from=pretrained(tmp_path), transfer__class_map=str(tmp_path / "map.txt")),
      str(tmp_path / "run"),
    )


@pytest.mark.parametrize(
  "text, why", [("0\n²\n", "line 2 has none"), ("", "line 1 has none"), (None, "it is not a regular file")]
)
def test_a_file_that_is_no_class_map_is_one_line(text, why, tmp_path):
  path = tmp_path / "map.txt"
  path.write_text(text) if text is not None else os.mkfifo(path)
  with pytest.raises(BadInput, match=why):
    class_rows.read_class_map(str(path))


@pytest.mark.slow
def test_a_model_folder_is_evaluated(tmp_path, capsys):
  """It is evaluated like the run that it came from, even after conversion through other layouts, and for V1
  at another window with interpolated tables.
  """
  changes = dict(model__version=1, model__window_sizes=(4, 4))
  train.train(short(**changes), str(tmp_path / "run"))
  assert command("adapt", tmp_path / "run", tmp_path / "slim") == 0
  assert command("export", tmp_path / "run", tmp_path / "x.safetensors", "--layout=official") == 0
  assert command("import", tmp_path / "x.safetensors", tmp_path / "again") == 0
  sources, images = (
    [str(tmp_path / name) for name in ("run", "slim", "again")],
    np.random.default_rng(0).random((2, 32, 32, 1), np.float32),
  )
  logits = [np.asarray(model.apply(params, images)) for model, params in map(swin_jax.load, sources)]
  np.testing.assert_array_equal(logits[1], logits[0])
  np.testing.assert_array_equal(logits[2], logits[0])
  slim, again = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("slim", "again"))
  # An official file holds no class names, mean or std, and not how evaluation crops.
  assert (slim["data"]["class_names"], again["data"]["class_names"]) == (list("0123456789"), [])
  assert slim.pop("data") != again.pop("data") and slim.pop("digests") != again.pop("digests")
  assert slim.pop("augment") != again.pop("augment") and slim == again
  values = [evaluate.evaluate_checkpoint(short(**changes), source) for source in sources[:2]]
  assert values[0] == values[1]
  with pytest.raises(BadInput, match=r"belongs to another model: head/bias \(10,\) ≠ \(12,\) here"):
    evaluate.evaluate_checkpoint(short(classification__num_classes=12, **changes), str(tmp_path / "slim"))
  assert "classes by" not in capsys.readouterr().out
  seals.edit(
    tmp_path / "slim/config.json", lambda config: config["data"]["class_names"].__setitem__(3, "three")
  )
  wide = changes | dict(model__window_sizes=(8, 4), transfer__bias_tables="bicubic")
  evaluate.evaluate_checkpoint(short(**wide), str(tmp_path / "slim"))
  said = capsys.readouterr().out
  assert (
    "2 bias tables by the bicubic rule" in said
    and f"classes by name: 9 of 10 of the data are known to {tmp_path / 'slim'} (10)\n" in said
    and f"not known to {tmp_path / 'slim'}: 3; their " in said
  )
  assert command("adapt", tmp_path / "slim", tmp_path / "adapted", "--window=8", "--bias_tables=bicubic") == 0
  again = evaluate.evaluate_checkpoint(
    short(**changes | dict(model__window_sizes=(8, 8))), str(tmp_path / "adapted")
  )
  assert again == evaluate.evaluate_checkpoint(
    short(**wide | dict(model__window_sizes=(8, 8))), str(tmp_path / "slim")
  )
