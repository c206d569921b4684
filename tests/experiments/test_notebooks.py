"""The notebooks run from the first cell to the last, with less training than they contain, and
show pictures.
"""

import base64
import io
import re
import tomllib

import nbclient
import nbformat
import numpy as np
from PIL import Image
import pytest

from experiments.notebooks import colab
from tests.support import official
from tests.support.folders import command, save
from tests.support.paths import ROOT

TINY = "models/swinv2_tiny"  # a small version of what the notebooks would download
# Shorter training: the notebook's text, and what the test runs in its place.
SHORTER = {
  "quickstart": {
    "total_epochs=20.0, warmup_epochs=2.0": "total_epochs=1.0, warmup_epochs=0.5",
    "every_epochs = 10.0": "every_epochs = 0.5",
  },
  "finetune_your_images": {
    "total_epochs=float(epochs), warmup_epochs=2.0": "total_epochs=1.0, warmup_epochs=0.5",
    'PUBLIC = "hf://microsoft/swinv2-tiny-patch4-window8-256"': f'PUBLIC = "{TINY}"',
    "from_public.init_from = PUBLIC\n": "from_public.init_from = PUBLIC\n"
    "from_public.optim.update(total_steps=4, warmup_epochs=0.0)\n",
  },
  "features_and_attention": {},
}
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
  for folder in ("configs", "swin_jax"):
    (tmp_path / folder).symlink_to(ROOT / folder)
  if path.stem != "quickstart":
    tiny = dict(embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window=4, image_size=64, classes=5)
    weights = save(tmp_path / "tiny.safetensors", official.random(official.state_dict(2, **tiny)))
    assert command("import", weights, tmp_path / TINY) == 0
  notebook = nbformat.read(path, as_version=4)
  for written, shorter in SHORTER[path.stem].items():
    (cell,) = [cell for cell in notebook.cells if written in cell.source]
    cell.source = cell.source.replace(written, shorter)
  nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
  outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
  pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
  assert len(pictures) >= 4
  for i, picture in enumerate(pictures):
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert np.asarray(image).std() > 5 and min(image.size) > 100
    image.save(tmp_path / f"{i}.png")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_and_holds_no_output(path):
  notebook = nbformat.read(path, as_version=4)
  assert f"/blob/main/experiments/notebooks/{path.name})" in notebook.cells[0].source
  assert "%run experiments/notebooks/colab.py" in notebook.cells[1].source
  assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")


def test_the_project_file_is_the_home_of_the_repositorys_address():
  home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
  owner = home.removeprefix("https://github.com/")
  for path in (*NOTEBOOKS, ROOT / "CITATION.cff", ROOT / "CONTRIBUTING.md"):
    addresses = re.findall(r"github(?:\.com)?/([\w.-]+/swin_jax)", path.read_text())
    assert addresses and set(addresses) == {owner}, path


REQUIREMENTS = ["-r", "requirements.txt"]
NEW = {"jax": "0.10.2", "jaxlib": "0.10.2"}


@pytest.mark.parametrize(
  "installed, cuda, expected",
  [
    ({}, None, []),
    ({"jax": "0.7.2", "jaxlib": "0.7.2"}, None, []),
    (NEW, None, ["jax==0.10.2", "jaxlib==0.10.2"]),
    ({"jax": "0.7.2", "jax-cuda12-plugin": "0.7.2"}, 12, ["jax[cuda12]"]),
    (NEW, 13, ["jax[cuda13]"]),
    (NEW | {"jax-cuda12-plugin": "1"}, 12, ["jax==0.10.2", "jaxlib==0.10.2", "jax-cuda12-plugin==1"]),
    (NEW | {"libtpu": "0.0.40"}, None, ["jax==0.10.2", "jaxlib==0.10.2", "libtpu==0.0.40"]),
  ],
)
def test_colab_gets_the_jax_that_fits(installed, cuda, expected):
  assert colab.requirements(installed, cuda) == REQUIREMENTS + expected


def test_libtpu_is_never_changed():
  with pytest.raises(SystemExit, match="jax 0.7.2 of this runtime is older than 0.10.2; choose a newer"):
    colab.requirements({"jax": "0.7.2", "libtpu": "0.0.17"}, None)


def test_the_driver_names_its_cuda():
  assert colab.cuda_version("| NVIDIA-SMI 580.1  Driver Version: 580.1  CUDA Version: 13.0 |") == 13
  assert colab.cuda_version("") == 12
