"""The notebooks run from the first cell to the last, with less training than they contain, and
show pictures.
"""

import base64
import io

import nbclient
import nbformat
import numpy as np
from PIL import Image
import pytest

from tests.support import official
from tests.support.folders import command, save
from tests.support.paths import ROOT

# Shorter training: the notebook's text, and what the test runs in its place.
SHORTER = {
  "quickstart": {
    "total_epochs=20.0, warmup_epochs=2.0": "total_epochs=1.0, warmup_epochs=0.5",
    "every_epochs = 10.0": "every_epochs = 0.5",
  },
  "finetune_your_images": {
    "total_epochs=float(epochs), warmup_epochs=2.0": "total_epochs=1.0, warmup_epochs=0.5"
  },
  "features_and_attention": {},
}
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
  for folder in ("configs", "swin_jax"):
    (tmp_path / folder).symlink_to(ROOT / folder)
  if path.stem == "features_and_attention":  # a small version of what it would download
    tiny = dict(embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window=4, image_size=64, classes=5)
    weights = save(tmp_path / "tiny.safetensors", official.random(official.state_dict(2, **tiny)))
    assert command("import", weights, tmp_path / "models" / "swinv2_tiny") == 0
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
  assert "pip install" in notebook.cells[1].source
  assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
