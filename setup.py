"""Lists the packages of the wheel, where `configs/` becomes `swin_jax.configs`; the rest is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["swin_jax*"]), "swin_jax.configs"])
