"""What data.fit_to_set chooses, that flags win, that a run keeps its choice, and what a run warns of."""

import json

import pytest

from configs import own_images, own_labels, own_rasters
from swin_jax.data.read.digits import Digits
from swin_jax.run import checks, compatibility, fit, reads, train
from swin_jax.run import config as run_config
from swin_jax.tasks import image_input
from swin_jax.terminal.errors import BadInput
from tests.support import tiny
from tests.support.runs import lines


def fitted(config, num_examples, given=()):
  config = fit.apply(config, fit.by_size(config, given))
  return fit.apply(config, fit.by_number(config, num_examples, given))


def warned(config, num_examples, changed=(), largest=None):
  return fit.warnings(config, *run_config.count_steps(config, num_examples), changed, largest)


@pytest.mark.parametrize(
  "examples, batch_size, steps",
  [(20, 20, 1000), (40, 40, 1000), (63, 60, 1000), (244, 32, 1000), (1000, 124, 1000), (50_000, 128, 7800)],
)
def test_batch_and_steps_follow_the_number_of_images(examples, batch_size, steps):
  config = fitted(own_images.get_config("cpu"), examples)
  assert (config.data.batch_size, config.optim.total_steps) == (batch_size, steps)
  assert run_config.count_steps(config, examples)[1] == steps
  assert examples % batch_size <= examples / 8


