"""What the flags and config keys of transfer may be; a module without jax, so that commands can refuse others
at once.
"""

LAYOUTS = ("official", "timm", "hf")  # whose names, see layouts.py
BIAS_TABLES = ("geometric", "bicubic")  # V1 at another window, see `transfer.Rules`
BANDS = ("repeat", "mean", "zero")  # the patch embedding for other bands, see `transfer.Rules`
