"""Which keys may change when a run is resumed: only those that do not affect its results."""

import json

import pytest

from configs import common
from swin_jax.run import compatibility, reads
from swin_jax.tasks import KINDS
from swin_jax.terminal.errors import BadInput
from tests.support import tiny

pytestmark = pytest.mark.every_python

# Groups that define the content of the batches, and the keys among them that only affect how the data is
# read, or which other keys are filled in.
DATA = ("data", "augment", "dense", "mask", "seed")
READING = ("data.num_threads", "data.num_workers", "data.max_bad_fraction", "data.fit_to_set")
# Groups that define the computation, and the keys among them that do not change its results.
COMPUTATION = ("optim", "transfer", "init_from", *KINDS)
EXECUTION = ("optim.accumulation_steps", "optim.skip_nonfinite_steps")


@pytest.mark.parametrize("name", KINDS)
def test_every_other_key_is_refused(name):
  config = tiny.config(task=name)
  refused, allowed = set(), set()
  for key in compatibility.flatten(common.base().to_dict()):
    if key == "task" or not reads.is_in(key, (*reads.COMMON, *KINDS[name].reads)):
      continue
    stored = json.loads(json.dumps(config.to_dict()))
    *groups, last = key.split(".")
    group = stored[groups[0]] if groups else stored
    group[last] = "of another run"
    try:
      compatibility.check_same_run(config, stored, "runs/mine")
      allowed.add(key)
    except BadInput as error:
      assert f"runs/mine holds a run with another config: {key} (of another run → " in str(error)
      refused.add(key)
  of = lambda groups: {key for key in refused | allowed if key.partition(".")[0] in groups}
  assert of(DATA) - refused == set(READING)
  assert of(COMPUTATION) - refused == set(EXECUTION)
  assert len(of(DATA)) > 15 and len(of(COMPUTATION)) > 20


def test_a_model_of_a_task_without_keys_of_its_own_is_evaluated(monkeypatch):
  monkeypatch.setitem(KINDS, "classification", KINDS["classification"]._replace(describe={}))
  config = tiny.config("finetune")
  stored = json.loads(json.dumps(config.to_dict()))
  compatibility.check_same_model(config, stored, "runs/mine")
  stored["model"]["embed_dim"] *= 2
  with pytest.raises(BadInput, match="model.embed_dim"):
    compatibility.check_same_model(config, stored, "runs/mine")
