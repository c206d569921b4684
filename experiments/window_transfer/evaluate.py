"""Evaluates Swin V2 and V1, trained at window 4 on 32 px, at larger windows on larger images, without further
training.

  python -m experiments.window_transfer.evaluate OUT

OUT is the folder in which run_on_two_cores.sh trained. Prints the table of the README.
"""

import json
import pathlib
import sys

from configs import cifar10
from swin_jax.run import evaluate

WINDOWS = (4, 6, 8, 10)  # the image grows in proportion: 8 px per token of the window
ROWS = (
  ("V2, log-spaced continuous bias", 2, "bicubic"),
  ("V1, table by bicubic", 1, "bicubic"),
  ("V1, table by the geometric rule", 1, "geometric"),
)


def top1(out: pathlib.Path, version: int, window: int, bias_tables: str) -> float:
  stored = json.loads((out / f"v{version}" / "config.json").read_text())
  config = cifar10.get_config("scratch")
  for name in ("version", "patch_size", "embed_dim", "depths", "num_heads", "drop_path_rate", "dtype"):
    value = stored["model"][name]
    config.model[name] = tuple(value) if isinstance(value, list) else value
  config.model.window_sizes = (window, window)
  config.data.update(
    path=stored["data"]["path"], image_size=(8 * window, 8 * window), eval_batch_size=500, num_threads=2
  )
  config.transfer.bias_tables = bias_tables
  return evaluate.evaluate_checkpoint(config, str(out / f"v{version}"))["eval/top1"]


def main(out: pathlib.Path) -> None:
  table = [["top-1, %"] + [f"window {w}, {8 * w} px" for w in WINDOWS], ["---"] * (len(WINDOWS) + 1)]
  for name, version, bias_tables in ROWS:
    values = [100 * top1(out, version, window, bias_tables) for window in WINDOWS]
    table.append(
      [name]
      + [
        f"{value:.1f} ({value - values[0]:+.1f})" if value != values[0] else f"{value:.1f}"
        for value in values
      ]
    )
  print("\n".join("| " + " | ".join(row) + " |" for row in table))


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