def test_a_lengthened_run_keeps_its_shape():
  config = fitted(own_images.get_config("finetune,cpu"), 244)  # 20 epochs of 7 steps, 2 of them warm-up
  per_epoch, total = run_config.count_steps(config, 244)
  assert run_config.warmup_steps(config, per_epoch) == pytest.approx(total / 10, abs=1)
  every = run_config.intervals(config, per_epoch)
  assert (total // every["evaluate"], total // every["save"]) == (4, 20)


@pytest.mark.parametrize("module, side", [(own_images, 64), (own_images, 48), (own_rasters, 64)])
def test_mask_cells_follow_the_size_of_the_images(module, side):
  config = module.get_config("cpu")
  assert warned(fitted(config, 5000), 5000) == []
  config.data.image_size = (side, 2 * side)
  config = fitted(config, 5000)
  assert side // config.mask.patch_size in (6, 8) and side % config.mask.patch_size == 0


@pytest.mark.parametrize("module", [own_images, own_labels, own_rasters])
@pytest.mark.parametrize("kind", [None, "cpu"])
def test_own_configs_need_no_remark_for_a_set_of_some_size(module, kind):
  config, given = module.get_config(kind), ()
  values = fit.by_size(config, given) | fit.by_number(config, 300, given)
  assert warned(fit.apply(config, values), 300, fit.changes(config, values)) == []


@pytest.mark.parametrize("key, value", [("data.batch_size", 16), ("mask.patch_size", 16)])
def test_a_flag_wins(key, value):
  config = own_images.get_config("cpu")
  group, name = key.split(".")
  config[group][name] = value
  assert fitted(config, 244, (key,))[group][name] == value


def test_flags_win_in_a_longer_run_and_in_one_that_continues():
  config = own_images.get_config("cpu")
  config.checkpoint.every_epochs = 3.0
  fitted_config = fitted(config, 244, ("checkpoint.every_epochs",))
  assert fitted_config.checkpoint.every_epochs == 3.0 and fitted_config.optim.warmup_epochs > 2.0
  stored = json.loads(json.dumps(fitted_config.to_dict()))
  config.mask.patch_size = 16
  assert fit.apply(config, fit.kept(config, stored)).mask.patch_size == 8
  assert fit.apply(config, fit.kept(config, stored, ("mask.patch_size",))).mask.patch_size == 16


@pytest.mark.parametrize("key, value, total", [("total_epochs", 6.0, 42), ("total_steps", 50, 50)])
def test_a_length_given_as_a_flag_wins(key, value, total):
  config = own_images.get_config("cpu")
  config.optim[key] = value
  config = fitted(config, 244, (f"optim.{key}",))
  assert run_config.count_steps(config, 244)[1] == total
  assert config.checkpoint.every_epochs == 1.0


def test_the_batch_divides_over_parts():
  config = own_images.get_config("cpu")
  config.optim.accumulation_steps = 6
  assert fitted(config, 244).data.batch_size == 24


def test_without_fit_to_set_nothing_is_chosen():
  config = own_images.get_config("cpu")
  config.data.fit_to_set = False
  assert fit.by_size(config, ()) | fit.by_number(config, 244, ()) | fit.kept(config, {"data": {}}, ()) == {}


def test_a_run_keeps_its_choice_except_for_flags():
  config = own_images.get_config("cpu")
  stored = json.loads(json.dumps(fitted(config, 244).to_dict()))
  again = fit.apply(config, fit.kept(config, stored))
  assert again.to_dict() == fitted(config, 244).to_dict()
  compatibility.check_same_run(again, stored, "run")
  config.optim.total_epochs = 30.0
  other = fit.apply(config, fit.kept(config, stored, ("optim.total_epochs",)))
  with pytest.raises(BadInput, match=r"total_epochs \(20.0 → 30.0\), .*total_steps.*longer_schedule"):
    compatibility.check_same_run(other, stored, "run")


def test_a_run_from_before_there_was_a_choice_goes_on():
  config = own_images.get_config()
  stored = json.loads(json.dumps(config.to_dict()))
  del stored["data"]["fit_to_set"], stored["optim"]["total_steps"]
  compatibility.check_same_run(fit.apply(config, fit.kept(config, stored)), stored, "run")


@pytest.mark.parametrize(
  "changes, given, words",
  [
    (dict(optim__total_epochs=20.0, optim__warmup_epochs=2.0), (), ["only 20 steps of 128 images"]),
    (dict(mask__patch_size=32), (), ["2 × 2 cells of 32 px", "mask.patch_size=8"]),
    (
      dict(data__batch_size=4, optim__lr=6e-5),
      ("data.batch_size",),
      ["4.69e-07, not 6e-05", "--config.optim.lr=0.00768"],
    ),
    (dict(optim__total_epochs=300.0, optim__warmup_epochs=250.0), (), ["warm-up takes 250 of the 300 steps"]),
  ],
)
def test_what_promises_a_poor_result_is_named(changes, given, words):
  config = own_images.get_config("cpu")
  config.optim.update(total_epochs=300.0, warmup_epochs=10.0)
  config.mask.patch_size = 8
  for key, value in changes.items():
    group, _, name = key.partition("__")
    config[group][name] = value
  (warning,) = warned(config, 244, given)
  assert all(word in warning for word in words), warning


@pytest.mark.parametrize(
  "module, kind, largest, words",
  [
    (own_images, "pretrain", (64, 64), "data.image_size = (256, 256)|64 × 64|--config.data.image_size=64,64"),
    (own_images, "finetune", (28, 28), "--config.data.image_size=64,64"),
    (own_images, "scratch", (100, 500), "the largest of 100 × 500|--config.data.image_size=128,128"),
    (own_rasters, "pretrain", (70, 60), "(128, 128)|--config.data.image_size=64,64"),
    (own_labels, "scratch", (96, 128), "dense.sides = (1024, 512)|5.33 times|--config.dense.sides=()"),
    (own_labels, "regress", (64, 64), "8 times"),
    (own_images, "pretrain", (256, 300), ""),
    (own_images, "pretrain", (250, 300), ""),  # a multiple of 32 is 256 again
    (own_images, "cpu", (48, 64), ""),
    (own_labels, "scratch", (300, 400), ""),
    (own_rasters, "segment", (32, 32), ""),  # tiles keep their size
    (own_images, "pretrain", None, ""),
  ],
)
def test_images_that_are_enlarged_are_named(module, kind, largest, words):
  config = module.get_config(kind)
  config = fit.apply(config, fit.by_size(config, ()))
  config.optim.update(total_epochs=300.0, warmup_epochs=10.0)
  lines = warned(config, 5000, (), largest)
  assert len(lines) == bool(words) and all(word in "".join(lines) for word in words.split("|"))


@pytest.mark.parametrize("module", [own_images, own_rasters])
@pytest.mark.parametrize("side", [64, 96, 160])
def test_the_image_size_that_is_proposed_suits_the_config_and_its_masks(module, side):
  """Cells follow data.image_size, which the images are resized to: the same share of an image at any size."""
  for kind in ("pretrain", "finetune"):
    config = module.get_config(kind)
    config.data.image_size = (256, 256)
    (line,) = image_input.warnings(config, (side, side + 20))
    proposed = tuple(map(int, line.rpartition("=")[2].split(",")))
    assert proposed == (side, side)
    config.data.update(image_size=proposed, mean=(0.5,) * 3, std=(0.5,) * 3)
    config = fit.apply(config, fit.by_size(config, ()))
    checks.check(config)
    assert config.task != "masked_pixels" or side // config.mask.patch_size >= 4
    assert image_input.warnings(config, (side, side + 20)) == ()


def test_a_warm_up_longer_than_the_steps_is_refused():
  config = tiny.config(optim__total_steps=10, optim__warmup_epochs=1.0)
  with pytest.raises(BadInput, match=r"warmup_epochs = 1 are 89 steps, more than optim.total_steps = 10"):
    run_config.count_steps(config, 1437)


def test_the_length_cannot_be_given_twice():
  config = tiny.config(optim__total_steps=10)
  with pytest.raises(BadInput, match="total_epochs has no effect, because optim.total_steps = 10"):
    reads.check_flags(config, ["optim.total_steps", "optim.total_epochs"])
  reads.check_flags(config, ["optim.total_steps"])


@pytest.mark.slow
def test_a_run_goes_on_with_its_choice_when_the_set_grows(tmp_path, monkeypatch, capsys):
  """The first process ends after a few steps of its schedule; then there are more images."""
  config = tiny.config(
    data__fit_to_set=True, data__batch_size=128, mask__patch_size=16, checkpoint__every_epochs=2 / 89
  )
  given = ("optim.total_steps", "checkpoint.every_epochs", "log.eval_every_epochs")
  config.optim.total_steps = 6
  config.checkpoint.every_epochs = config.log.eval_every_epochs = 0.3
  length = Digits.__len__
  monkeypatch.setattr(Digits, "__len__", lambda self: min(length(self), 500))
  poll = train.checkpoint.Checkpoints.poll
  polls = []

  def stop(self):
    polls.append(poll(self))
    if len(polls) == 5:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(train.checkpoint.Checkpoints, "poll", stop)
    train.train(config, str(tmp_path), given)
  said = capsys.readouterr().out
  assert "for 500 training images: mask.patch_size=4, data.batch_size=60" in said
  assert said.index("warning: the run has only 6 steps") < said.index("compiling")
  stored = (tmp_path / "config.json").read_text()
  monkeypatch.setattr(Digits, "__len__", lambda self: min(length(self), 1000))
  train.train(config, str(tmp_path), given)
  said = capsys.readouterr().out
  assert "as chosen when the run began" in said and "grown from 500 to 1,000 images" in said
  assert "continuing" in said
  assert (tmp_path / "config.json").read_text() == stored
  assert lines(tmp_path)[-1]["step"] == 6
  monkeypatch.setattr(Digits, "__len__", lambda self: min(length(self), 400))
  with pytest.raises(BadInput, match="trained on 500 examples"):
    train.train(config, str(tmp_path), given)
