"""Files without plain tensors: what they are, and the way to their weights; entries of torch's files."""

import gzip
import pathlib
import zipfile

import numpy as np
import pytest

from swin_jax.saved import file_kinds
from tests.support import official
from tests.support.folders import TINY, command, refusal

pytestmark = pytest.mark.every_python

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 113000000\n"
BEGINNINGS = {
  "an LFS pointer": (POINTER, "is a Git LFS pointer, not the weights: fetch them with git lfs pull"),
  "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file, as Keras writes"),
  "gzip": (gzip.compress(b"weights"), "is compressed with gzip; unpack it first"),
  "an array": (b"\x93NUMPY\x01\x00", "is a NumPy file of one array"),
  "a web page": (b"\n<!DOCTYPE html><html>", "is a web page, not the weights: download the file itself"),
}


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.bin"])
@pytest.mark.parametrize("kind", BEGINNINGS)
def test_beginnings_of_files(kind, name, tmp_path, capsys):
  content, said = BEGINNINGS[kind]
  (tmp_path / name).write_bytes(content)
  assert f"{name} {said}" in refusal(capsys, "import", tmp_path / name, tmp_path / "ours")
  assert f"{name} {said}" in refusal(capsys, "import", tmp_path / name, tmp_path / "ours", "--allow_pickle")


def test_a_pointer_in_a_cloned_repository(tmp_path, capsys):
  (tmp_path / "hub").mkdir()
  (tmp_path / "hub/model.safetensors").write_bytes(POINTER)
  said = refusal(capsys, "import", tmp_path / "hub", tmp_path / "ours")
  assert "hub/model.safetensors is a Git LFS pointer" in said


def test_archives(tmp_path, capsys):
  np.savez(tmp_path / "x.npz", a=np.zeros(3), b=np.ones(2))
  said = refusal(capsys, "import", tmp_path / "x.npz", tmp_path / "ours")
  assert "x.npz is a NumPy archive (.npz); if its names are those of PyTorch, convert it: python -c" in said
  with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
    archive.writestr("swin/weights.pth", "")
  said = refusal(capsys, "import", tmp_path / "x.zip", tmp_path / "ours")
  assert "x.zip is a ZIP archive without weights of PyTorch" in said


# With torch.

torch = pytest.importorskip("torch", reason="torch is not installed; pip install -r requirements-peers.txt")


def run(said, folder):
  """Runs the Python of a command that a message gives, in a folder."""
  code = said.split('python -c "')[1].rpartition('"')[0]
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    exec(code, {})


def test_the_conversion_of_an_npz_works(tmp_path, capsys):
  np.savez(tmp_path / "x.npz", **official.random(official.state_dict(2, **TINY)))
  run(refusal(capsys, "import", tmp_path / "x.npz", tmp_path / "ours"), tmp_path)
  assert command("import", tmp_path / "x.safetensors", tmp_path / "ours") == 0


def test_a_torchscript_program(tmp_path, capsys):
  torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), tmp_path / "x.pt")
  said = refusal(capsys, "import", tmp_path / "x.pt", tmp_path / "ours")
  assert "x.pt is a TorchScript program; save its weights first" in said
  run(said, tmp_path)
  assert torch.load(tmp_path / "x_weights.pth").keys() == {"weight", "bias"}


class Network(torch.nn.Module):
  """A module whose state dict is that of the official code."""

  def __init__(self):
    super().__init__()
    for name, value in official.random(official.state_dict(2, **TINY)).items():
      *path, leaf = name.split(".")
      module = self
      for part in path:
        if not hasattr(module, part):
          module.add_module(part, torch.nn.Module())
        module = getattr(module, part)
      module.register_buffer(leaf, torch.tensor(value))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_module_pickled_whole(zipped, tmp_path, capsys):
  torch.save(Network(), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
  said = refusal(capsys, "import", tmp_path / "x.pth", tmp_path / "ours")
  assert f"x.pth is an object of the class {__name__}.Network, pickled whole, not its state_dict()" in said
  assert command("import", tmp_path / "x.pth", tmp_path / "ours", "--allow_pickle") == 0
  run(said, tmp_path)
  assert command("import", tmp_path / "x_weights.pth", tmp_path / "again") == 0
  theirs = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("ours", "again")]
  assert theirs[0] == theirs[1]


