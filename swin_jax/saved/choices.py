"""Allowed values of the flags and config keys for weight transfer.

The module does not import jax, so that commands can refuse other values at once.
"""

LAYOUTS = ("official", "timm", "hf", "torchvision", "openmmlab")  # naming scheme, see layouts.py
BIAS_TABLES = ("geometric", "bicubic")  # V1 with a different window, see `transfer.Rules`
PADDING = ("masked", "attended")  # whether attention to padding is masked
BANDS = ("repeat", "mean", "zero")  # patch embedding for other bands, see `transfer.Rules`
