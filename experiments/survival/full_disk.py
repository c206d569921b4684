"""Fills the disk in every phase of every command, and runs the same command again once there is room.

  python -m experiments.survival.full_disk --out=runs/full_disk [--only=save,export]

The outputs and the folder of temporary files are on a small tmpfs, which only root can mount. A filler takes
all of it, or all but a few bytes, when the command calls the function of a phase in PHASES. The command must
end within 30 s with the exit code of the phase, without a traceback and with one line that names the cause.
Where only observers fail, the filler goes at the next save, and the command must succeed. Then the filler is
removed; the same command must succeed, with the result of an undisturbed command, bit for bit, and leave
nothing half-written.
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np

from experiments.survival.kills import FLAGS, SMALL
from experiments.survival.survive import ROOT, saved

STEPS = 20
MEGABYTES = 64  # size of the disk
SECONDS = 30  # from the full disk to the end of the command
CAUSES = ("no space left", "No space left")
_OF_OBSERVERS = re.compile("the run goes on|cannot be stored")  # lines of these end no run
# In the process of the command: fills the disk before the n-th call of a function, and empties it before the
# next call of another.
FILLING = """
import importlib, os, pathlib, sys, time
disk, moment, at, keep, until, module, *words = sys.argv[1:]
filler, marker = pathlib.Path(disk, "filler"), pathlib.Path(moment)
def fill():
  time.sleep(2)  # a save in progress is another phase
  marker.touch()
  with open(filler, "wb", buffering=0) as file:
    space = os.statvfs(disk)
    if (size := space.f_bavail * space.f_bsize - int(keep)) > 0:
      os.posix_fallocate(file.fileno(), 0, size)
    try:
      while not int(keep):
        file.seek(0, 2)
        file.write(bytes(4096))
    except OSError:
      pass
def wrap(place, action):
  where, _, name = place.partition(":")
  owner = importlib.import_module(where)
  *path, name = name.split(".")
  for part in path:
    owner = getattr(owner, part)
  function = getattr(owner, name)
  def wrapped(*args, **more):
    action()
    return function(*args, **more)
  setattr(owner, name, wrapped)
left = [int(at.rpartition("#")[2])]
def count():
  left[0] -= 1
  if left[0] == 0:
    fill()
def release():
  if left[0] <= 0:
    filler.unlink(missing_ok=True)
command = importlib.import_module(module)
wrap(at.rpartition("#")[0], count)
if until:
  wrap(until, release)
