"""`python -m swin_jax.probe`: how well the frozen features of a model separate classes."""
