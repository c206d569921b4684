"""Configs of runs by name: quick start, own data, published recipes. `common.py` defines every key."""
