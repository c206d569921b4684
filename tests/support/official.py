"""Names and shapes of the official code's state dicts, derived from its description and independently of our
importer.
"""

import json

import numpy as np


def coords(window, trained):
  """Returns the official table of log-spaced offsets, float32 [1, 2w-1, 2w-1, 2]."""
  x = np.arange(1 - window, window, dtype=np.float64) / max(trained - 1, 1) * 8
  x = np.sign(x) * np.log2(np.abs(x) + 1) / 3
  return np.stack(np.meshgrid(x, x, indexing="ij"), -1)[None].astype(np.float32)


def index(window):
  """Returns the row of the table for each pair of tokens, int64 [w², w²]."""
  token = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"), -1).reshape(-1, 2)
  offset = token[:, None] - token[None] + window - 1
  return offset[..., 0] * (2 * window - 1) + offset[..., 1]


def mask(side, window, shift):
  """Returns the official shift mask: 0 within a region and -100 across the regions that a shift brings
  together, float32 [windows, w², w²]. Regions are numbered on the map.
  """
  labels = np.zeros((side, side))
  cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
  for i, rows in enumerate(cuts):
    for j, columns in enumerate(cuts):
      labels[rows, columns] = 3 * i + j
  labels = (
    labels.reshape(side // window, window, side // window, window)
    .transpose(0, 2, 1, 3)
    .reshape(-1, window**2)
  )
  return np.where(labels[:, :, None] == labels[:, None], 0.0, -100.0).astype(np.float32)


def state_dict(
  version,
  embed_dim,
  depths,
  num_heads,
  window,
  image_size,
  *,
  patch=4,
  bands=3,
  classes=1000,
  simmim=False,
  trained=None,
  extra_norm_every=0,
  buffers=True,
  bias_mlp="cpb_mlp",
):
  """Returns {name: shape} of the parameters, and {name: array} of the constants."""
  shapes = {
    "patch_embed.proj.weight": (embed_dim, bands, patch, patch),
    "patch_embed.proj.bias": (embed_dim,),
    "patch_embed.norm.weight": (embed_dim,),
    "patch_embed.norm.bias": (embed_dim,),
  }
  if simmim:
    shapes["mask_token"] = (1, 1, embed_dim)
  for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
    d, side = embed_dim * 2**i, image_size // patch // 2**i
    w = min(window, side)
    for j in range(depth):
      block = {
        "norm1.weight": (d,),
        "norm1.bias": (d,),
        "norm2.weight": (d,),
        "norm2.bias": (d,),
        "attn.qkv.weight": (3 * d, d),
        "attn.proj.weight": (d, d),
        "attn.proj.bias": (d,),
        "mlp.fc1.weight": (4 * d, d),
        "mlp.fc1.bias": (4 * d,),
        "mlp.fc2.weight": (d, 4 * d),
        "mlp.fc2.bias": (d,),
      }
      if version == 2:
        block |= {
          "attn.logit_scale": (heads, 1, 1),
          "attn.q_bias": (d,),
          "attn.v_bias": (d,),
          f"attn.{bias_mlp}.0.weight": (512, 2),
          f"attn.{bias_mlp}.0.bias": (512,),
          f"attn.{bias_mlp}.2.weight": (heads, 512),
        }
      else:
        block |= {"attn.qkv.bias": (3 * d,), "attn.relative_position_bias_table": ((2 * w - 1) ** 2, heads)}
      if extra_norm_every and (j + 1) % extra_norm_every == 0:
        block |= {"norm3.weight": (d,), "norm3.bias": (d,)}
      if buffers:
        block["attn.relative_position_index"] = index(w)
        if version == 2:
          block["attn.relative_coords_table"] = coords(w, trained[i] if trained else w)
        if j % 2 and side > w:
          block["attn_mask"] = mask(side, w, window // 2)
      shapes |= {f"layers.{i}.blocks.{j}.{name}": shape for name, shape in block.items()}
    if i + 1 < len(depths):
      norm = 2 * d if version == 2 else 4 * d
      shapes |= {f"layers.{i}.downsample.reduction.weight": (2 * d, 4 * d)}
      shapes |= {f"layers.{i}.downsample.norm.{leaf}": (norm,) for leaf in ("weight", "bias")}
  last = embed_dim * 2 ** (len(depths) - 1)
  shapes |= {"norm.weight": (last,), "norm.bias": (last,)}
  if simmim:
    stride = patch * 2 ** (len(depths) - 1)
    shapes = {f"encoder.{name}": shape for name, shape in shapes.items()}
    shapes |= {"decoder.0.weight": (stride**2 * bands, last, 1, 1), "decoder.0.bias": (stride**2 * bands,)}
  elif classes:
    shapes |= {"head.weight": (classes, last), "head.bias": (classes,)}
  return shapes


def write_sparse(path, tensors):
  """Writes a .safetensors file of these arrays; entries given only as a shape become zeros, which take no
  disk space (sparse file).
  """
  header, end = {}, 0
  for name, value in tensors.items():
    shape, kind = (
      (value.shape, value.dtype) if isinstance(value, np.ndarray) else (value, np.dtype(np.float32))
    )
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    header[name] = {
      "dtype": {"int64": "I64", "float32": "F32"}[kind.name],
      "shape": list(shape),
      "data_offsets": [end, end + size],
    }
    end += size
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    file.truncate(8 + len(text) + end)
    for name, value in tensors.items():
      if isinstance(value, np.ndarray) and value.any():
        file.seek(8 + len(text) + header[name]["data_offsets"][0])
        file.write(value.tobytes())
  return path


def random(tensors, seed=0):
  """Returns the same state dict with random arrays for the entries given only as a shape."""
  rng = np.random.default_rng(seed)
  arrays = {
    name: rng.normal(0, 0.05, value).astype(np.float32)
    for name, value in tensors.items()
    if not isinstance(value, np.ndarray)
  }
  return {name: arrays.get(name, value) for name, value in tensors.items()}
