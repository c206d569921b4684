"""Edits files of model folders and prepared sets and renews the digests, so that only the edit is tested."""

import json
import pathlib

from swin_jax.data.read import manifest
from swin_jax.saved import folder
from swin_jax.terminal import digests


def reseal(root: pathlib.Path) -> None:
  """Renews the digests of a model folder or a prepared set after its files were changed."""
  name = folder.CONFIG if (root / folder.CONFIG).exists() else manifest.NAME
  document = json.loads((root / name).read_text())
  del document[digests.GROUP]
  known = {path.name: digests.of_file(path) for path in root.iterdir() if path.name != name}
  (root / name).write_text(json.dumps(digests.seal(document, name, known)))


def edit(path: pathlib.Path, change) -> None:
  """Changes a JSON file by a function of its content, and renews the digests of its folder."""
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))
  reseal(path.parent)


def unseal(root: pathlib.Path) -> None:
  """Removes the digests of a model folder or a prepared set, as older versions wrote them."""
  if (root / folder.CONFIG).exists():
    config = json.loads((root / folder.CONFIG).read_text())
    del config[digests.GROUP]
    (root / folder.CONFIG).write_text(json.dumps(config))
  else:
    (root / manifest.NAME).unlink()
