"""Helpers for tests of weights: the command, files of random weights, and model folders made from them."""

from safetensors.numpy import save_file

from swin_jax.saved import folder, tensors
from swin_jax.weights import importer, inference
from swin_jax.weights.__main__ import main
from tests.support import official

TINY = dict(embed_dim=16, depths=(2, 4), num_heads=(2, 4), window=4, image_size=32, classes=5)


def save(path, state):
  path.parent.mkdir(parents=True, exist_ok=True)
  save_file(state, path)
  return path


def command(*words):
  return main(["weights", *map(str, words)])


def refusal(capsys, *words, prints=False):
  """Returns the one line with which the command refuses; with `prints`, it must have described the file
  first.
  """
  capsys.readouterr()
  assert command(*words) == 2
  out, err = capsys.readouterr()
  assert bool(out) == prints and err.count("\n") == 1 and err.startswith("swin_jax: "), err
  return err


def imported(tmp_path, version=2, name="ours", **changes):
  """Returns a model folder of random weights."""
  state = official.random(official.state_dict(version, **TINY | changes))
  plan = importer.plan(
    tensors.open_tensors(str(save(tmp_path / f"{name}.safetensors", state))), inference.Hints()
  )
  folder.write(str(tmp_path / name), plan.description, plan.shapes, plan.read)
  return str(tmp_path / name)