def test_a_module_whose_class_is_nowhere(tmp_path, capsys, monkeypatch):
  torch.save(Network(), tmp_path / "x.pth")
  monkeypatch.delitem(globals(), "Network")
  said = refusal(capsys, "import", tmp_path / "x.pth", tmp_path / "ours", "--allow_pickle")
  assert "needs a class that cannot be imported here" in said and "Network" in said


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("state", [{"a": 1}, [1], {}], ids=["dict", "list", "empty"])
def test_plain_objects_are_left_to_the_reader(zipped, state, tmp_path):
  torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
  assert file_kinds.what_is_wrong(tmp_path / "x.pth") == ""
  torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
  assert file_kinds.what_is_wrong(tmp_path / "x.pth") == ""
  whole = (tmp_path / "x.pth").read_bytes()
  for end in range(0, len(whole), 37):  # a file that is cut off anywhere
    (tmp_path / "x.pth").write_bytes(whole[:end])
    assert file_kinds.what_is_wrong(tmp_path / "x.pth") == ""


# Entries.


def save_entries(path: pathlib.Path, **entries):
  """Writes a torch file in which each entry is a state dict made with that seed, or another value."""
  states = {
    name: {
      key: torch.tensor(value)
      for key, value in official.random(official.state_dict(2, **TINY), seed=entry).items()
    }
    if isinstance(entry, int)
    else entry
    for name, entry in entries.items()
  }
  torch.save(states, path)
  return states


def test_a_second_entry_is_spoken_of_and_can_be_chosen(tmp_path, capsys):
  optimizer = {"state": {0: {"step": torch.zeros(1)}}, "scale": torch.zeros(1)}
  states = save_entries(tmp_path / "x.pth", model=1, model_ema=2, optimizer=optimizer, epoch=torch.tensor(3))
  assert command("import", tmp_path / "x.pth", tmp_path / "ours") == 0
  said = capsys.readouterr().out
  assert (
    "weights from the entry 'model'; the file has weights also in 'model_ema' (--entry=model_ema)" in said
  )
  assert "optimizer" not in said
  assert command("import", tmp_path / "x.pth", tmp_path / "ema", "--entry=model_ema") == 0
  assert "also in 'model' (--entry=model)" in capsys.readouterr().out
  for folder, entry in (("ours", "model"), ("ema", "model_ema")):
    file = tmp_path / f"{folder}.safetensors"
    assert command("export", tmp_path / folder, file, "--layout=official") == 0
    from safetensors.torch import load_file

    assert torch.equal(load_file(file)["head.weight"], states[entry]["head.weight"])


def test_a_single_entry_needs_no_word(tmp_path, capsys):
  save_entries(tmp_path / "x.pth", model=1, epoch="three")
  assert command("import", tmp_path / "x.pth", tmp_path / "ours") == 0
  assert "from the entry" not in capsys.readouterr().out


def test_entries_with_other_names(tmp_path, capsys):
  save_entries(tmp_path / "x.pth", teacher=1, student=2, epoch="three")
  words = ("import", tmp_path / "x.pth", tmp_path / "ours")
  said = refusal(capsys, *words)
  assert "its entries are teacher, student, epoch" in said
  assert "there are weights in 'teacher' (--entry=teacher) and 'student' (--entry=student)" in said
  said = refusal(capsys, *words, "--entry=model_ema")
  assert "has no entry 'model_ema'; its entries are teacher" in said
  assert command(*words, "--entry=teacher") == 0