from swin_jax.terminal import cli
cli.leave(command.main([module, *words]))
"""


class Phase(NamedTuple):
  """When the disk is filled, and what must come of it.

  Attributes:
    command: name of a command, see `Commands.words`.
    at: MODULE:FUNCTION#N: the disk is filled before the N-th call.
    code: exit code that is expected.
    keep: bytes that stay free.
    until: MODULE:FUNCTION before whose next call the disk is emptied; "" for not until the command has ended.
  """

  command: str
  at: str
  code: int
  keep: int = 0
  until: str = ""


_MAIN, _SAVE = "swin_jax.terminal.cli:Parser.parse_args#1", "swin_jax.saved.checkpoint:Checkpoints.save"
_EVALUATED = "swin_jax.saved.checkpoint:Checkpoints.add_evaluation"
PHASES = {
  "start": Phase("train", _MAIN, 74),
  "start, some room": Phase("train", _MAIN, 74, 8_000),
  "start, its folder exists": Phase("train", "swin_jax.saved.checkpoint:Checkpoints#1", 74),
  "compile cache": Phase("train-cached", "swin_jax.run.compilation:reported#1", 0, 0, _SAVE),
  "compile cache, some room": Phase("train-cached", "swin_jax.run.compilation:reported#1", 0, 40_000, _SAVE),
  "first save": Phase("train", f"{_SAVE}#1", 74),
  "first save, some room": Phase("train", f"{_SAVE}#1", 74, 100_000),
  "later save": Phase("train", f"{_SAVE}#2", 74),
  "later save, some room": Phase("train", f"{_SAVE}#2", 74, 200_000),
  "checksums of a save": Phase("train", "swin_jax.saved.manifest:write#2", 74),
  "metrics and events": Phase("train", "swin_jax.run.writer:Writer.scalars#2", 0, 0, _SAVE),
  "events, the first": Phase("train", "swin_jax.run.writer:Writer.scalars#1", 0, 0, _SAVE),
  "pictures": Phase("train", "swin_jax.run.writer:Writer.pictures#1", 0, 0, _EVALUATED),
  "profile": Phase("train-profiled", "swin_jax.run.profiler:Profiler.close#1", 0, 0, _SAVE),
  "evaluation of a run": Phase("train", f"{_EVALUATED}#1", 74),
  "data workers": Phase("train-workers", "swin_jax.data.feed.pipeline:Input.train#1", 74),
  "evaluation": Phase("evaluate", "swin_jax.run.evaluate:evaluate#1", 0),
  "prepare, start": Phase("prepare", _MAIN, 74),
  "prepare, images": Phase("prepare", "swin_jax.data.read.shards:open_writer#2", 74, 20_000),
  "prepare, shard": Phase("prepare", "swin_jax.data.read.shards:open_writer#2", 74),
  "prepare, digests": Phase("prepare", "swin_jax.data.prepare.sealing:Part.add#2", 74),
  "prepare, manifest": Phase("prepare", "swin_jax.data.prepare.sealing:finish#1", 74),
  "prepare, statistics": Phase("prepare-rasters", "swin_jax.data.prepare.measuring:write#1", 74),
  "weights import": Phase("import", "swin_jax.saved.folder:write#1", 74, 30_000),
  "weights import, config": Phase("import", "swin_jax.saved.folder:write_config#1", 74),
  "weights adapt": Phase("adapt", "swin_jax.saved.folder:write_weights#1", 74),
  "weights export": Phase("foreign", "swin_jax.saved.tensors:write#1", 74, 30_000),
  "export": Phase("export", "swin_jax.export.stablehlo:write#1", 74),
  "export, some room": Phase("export", "swin_jax.export.stablehlo:write#1", 74, 30_000),
  "export, config": Phase("export", "swin_jax.saved.folder:write_config#1", 74),
  "show": Phase("show", "swin_jax.show.output:new_file#1", 74),
  "plan": Phase("plan", "swin_jax.terminal.files:write#1", 74),
}


class Commands:
  """The commands, and their inputs, which are made once.

  Args:
    out: folder of the inputs and the undisturbed results.
    disk: the small file system.
  """

  def __init__(self, out: pathlib.Path, disk: pathlib.Path):
    self._out, self._disk = out, disk

  def words(self, name: str, result: pathlib.Path) -> list[str]:
    """Returns the command line that writes a result."""
    kind, _, variant = name.partition("-")
    trained, images = self._out / "trained", self._out / "images"
    train = ["swin_jax.main", *FLAGS, SMALL, "--config.log.num_pictures=2", "--config.log.every_steps=4"]
    train += [f"--config.optim.{key}_epochs={n / 89}" for key, n in (("total", STEPS), ("warmup", 2))]
    train += [f"--config.checkpoint.every_epochs={5 / 89}", f"--config.log.eval_every_epochs={10 / 89}"]
    train += [f"--config.data.num_workers={int(variant == 'workers')}"]
    train += (
      ["--config.profile.start_step=3", "--config.profile.num_steps=1"] if variant == "profiled" else []
    )
    cache = result.parent / "compiled" if variant == "cached" else self._out / "compiled"
    train += [f"--compile_cache={cache}"]
    prepare = ["swin_jax.data.prepare", f"--out={result}", "--shards=2"]
    return {
      "train": [*train, f"--workdir={result}"],
      "evaluate": [*train, f"--workdir={trained}", "--mode=eval"],
      "prepare": prepare
      + ([f"--source={self._out / 'rasters'}", "--tile=16"] if variant else [f"--source={images}"]),
      "adapt": ["swin_jax.weights", "adapt", str(trained), str(result)],
      "foreign": [
        "swin_jax.weights",
        "export",
        str(trained),
        str(result / "model.safetensors"),
        "--layout=official",
      ],
      "import": [
        "swin_jax.weights",
        "import",
        str(self._out / "foreign/model.safetensors"),
        str(result),
        "--image_size=32",
      ],
      "export": ["swin_jax.export", str(trained), str(result)],
      "show": [
        "swin_jax.show",
        "reconstruct",
        str(trained),
        str(images / "train/0/0.png"),
        f"--out={result}",
        "--bands=0",
      ],
      "plan": ["swin_jax.plan", *FLAGS, SMALL, "--topology=v5e:1x1", "--analytic", f"--json={result}"],
    }[kind]

  def make_inputs(self) -> None:
    """Makes a trained run, foreign weights, and images and rasters to prepare."""
    from PIL import Image
    import rasterio

    rng = np.random.default_rng(0)
    for i in range(40):
      path = self._out / "images" / "train" / f"{i % 4}" / f"{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(path)
      path = self._out / "rasters" / "train" / f"{i}.tif"
      path.parent.mkdir(parents=True, exist_ok=True)
      with rasterio.open(
        path,
        "w",
        "GTiff",
        32,
        32,
        2,
        dtype="float32",
        crs="EPSG:32632",
        transform=rasterio.Affine(1, 0, 0, 0, -1, 0),
      ) as file:
        file.write(rng.random((2, 32, 32), np.float32))
    for name, command in (("trained", "train"), ("foreign", "foreign")):
      code, output, _ = self.run(self.words(command, self._out / name))
      assert code == 0, output

  def run(self, words: list[str], phase: Phase | None = None) -> tuple[int | None, str, float]:
    """Runs a command to its end, with the disk filled in a phase or not at all.

    Returns:
      The exit code, None if it did not end in time; the output; the seconds since the disk was filled, NaN
      if it was not.
    """
    moment = self._out / "filled"
    moment.unlink(missing_ok=True)
    how = ["-m"]
    if phase:
      module = words[0] if words[0] == "swin_jax.main" else f"{words[0]}.__main__"
      how = ["-c", FILLING, self._disk, moment, phase.at, str(phase.keep), phase.until]
      words = [module, *words[1:]]
    temporary = self._disk / "tmp"
    temporary.mkdir(exist_ok=True)
    with open(self._out / "log", "w+") as log:
      process = subprocess.Popen(
        [sys.executable, *how, *words],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(temporary)},
      )
      begun = time.time()
      while process.poll() is None and time.time() - begun < 300:
        with contextlib.suppress(FileNotFoundError):
          begun = max(begun, moment.stat().st_mtime + 3 * SECONDS - 300)
        time.sleep(0.05)
      code = process.poll()
      if code is None:
        process.kill()
        process.wait()
      log.seek(0)
      seconds = time.time() - moment.stat().st_mtime if moment.exists() else float("nan")
      return code, log.read(), seconds

  def result(self, name: str, result: pathlib.Path, output: str):
    """Returns what must be equal."""
    if name.startswith("train"):
      return {path: array.tobytes() for path, array in saved(result, STEPS).items()}
    if name == "evaluate":
      return output.splitlines()[-1]
    paths = sorted(path for path in [result, *result.rglob("*")] if path.is_file())
    return [(str(path.relative_to(result)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


def try_phase(commands: Commands, name: str, phase: Phase, disk: pathlib.Path, whole: dict) -> tuple:
  """Fills the disk in one phase; returns (phase, exit code, seconds, line, what was wrong)."""
  result, problems = disk / "result", []
  for path in disk.iterdir():
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  kind = "train" if phase.command.startswith("train") else phase.command  # all variants train the same
  if kind not in whole:
    code, output, _ = commands.run(commands.words(kind, result))
    assert code == 0, output
    whole[kind] = commands.result(phase.command, result, output)
    for path in disk.iterdir():
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  words = commands.words(phase.command, result)
  code, output, seconds = commands.run(words, phase)
  full = output
  if code != phase.code:
    problems.append(f"exit code {code}")
  if not seconds <= SECONDS:
    problems.append(f"it took {seconds:.0f} s")
  lines = [line for line in output.splitlines() if any(cause in line for cause in CAUSES)]
  ends = [line for line in lines if line.startswith("swin_jax: ") and not _OF_OBSERVERS.search(line)]
  if len(ends) != bool(phase.code) or "Traceback" in output:
    problems.append(f"{len(ends)} lines name the cause{', and a traceback' * ('Traceback' in output)}")
  (disk / "filler").unlink(missing_ok=True)
  if code == 0 and commands.result(phase.command, result, output) != whole[kind]:
    problems.append("another result of the command on the full disk")
  again, output, _ = commands.run(words)
  if again != 0 or "Traceback" in output:
    problems.append(f"exit code {again} of the same command")
  elif commands.result(phase.command, result, output) != whole[kind]:
    problems.append("another result")
  left = [
    str(path)
    for path in disk.rglob("*")
    if path.name.endswith(".partial") or "orbax-checkpoint-tmp" in path.name
  ]
  left += [str(path) for path in (disk / "tmp").iterdir()]
  if left:
    problems.append(f"left: {left}")
  if problems:
    print("\n".join([full, f"--- again, exit code {again}:", output]), flush=True)
  return name, code, seconds, " | ".join(lines), problems


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument(
    "--only", default="", help="begins of names of phases, separated by commas; default: all"
  )
  args = parser.parse_args()
  out = args.out.absolute()
  disk, rows, whole = out / "disk", [], {}
  disk.mkdir(parents=True, exist_ok=True)
  mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(disk)]
  if subprocess.run(mount, check=False).returncode:
    sys.exit(
      f"a small file system cannot be mounted on {disk}; run this as root, outside unprivileged containers"
    )
  try:
    commands = Commands(out, disk)
    if not (out / "foreign").exists():
      commands.make_inputs()
    for name, phase in PHASES.items():
      if any(name.startswith(begin) for begin in args.only.split(",")):
        rows.append(try_phase(commands, name, phase, disk, whole))
        print(
          f"{name}: exit code {rows[-1][1]}, {rows[-1][2]:.1f} s, {rows[-1][3]} {rows[-1][4] or ''}",
          flush=True,
        )
  finally:
    subprocess.run(["umount", str(disk)], check=False)
  print("| the disk is full at | exit code | seconds |\n|---|---|---|")
  for name, code, seconds, *_ in rows:
    print(f"| {name} | {code} | {seconds:.1f} |")
  wrong = [row for row in rows if row[4]]
  print(f"{len(rows)} phases, {len(wrong)} with something wrong: {[(row[0], row[4]) for row in wrong]}")
  sys.exit(bool(wrong))


if __name__ == "__main__":
  main()
