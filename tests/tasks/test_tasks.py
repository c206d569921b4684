"""The table of tasks: every kind fits the config and its own views, and the metrics it reports are
documented.
"""

import types

import jax
import numpy as np
import pytest

from configs import common
from swin_jax.data.read.decoding import Decoded
from swin_jax.run.inputs import open_input
from swin_jax.saved import description
from swin_jax.show.grad_cam import image_classes
from swin_jax.tasks import KINDS, kind_of, task
from swin_jax.terminal.errors import BadInput
from tests.support import tiny

TABLE = pytest.mark.parametrize("name", KINDS)


def config(name, **changes):
  small = dict(
    data__image_size=(24, 24),
    data__mean=(0.5, 0.4),
    data__std=(0.2, 0.3),
    dense__sides=(),
    dense__eval_canvas=(40, 48),
  )
  return tiny.config(task=name, dense__photometric=False, **small | changes)


@TABLE
def test_a_kind_has_its_group(name):
  base = common.base()
  assert KINDS[name].group == name
  assert name in base or name not in KINDS[name].reads
  assert KINDS[name].needs.has_classes == ("num_classes" in base.get(name, {}))
  for group, keys in KINDS[name].describe.items():
    assert set(keys) <= set(base[group])


def test_an_unknown_task_names_the_others():
  with pytest.raises(BadInput, match=f"config.task = 'segment': choose one of {', '.join(map(repr, KINDS))}"):
    kind_of({"task": "segment"})


@pytest.mark.parametrize(
  "kind", [task.Task, task.TaskKind, task.PixelAnswers, task.Evaluation, task.Outputs, task.Drawing]
)
def test_every_field_is_documented(kind):
  for field in kind._fields:
    assert f"    {field}: " in kind.__doc__


@TABLE
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_fields_are_those_of_the_views(name, dtype):
  """A training view yields what `fields` says a batch holds. The evaluation view has the same names, and the
  extent of an image on its canvas.
  """
  kind, settings = KINDS[name], config(name, data__dtype=dtype)
  target = np.ones((40, 46), np.uint8 if kind.needs.has_classes else np.float32)
  example = Decoded(np.full((40, 46, 2), 7, dtype), target if kind.needs.per_pixel else None, 3)
  fields, (train_view, eval_view) = kind.fields(settings), kind.views(settings)
  training, evaluation = (view(example, np.random.default_rng(0)) for view in (train_view, eval_view))
  extent = evaluation.pop("extent", None)
  assert training.keys() == evaluation.keys() == fields.keys()
  assert (extent is not None) == kind.needs.per_pixel
  if kind.needs.per_pixel:
    assert ("valid" in fields) == (dtype == "float32")
  if "valid" in fields and kind.needs.per_pixel:  # outside the image there is no data
    np.testing.assert_array_equal(~np.isnan(evaluation["image"]).all(-1), evaluation["valid"])
    assert not evaluation["valid"].all()
  for field, (shape, of) in fields.items():
    assert np.shape(training[field]) == tuple(shape) and training[field].dtype == of, field


@pytest.mark.parametrize("name, over_pixels", [("classification", False), ("masked_pixels", True)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_only_a_loss_over_pixels_is_told_where_floats_are_data(name, over_pixels, dtype):
  expected = over_pixels and dtype == "float32"
  assert ("valid" in KINDS[name].fields(config(name, data__dtype=dtype))) == expected


@TABLE
def test_a_description_keeps_what_the_module_needs(name):
  """The module of the run can be rebuilt from a description, as stored in a model folder."""
  kind, settings = KINDS[name], config(name, model__depths=(1, 1))
  if kind.needs.has_classes:
    settings[name].num_classes = 3
  described = description.describe(settings.to_dict(), "a run")
  assert description.describe(described, "a folder") == described
  module = description.make_module(described)
  shapes = description.parameter_shapes(described)
  task_ = kind.make(module.encoder, settings)
  batch = {field: np.zeros((1, *shape), dtype) for field, (shape, dtype) in kind.fields(settings).items()}
  params = jax.eval_shape(lambda: task_.init(jax.random.key(0), batch))
  assert sum(np.prod(shape) for shape in shapes.values()) == sum(
    leaf.size for leaf in jax.tree.leaves(params)
  )
  assert set(kind.inputs(described, (24, 24))) <= set(batch)
  assert kind.num_classes(described) == (3 if kind.needs.has_classes else 0)
  assert kind.summarise(described) and kind.outputs(described).name


def test_a_folder_from_before_it_kept_the_interpolation_was_shown_by_bilinear():
  described = description.describe(
    config("segmentation", augment__interpolation="bicubic").to_dict(), "a run"
  )
  assert described["augment"] == {"interpolation": "bicubic"}
  del described["augment"]
  assert description.describe(described, "an old folder")["augment"] == {"interpolation": "bilinear"}


def test_a_kind_brings_its_decoder(monkeypatch):
  monkeypatch.setitem(KINDS, "classification", KINDS["classification"]._replace(decode=lambda *given: given))
  assert open_input(tiny.config("finetune")).decode == (1, "uint8")


@pytest.mark.parametrize("name", KINDS)
def test_classes_of_images_need_no_drawing_to_be_told_from_those_of_pixels(name):
  model = types.SimpleNamespace(kind=KINDS[name]._replace(pixels=None), class_names=("a", "b"))
  assert image_classes(model) == (0 if KINDS[name].needs.per_pixel else 2)
