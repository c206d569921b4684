"""Which slice does each model size need at each image size? Writes rows.jsonl and table.md next to this file.

  python -m experiments.scale.table            # by formula: some minutes
  python -m experiments.scale.table --compile  # compiles the rows of COMPILED: at most 5 minutes each

Rows that are already in rows.jsonl are not computed again, so this can be stopped and restarted at any time.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from swin_jax.plan import __main__ as plan

FOLDER = pathlib.Path(__file__).parent
ROWS = FOLDER / "rows.jsonl"
SIZES = ("tiny", "small", "base", "large", "huge", "giant_1b", "giant")
WINDOWS = {192: 12, 256: 16, 384: 24, 640: 40, 1536: 32}  # image size in pixels → window in tokens
GENERATIONS = ("v4", "v5e", "v5p", "v6e", "h100", "h200")
BATCH = 1024
CONFIG = "configs/swinv2_3b.py"
# Optimization level ("": the compiler's default, as in a run) → slices for which the step of CONFIG is
# compiled.
COMPILED = {
  "": ("v4:4x4x4", "v4:4x4x8", "v5e:8x8", "v5e:8x16", "v5p:2x4x4", "v5p:4x4x4", "v6e:8x8", "v6e:8x16"),
  "O1": (
    "v4:4x4x4",
    "v4:4x4x8",
    "v5e:4x8",
    "v5e:8x8",
    "v5e:8x16",
    "v5e:16x16",
    "v5p:2x2x2",
    "v5p:2x2x4",
    "v5p:2x4x4",
    "v5p:4x4x4",
    "v6e:4x8",
    "v6e:8x8",
  ),
}


def main() -> None:
  if "--compile" in sys.argv[1:]:
    for level, topologies in COMPILED.items():
      for topology in topologies:
        compile_row(level, topology)
  else:
    by_formula()
  write_table()


def rows() -> dict[str, dict]:
  """Returns the finished rows: key → row."""
  lines = ROWS.read_text().splitlines() if ROWS.exists() else []
  return {row["key"]: row for row in map(json.loads, lines)}


def add(key: str, row: dict) -> None:
  if row["method"] == "analytic":  # the analytic_ columns would repeat the others
    row = {name: value for name, value in row.items() if not name.startswith("analytic_")}
  with ROWS.open("a") as file:
    file.write(json.dumps({"key": key, "date": time.strftime("%Y-%m-%d")} | row) + "\n")


def remat(size: str, image_size: int) -> str:
  """Returns "none" for sizes that are trained without recomputation, "block" for large models and images."""
  return "none" if size in SIZES[:4] and image_size <= 384 else "block"


def mesh(size: str) -> dict[str, int]:
  """Returns a mesh that replicates the smaller models, and divides the larger ones over eight chips and the
  largest over all, as `configs/swinv2_3b.py` does.
  """
  return {
    "huge": dict(data=-1, fsdp=8),
    "giant_1b": dict(data=-1, fsdp=8),
    "giant": dict(data=1, fsdp=-1),
  }.get(size, dict(data=-1, fsdp=1))


def by_formula() -> None:
  """Finds the smallest slice that holds a whole batch, for every size, image size and generation."""
  plan.set_environment()
  import jax  # imported only after the environment is set

  jax.config.update("jax_num_cpu_devices", plan.VIRTUAL_DEVICES)
  from configs import common, recipes
  from swin_jax.plan import report as fit
  from swin_jax.terminal import errors

  done, start = rows(), time.perf_counter()
  keys = [
    (size, image_size, generation) for image_size in WINDOWS for size in SIZES for generation in GENERATIONS
  ]
  for i, (size, image_size, generation) in enumerate(keys):
    key = f"{size} {image_size} {generation}"
    if key in done:
      continue
    config = common.base()
    recipes.set_model(
      config, version=2, size=size, window=WINDOWS[image_size], image_size=image_size, drop_path_rate=0.2
    )
    config.model.update(remat=remat(size, image_size), unroll=False)
    config.mesh.update(mesh(size))
    config.classification.num_classes = 1000
    try:
      report = fit.smallest(
        fit.ready(config, BATCH), generation, analytic=True, patiently=lambda what, function: function()
      )
    except errors.BadInput as error:
      report = {"method": "analytic", "fits": False, "why": str(error)}
    add(key, report)
    print(
      f"{i + 1}/{len(keys)} {key}: {report.get('topology', 'none')}  {time.perf_counter() - start:.0f} s",
      flush=True,
    )


def compiled_key(level: str, topology: str) -> str:
  return f"{CONFIG} {topology} {level}".strip()


def compile_row(level: str, topology: str) -> None:
  key = compiled_key(level, topology)
  if key in rows():
    return
  print(key, flush=True)
  environment = os.environ | ({"JAX_OPTIMIZATION_LEVEL": level} if level else {})
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "plan.json"
    words = [
      sys.executable,
      "-m",
      "swin_jax.plan",
      f"--config={CONFIG}",
      f"--topology={topology}",
      f"--json={out}",
    ]
    if subprocess.run(words, env=environment, check=False).returncode == 0:
      add(key, json.loads(out.read_text()))


def write_table() -> None:
  done, gib = rows(), 2**30
  lines = [
    "Analytic: the smallest slice that holds a batch of 1024 at once; GiB a chip; seconds a step by the"
    " roofline.",
    "",
  ]
  lines += [
    "| size, px, window | remat | " + " | ".join(GENERATIONS) + " |",
    "|---|---|" + "---|" * len(GENERATIONS),
  ]
  for size in SIZES:
    for image_size, window in WINDOWS.items():
      cells = []
      for generation in GENERATIONS:
        row = done.get(f"{size} {image_size} {generation}")
        if row is None:
          cells.append("not done")
        elif not row["fits"]:
          cells.append(f"none ≤ {plan.VIRTUAL_DEVICES} chips")
        else:
          shape = row["topology"].partition(":")[2]
          cells.append(
            f"{shape}: {row['bytes_per_chip']['total'] / gib:.1f} GiB, {row['step_seconds']:.3g} s"
          )
      lines.append(f"| {size} {image_size} w{window} | {remat(size, image_size)} | {' | '.join(cells)} |")
  lines += [
    "",
    f"Compiled: `{CONFIG}`, batch 9216. Level: optimization level, empty for the compiler's own. Memory in"
    " GiB a chip;",
  ]
  lines += ["sent: GB that a chip receives a step.", ""]
  heads = (
    "slice",
    "level",
    "images a chip",
    "fits",
    "compiled",
    "of",
    "by formula",
    "ratio",
    "sent, compiled",
    "by formula",
    "compiling",
  )
  lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
  for level, topologies in COMPILED.items():
    for topology in topologies:
      if row := done.get(compiled_key(level, topology)):
        total, formula = row["bytes_per_chip"]["total"], row["analytic_bytes_per_chip"]["total"]
        sent, expected = (
          sum(kind["link_bytes"] for kind in row[name].values()) / 1e9
          for name in ("collectives", "analytic_collectives")
        )
        verdict = "yes" if row["fits"] else "no" if row["accepted"] else "refused"
        lines.append(
          f"| {topology} | {level} | {row['images_per_chip']} | {verdict} | {total / gib:.2f} |"
          f" {row['memory_per_chip'] / gib:.2f}"
          f" | {formula / gib:.2f} | {total / formula:.2f} | {f'{sent:.1f}' if row['accepted'] else ''} |"
          f" {expected:.1f}"
          f" | {row['compile_seconds']:.0f} s |"
        )
  (FOLDER / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
