"""The packages of the wheel, where `configs/` becomes `swin_jax.configs`; pyproject.toml has the rest."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["swin_jax*"]), "swin_jax.configs"])
