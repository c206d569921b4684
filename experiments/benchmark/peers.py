"""The peers: Hugging Face's transformers, timm and torchvision, on PyTorch."""

from typing import Any

import torch

from configs.sizes import SIZES
from experiments.benchmark.contract import (
  CHECKED,
  CLASSES,
  CLIP_NORM,
  LEARNING_RATE,
  SMOOTHING,
  WEIGHT_DECAY,
  Contestant,
)


def transformers(work: dict[str, Any]) -> tuple[torch.nn.Module, str]:
  """Returns Hugging Face's model, and the library's version."""
  import transformers as library  # only the library in use is imported

  size = SIZES[work["size"]]
  config = library.Swinv2Config(
    image_size=work["image_size"],
    window_size=work["window"],
    embed_dim=size["embed_dim"],
    depths=list(size["depths"]),
    num_heads=list(size["num_heads"]),
    drop_path_rate=work["drop_path_rate"],
    num_labels=CLASSES,
  )
  return library.Swinv2ForImageClassification(config), library.__version__


def timm(work: dict[str, Any]) -> tuple[torch.nn.Module, str]:
  """Returns timm's model, and the library's version."""
  import timm as library

  size = SIZES[work["size"]]
  model = library.models.swin_transformer_v2.SwinTransformerV2(
    img_size=work["image_size"],
    window_size=work["window"],
    embed_dim=size["embed_dim"],
    depths=size["depths"],
    num_heads=size["num_heads"],
    drop_path_rate=work["drop_path_rate"],
    num_classes=CLASSES,
  )
  return model, library.__version__


def torchvision(work: dict[str, Any]) -> tuple[torch.nn.Module, str]:
  """Returns torchvision's model, and the library's version.

  It pads small maps to a window and attends to the padding, so it is a different model if windows do not fit
  its maps.
  """
  import torchvision as library

  size, parts = SIZES[work["size"]], library.models.swin_transformer
  model = parts.SwinTransformer(
    patch_size=[4, 4],
    embed_dim=size["embed_dim"],
    depths=list(size["depths"]),
    num_heads=list(size["num_heads"]),
    window_size=[work["window"]] * 2,
    stochastic_depth_prob=work["drop_path_rate"],
    num_classes=CLASSES,
    block=parts.SwinTransformerBlockV2,
    downsample_layer=parts.PatchMergingV2,
  )
  return model, library.__version__


def contestant(work: dict[str, Any], name: str, mode: str | None, attention: str | None) -> Contestant:
  """Builds a contestant whose parameters, moments and activations are all in the dtype of the work.

  Args:
    work: the work to do.
    name: name of the library.
    mode: mode of torch.compile; None: not compiled.
    attention: class of `fused.py` that replaces timm's own; None: stock.
  """
  torch.manual_seed(0)
  device, dtype = torch.device(work["device"]), getattr(torch, work["dtype"])
  model, version = {"transformers": transformers, "timm": timm, "torchvision": torchvision}[name](work)
  for module in model.modules():
    # Many scales start at zero, and multiplying zeros is faster than multiplying the values of a real run.
    if isinstance(module, torch.nn.LayerNorm):
      torch.nn.init.ones_(module.weight)
  model.to(device)
  images = torch.randn(work["batch"], 3, work["image_size"], work["image_size"], device=device).to(dtype)
  labels = torch.randint(CLASSES, (work["batch"],), device=device)

  def logits_of(model, images):
    logits = model(images)
    return logits.logits if name == "transformers" else logits

  stock = None
  if work["check"]:
    with torch.inference_mode():
      stock = logits_of(model.eval(), images[:CHECKED].float())
  model.to(dtype)
  if attention:
    from experiments.benchmark import fused

    fused.replace_attention(model, getattr(fused, attention))
  optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
  run = torch.compile(logits_of, dynamic=False, mode=mode) if mode else logits_of
  cuda = device.type == "cuda"
  if cuda:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()

  def forward():
    torch.compiler.cudagraph_mark_step_begin()  # the output of the last call may be overwritten
    model.eval()
    with torch.inference_mode():
      return run(model, images)

  def train():
    torch.compiler.cudagraph_mark_step_begin()
    model.train()
    loss = torch.nn.functional.cross_entropy(run(model, images).float(), labels, label_smoothing=SMOOTHING)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  return Contestant(
    kinds={"forward": forward, "train": train},
    wait=torch.cuda.synchronize if cuda else lambda: None,
    # Reserved rather than allocated memory, because the latter does not include that of CUDA graphs.
    peak_bytes=torch.cuda.max_memory_reserved if cuda else lambda: 0,
    deviation=lambda: ((forward()[:CHECKED].float() - stock).norm() / stock.norm()).item(),
    versions={"torch": torch.__version__, name: version},
  )
