"""Installs what the notebooks need in a runtime of Colab, with the jax that fits its CPU, GPU or TPU.

  %run experiments/notebooks/colab.py

jax and its plugin for GPUs stay as they are if they are new enough, and libtpu always does: the one that
comes with the runtime fits its TPU.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys

OLDEST = (0, 10, 2)  # of jax


def requirements(installed: dict[str, str], cuda: int | None) -> list[str]:
  """Returns the arguments of pip install, run in a clone.

  Args:
    installed: the packages of the runtime and their versions.
    cuda: the major version of CUDA that the GPU's driver supports, or None without a GPU.
  """
  numbers = re.findall(r"\d+", installed.get("jax", ""))
  is_new = tuple(map(int, numbers[:3])) >= OLDEST
  plugins = [name for name in installed if re.fullmatch(r"jax-cuda\d+-plugin", name)]
  if "libtpu" in installed and cuda is None and not is_new:
    raise SystemExit(
      f"jax {installed.get('jax')} of this runtime is older than {'.'.join(map(str, OLDEST))};"
      " choose a newer TPU runtime"
    )
  is_kept = is_new and (cuda is None or bool(plugins))
  kept = [*(["jax", "jaxlib", *plugins] if is_kept else []), "libtpu"]
  pins = [f"{name}=={installed[name]}" for name in kept if name in installed]
  needs_plugin = cuda is not None and not is_kept
  return ["-r", "requirements.txt", *pins, *([f"jax[cuda{min(cuda, 13)}]"] if needs_plugin else [])]


def cuda_version(listing: str) -> int:
  """Returns the major version of CUDA in what nvidia-smi prints; 12 if it names none."""
  match = re.search(r"CUDA Version: (\d+)", listing)
  return int(match[1]) if match else 12


def main() -> None:
  packages = importlib.metadata.distributions()
  installed = {each.name.lower().replace("_", "-"): each.version for each in packages}
  cuda = None
  if shutil.which("nvidia-smi"):
    cuda = cuda_version(subprocess.run(["nvidia-smi"], capture_output=True, text=True).stdout)
  subprocess.run([sys.executable, "-m", "pip", "install", "-q", *requirements(installed, cuda)], check=True)


if __name__ == "__main__":
  main()
