"""Models on the Hugging Face hub, addressed as hf://owner/name[/file]."""

import pathlib

from swin_jax.terminal import json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.files import is_plain_name

SCHEME = "hf://"


def is_address(source: str) -> bool:
  """Returns whether a source is on the hub."""
  return str(source).startswith(SCHEME)


def parts(index: pathlib.Path) -> list[str]:
  """Returns the files that a sharded model consists of, from its model.safetensors.index.json.

  Raises:
    BadInput: the file is not such an index, or names files elsewhere.
  """
  content = json_files.read(index, {"weight_map": {"*": str}}, "it must be an index of safetensors files")
  names = sorted(set(content["weight_map"].values()))
  if outside := [name for name in names if not (is_plain_name(name) and name.endswith(".safetensors"))]:
    raise BadInput(
      f"{index} names '{outside[0]}', which is not a .safetensors file in its folder; do not use this model"
    )
  if not names:
    raise BadInput(f"{index} names no safetensors files")
  return names


def fetch(address: str) -> pathlib.Path:
  """Downloads a model and the settings in the same folder into Hugging Face's cache.

  Files that are already cached are not downloaded again.

  Args:
    address: hf://owner/name, or hf://owner/name/file.

  Returns:
    The file, or the folder that holds model.safetensors.

  Raises:
    BadInput: the model or file does not exist, or the hub cannot be reached.
  """
  names = address.removeprefix(SCHEME).split("/")
  if len(names) < 2 or not all(map(is_plain_name, names)):
    raise BadInput(
      f"{address}: write hf://OWNER/NAME or hf://OWNER/NAME/FILE, where FILE is in the repository"
    )
  owner, name, file = *names[:2], "/".join(names[2:])
  import huggingface_hub
  from huggingface_hub import errors
  from huggingface_hub.utils import logging

  logging.set_verbosity_error()  # it logs every attempt; the outcome is reported here

  def one(file):
    try:
      return pathlib.Path(huggingface_hub.hf_hub_download(f"{owner}/{name}", file))
    except errors.LocalEntryNotFoundError:
      raise
    except errors.EntryNotFoundError:
      return None

  try:
    folder = pathlib.PurePosixPath(file).parent
    for extra in ("config.json", "preprocessor_config.json"):
      one(str(folder / extra))
    if file:
      fetched = one(file)
    elif fetched := one("model.safetensors"):
      fetched = fetched.parent
    elif index := one("model.safetensors.index.json"):
      for part in parts(index):
        one(part)
      fetched = index.parent
    else:
      fetched = one("pytorch_model.bin")
    if fetched is None:
      names = huggingface_hub.HfApi().list_repo_files(f"{owner}/{name}")
      weights = [file for file in names if file.endswith((".safetensors", ".pth", ".pt", ".bin"))]
      raise BadInput(f"{address}: no such file; the repository has {', '.join(weights[:8]) or 'no weights'}")
  except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError, OSError) as error:
    raise BadInput(f"{address} cannot be fetched: {str(error).strip().splitlines()[0]}") from error
  return fetched
