"""Damage as failing disks, interrupted copies and mistaken users do it."""

import os


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 3] ^= 4
  path.write_bytes(content)


def zeros(path):
  """Overwrites 4 KB with zeros, as a lost block."""
  content = bytearray(path.read_bytes())
  start = (len(content) - 4096) // 2
  assert any(content[start : start + 4096])
  content[start : start + 4096] = bytes(4096)
  path.write_bytes(content)


def cut(path):
  os.truncate(path, path.stat().st_size - 1)


def append(path):
  with path.open("ab") as file:
    file.write(b"\n")


def remove(path):
  path.unlink()


def folder(path):
  path.unlink()
  path.mkdir()


def pipe(path):
  path.unlink()
  os.mkfifo(path)


def dangle(path):
  path.unlink()
  path.symlink_to("nowhere")


def swap(one, other):
  content = one.read_bytes()
  one.write_bytes(other.read_bytes())
  other.write_bytes(content)


# Damage to one file → the pattern of what is said about it.
OF_A_FILE = {
  flip_a_bit: "has changed: its content has another SHA-256",
  zeros: "has changed: its content has another SHA-256",
  cut: r"has [\d,]+ bytes, not [\d,]+",
  append: r"has [\d,]+ bytes, not [\d,]+",
  remove: "is missing",
  folder: "is not a file",
  pipe: "is not a file",
  dangle: "is missing",
}
