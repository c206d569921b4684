"""V2's position bias, precomputed for one image size."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.models import attention, windows
from swin_jax.models.backbone import Settings
from swin_jax.models.swin.settings import used_windows


def fix(model: nn.Module, params: Any, settings: Settings) -> Any:
  """Returns parameters in which the bias MLP of each block is replaced by its output, the bias [K, N, N].

  Parameters without a bias MLP are returned as they are. See `BackboneKind.fix`.
  """
  flat = flax.traverse_util.flatten_dict(params)
  if not any("cpb_fc1" in path for path in flat):
    return params
  size, bands = settings["data"]["image_size"], len(settings["data"]["mean"])

  @jax.jit
  def tables(params):  # returns only the tables, so nothing else is computed
    _, captured = model.apply(
      {"params": params},
      jnp.zeros((1, *size, bands)),
      method=lambda model, images: model.encoder(images),
      mutable=[attention.INTERMEDIATES[0]],
    )
    captured = flax.traverse_util.flatten_dict(captured[attention.INTERMEDIATES[0]]["encoder"])
    return {("encoder", *path[:-1]): values[0][1] for path, values in captured.items()}

  flat = {path: leaf for path, leaf in flat.items() if not {"cpb_fc1", "cpb_fc2"} & set(path)}
  used = used_windows(settings)
  for path, table in tables(params).items():  # [groups, offsets, K]
    window = tuple(used[int(path[1].removeprefix("stage"))])
    flat[*path, attention.fixed_bias(window)] = table.swapaxes(1, 2)[:, :, windows.relative_index(window)]
  return flax.traverse_util.unflatten_dict(flat)
