"""Models on the Hugging Face hub, addressed as hf://owner/name[/file]."""

import pathlib
import threading

from swin_jax.terminal import json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.files import is_plain_name
from swin_jax.terminal.progress import waiting

SCHEME = "hf://"
_SECONDS = 4.5  # to wait for the hub's answer: a slow one takes 4, and the command is to end within 5


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


def _why_unreachable(endpoint: str) -> str:
  """Returns why a hub does not answer at all; "" if it does. Takes at most `_SECONDS`."""
  from huggingface_hub.utils import get_session

  reasons = [f"{endpoint} does not answer"]

  def ask():
    try:
      get_session().head(endpoint, timeout=_SECONDS)
      reasons.append("")
    except Exception as error:  # of the library, of its client, or of a proxy
      lines = str(error).strip().splitlines()
      reasons.append(f"{endpoint} cannot be reached ({lines[0] if lines else type(error).__name__})")

  thread = threading.Thread(target=ask, daemon=True)  # looking up a name takes as long as it likes
  thread.start()
  thread.join(_SECONDS)
  return reasons[-1]


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
  wrong = _why_unreachable(huggingface_hub.constants.ENDPOINT)

  def one(file):
    try:
      with waiting(f"downloading {file} of {address}"):
        downloaded = huggingface_hub.hf_hub_download(f"{owner}/{name}", file, local_files_only=bool(wrong))
      return pathlib.Path(downloaded)
    except errors.EntryNotFoundError as error:
      if isinstance(error, errors.LocalEntryNotFoundError) and not wrong:
        raise  # the connection was lost
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
    if fetched is None and wrong:
      raise errors.LocalEntryNotFoundError(wrong)
    if fetched is None:
      names = huggingface_hub.HfApi().list_repo_files(f"{owner}/{name}")
      weights = [file for file in names if file.endswith((".safetensors", ".pth", ".pt", ".bin"))]
      raise BadInput(f"{address}: no such file; the repository has {', '.join(weights[:8]) or 'no weights'}")
  except errors.LocalEntryNotFoundError as error:
    url = huggingface_hub.hf_hub_url(f"{owner}/{name}", file or "model.safetensors")
    weights = pathlib.PurePosixPath(file or "model.safetensors").name
    raise BadInput(
      f"{address} cannot be fetched: {wrong or 'the connection was lost'}. On a machine that reaches it,"
      f" download {url} and {url.removesuffix(weights)}config.json into one folder, copy that here, and give"
      f" python -m swin_jax.weights import FOLDER/{weights} models/{name}"
    ) from error
  except errors.GatedRepoError as error:
    page = f"{huggingface_hub.constants.ENDPOINT}/{owner}/{name}"
    raise BadInput(f"{address} is gated: accept its terms on {page}, then: hf auth login") from error
  except errors.RepositoryNotFoundError as error:
    raise BadInput(
      f"{address}: the hub has no model {owner}/{name}, or it is private: check the name, or: hf auth login"
    ) from error
  except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
    raise BadInput(f"{address} cannot be fetched: {str(error).strip().splitlines()[0]}") from error
  return fetched
