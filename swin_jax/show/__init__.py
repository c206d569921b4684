"""Draws pictures of what a model does: with `python -m swin_jax.show`, or in a notebook:

from swin_jax.show import attention, images, reconstruction

model, params = swin_jax.load("runs/pretrain")
for name, image in images.read(model, "photos"):
  display(reconstruction.picture(model, params, image), attention.picture(model, params, image))
"""
