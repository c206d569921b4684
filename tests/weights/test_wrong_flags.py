"""Flags and names that were given to `python -m swin_jax.weights` one by one: each is refused in one line
that has this word, or is legitimate.
"""

import os
import shutil

import pytest

from swin_jax.saved import description as descriptions
from swin_jax.terminal.errors import BadInput
from swin_jax.weights.__main__ import main
from tests.support.folders import imported
from tests.support.paths import FAULTS

# Words of the command → a word of the refusal. The names stand for anything of the kind.
REFUSED = {
  "EMPTY": "arguments are required: import|adapt|export",
  "foo": "invalid choice: 'foo'",
  "import": "arguments are required: SRC, DST",
  "import ;; /nonexistent ;; tmp/dst": "/nonexistent: no such file",
  "import ;; /etc/passwd ;; tmp/dst": "/etc/passwd is neither a PyTorch nor a .safetensors file",
  "import ;; /etc ;; tmp/dst": "/etc holds none of model.safetensors",
  "import ;; model ;; tmp/dst": "model is not a Swin Transformer",
  "import ;; model/model.safetensors ;; tmp/dst": "is not a Swin Transformer",
  "import ;; model/config.json ;; tmp/dst": "model/config.json is damaged: it lacks weight_map",
  "import ;; runs/ref ;; tmp/dst": "runs/ref holds none of model.safetensors",
  "import ;; hf:// ;; tmp/dst": "hf://",
  "import ;; hf://a ;; tmp/dst": "hf://a",
  "import ;; hf://../../etc/passwd ;; tmp/dst": "hf://../../etc/passwd",
  "import ;; hf://a/b/../../../etc/passwd ;; tmp/dst": "hf://a/b/../../../etc/passwd",
  "import ;; hf:///x/y ;; tmp/dst": "hf:///x/y",
  "import ;; hf://ü/日本 ;; tmp/dst": "hf://ü/日本",
  "import ;; /dev/zero ;; tmp/dst": "/dev/zero",
  "import ;; /dev/null ;; tmp/dst": "/dev/null",
  'import ;; "" ;; tmp/dst': "",
  "import ;; model ;; model": "model already exists",
  "import ;; model ;; /proc/x": "/proc/x cannot be created",
  "import ;; model ;; /": "/ already exists",
  "import ;; model/model.safetensors ;; tmp/dst ;; --image_size=abc": "'abc' must be an integer",
  "import ;; model/model.safetensors ;; tmp/dst ;; --image_size=-5": "'-5' must be at least 1",
  "import ;; model/model.safetensors ;; tmp/dst ;; --image_size=0": "'0' must be at least 1",
  "import ;; model/model.safetensors ;; tmp/dst ;; --window=0": "'0' must be at least 1",
  "import ;; model/model.safetensors ;; tmp/dst ;; --window=1,2,3,4,5,6,7": "is not a Swin Transformer",
  "import ;; model/model.safetensors ;; tmp/dst ;; --layout=foo": "invalid choice: 'foo'",
  "import ;; model/model.safetensors ;; tmp/dst ;; --mean=nan": "'nan' must be at least",
  "import ;; model/model.safetensors ;; tmp/dst ;; --nokey=1": "--nokey is unknown",
  "adapt ;; model ;; tmp/dst ;; --image_size=0": "'0' must be at least 1",
  "adapt ;; model ;; tmp/dst ;; --image_size=-32": "'-32' must be at least 1",
  "adapt ;; model ;; tmp/dst ;; --image_size=1": "must be at least the model's patch of (4, 4)",
  "adapt ;; model ;; tmp/dst ;; --image_size=99999999999": "at most 65,536",
  "adapt ;; model ;; tmp/dst ;; --image_size=32,32,32": "or height and width",
  "adapt ;; model ;; tmp/dst ;; --image_size=": "'' must be an integer",
  "adapt ;; model ;; tmp/dst ;; --window=0": "'0' must be at least 1",
  "adapt ;; model ;; tmp/dst ;; --window=-4": "'-4' must be at least 1",
  "adapt ;; model ;; tmp/dst ;; --window=100000": "at most 65,536",
  "adapt ;; model ;; tmp/dst ;; --window=4,4,4": "or height and width",
  "adapt ;; model ;; tmp/dst ;; --bands=0": "'0' must be at least 1 and at most 4,096",
  "adapt ;; model ;; tmp/dst ;; --bands=-1": "'-1' must be",
  "adapt ;; model ;; tmp/dst ;; --bands=1e3": "'1e3' must be an integer",
  "adapt ;; model ;; tmp/dst ;; --band_rule=mean": "--band_rule says how --bands are derived",
  "adapt ;; model ;; tmp/dst ;; --bias_tables=bicubic": "has no bias tables",
  "adapt ;; model ;; tmp/dst ;; --class_map=/nonexistent": "/nonexistent cannot be read",
  "adapt ;; model ;; tmp/dst ;; --class_map=/etc/passwd": "line 1 has none",
  "adapt ;; model ;; tmp/dst ;; --class_map=/dev/null": "/dev/null",
  "adapt ;; /nonexistent ;; tmp/dst": "/nonexistent holds no checkpoint",
  "adapt ;; runs/ref/checkpoints/999 ;; tmp/dst": "runs/ref/checkpoints/999 holds no checkpoint",
  "adapt ;; tmp/dst ;; model": "model already exists",
  "export ;; model ;; tmp/dst.safetensors": "arguments are required: --layout",
  "export ;; model ;; tmp/dst.safetensors ;; --layout=foo": "invalid choice: 'foo'",
  "export ;; model ;; tmp/dst ;; --layout=official": "must end in .safetensors",
  "export ;; model ;; model/model.safetensors ;; --layout=official": "already exists",
  "export ;; model ;; /proc/x.safetensors ;; --layout=timm": "/proc/x.safetensors cannot be created",
  "export ;; /etc/passwd ;; tmp/dst.safetensors ;; --layout=official": "/etc/passwd is not a model folder",
}
LEGITIMATE = {
  "adapt ;; model ;; tmp/dst": "a copy",
  "adapt ;; model ;; tmp/dst ;; --image_size=33": "images are padded to whole patches",
  "adapt ;; model ;; tmp/dst ;; --bands=3": "as many as it has",
  "adapt ;; runs/ref/checkpoints/400 ;; tmp/dst": "a checkpoint",
  "adapt ;; runs/ref/checkpoints/400/ ;; tmp/dst": "the same",
  "export ;; model ;; /nonexistent/a/b.safetensors ;; --layout=official": "folders are created",
}
FURTHER = {
  "import ;; public.safetensors ;; tmp/dst ;; --image_size=32 ;; --std=0": "'0' must be",
  "import ;; public.safetensors ;; tmp/dst ;; --image_size=32 ;; --std=inf": "'inf' must be",
  "import ;; public.safetensors ;; tmp/dst ;; --image_size=32 ;; --mean=0,0": "2",
  "import ;; public.safetensors ;; tmp/dst ;; --image_size=32 ;; --window=1,2,3,4,5,6,7": "one per stage",
  "import ;; public.safetensors ;; tmp/dst ;; --image_size=32 ;; --window=1,2,3,4,5,6,7,8,9": "1 to 8",
  "import ;; public.safetensors ;; tmp/dst ;; --image_size=99999999999": "at most 65,536",
  "adapt ;; model ;; tmp/dst ;; --image_size=65536": "more than 268,435,456 pixels",
  "adapt ;; model ;; tmp/dst ;; --image_size=8192 ;; --window=2048": "at most 10,000 tokens",
  "adapt ;; model ;; /proc/x": "/proc/x cannot be created",
  "adapt ;; model ;; tmp/dst ;; --bands=1000000000": "'1000000000' must be at least 1 and at most 4,096",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with a model folder, a file of public weights, and what has the place of a checkpoint."""
  path = tmp_path_factory.mktemp("weights")
  imported(path, name="model", depths=(2, 2))
  (path / "model.safetensors").rename(path / "public.safetensors")
  shutil.copytree(path / "model", path / "runs/ref/checkpoints/400")
  return path


@pytest.fixture
def run(folder, monkeypatch, capsys):
  """Runs the words of a line in the folder; returns the exit code and what it printed as an error."""

  def in_folder(line):
    monkeypatch.chdir(folder)
    shutil.rmtree("tmp", ignore_errors=True)
    os.mkdir("tmp")
    words = [word.replace('""', "") for word in line.split(" ;; ") if word != "EMPTY"]
    code = main(["weights", *words])
    return code, capsys.readouterr().err

  return in_folder


@pytest.mark.parametrize("line, word", (REFUSED | FURTHER).items())
def test_a_wrong_word_is_refused_in_one_line(run, line, word):
  code, error = run(line)
  assert code == 2 and error.startswith("swin_jax: ") and error.count("\n") == 1 and word in error, error
  assert not os.listdir("tmp")


@pytest.mark.parametrize("line", LEGITIMATE)
def test_a_legitimate_word_passes(run, folder, line):
  assert run(line.replace("/nonexistent", str(folder / "nonexistent"))) == (0, "")


@pytest.mark.parametrize("bands", [0, 10**9, 1.5, True])
def test_bands_are_bounded_without_the_command_too(bands):
  with pytest.raises(BadInput, match=f"bands = {bands}: must be"):
    descriptions.adapt({"data": {"image_size": [32, 32]}}, bands=bands)


@pytest.mark.skipif(not FAULTS.exists(), reason="the list lies next to the checkout")
def test_every_line_of_the_list_has_a_verdict():
  lines = (FAULTS / "wrong_weights_flags.txt").read_text().splitlines()
  assert sorted({*lines}) == sorted([*REFUSED, *LEGITIMATE])
