"""Models of torch with random weights, their inputs, and the comparison of outputs."""

import numpy as np
import torch


def randomise(model, seed=0):
  """Gives every parameter of a torch model random values large enough to matter: norms near one, scales near
  ten.
  """
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
      if name.endswith("logit_scale"):
        parameter.add_(2.3)
      elif "norm" in name and name.endswith("weight"):
        parameter.add_(1.0)
  return model.eval()


def pixels(batch, size, bands=3):
  """Returns images of `size` pixels, one number or (height, width)."""
  size = (size, size) if isinstance(size, int) else size
  return np.random.default_rng(1).normal(size=(batch, *size, bands)).astype(np.float32)


def to_torch(images):
  return torch.tensor(images.transpose(0, 3, 1, 2))


def check(ours, theirs, tolerance):
  theirs = theirs.detach().numpy()
  assert np.abs(np.asarray(ours) - theirs).max() <= tolerance * np.abs(theirs).max()
