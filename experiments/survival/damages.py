"""Damages files that the program wrote, at random, and looks at what a reader makes of them.

  python -m experiments.survival.damages --out=runs/damages [--damages=300] [--seed=0] [--only=run,model,set]

The kinds of files are those of a run, a model folder and a prepared set. Each damage is done to a fresh copy,
which is then used as a user would: the run is continued, the model loaded, the set verified and read. The
outcome is one of

  named      the damage is reported or refused in one line that names the file, or the step of its checkpoint
  harmless   the results are equal, bit for bit
  UNNAMED    the damage is refused, but no file is named
  SILENT     the results differ, without a word
  TRACEBACK  something other than one line
"""

import argparse
import collections
from collections.abc import Callable
import contextlib
import io
import json
import pathlib
import random
import re
import shutil
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.terminal.errors import BadInput

STEPS = 8
KINDS_OF_JSON = (".json", ".jsonl", "metadata", "_METADATA", "_CHECKPOINT_METADATA")


def flip_a_byte(rng: random.Random, path: pathlib.Path, others: list[pathlib.Path]) -> str:
  content = bytearray(path.read_bytes())
  place = rng.randrange(len(content))
  content[place] ^= 1 << rng.randrange(8)
  path.write_bytes(content)
  return f"byte {place}"


def change_a_digit(rng: random.Random, path: pathlib.Path, others: list[pathlib.Path]) -> str | None:
  """Changes a digit so that the JSON stays valid; does nothing to other files."""
  text = path.read_text() if path.name.endswith(KINDS_OF_JSON) else ""
  digits = list(re.finditer(r"\d", text))
  for match in rng.sample(digits, len(digits)):
    digit = rng.choice([str(i) for i in range(10) if str(i) != match[0]])
    changed = text[: match.start()] + digit + text[match.end() :]
    with contextlib.suppress(ValueError):
      for line in changed.splitlines() if path.suffix == ".jsonl" else [changed]:
        json.loads(line)
      path.write_text(changed)
      return f"digit {match.start()}"
  return None


def cut(rng: random.Random, path: pathlib.Path, others: list[pathlib.Path]) -> str:
  size = rng.randrange(path.stat().st_size)
  path.write_bytes(path.read_bytes()[:size])
  return f"cut to {size} bytes"


def swap(rng: random.Random, path: pathlib.Path, others: list[pathlib.Path]) -> str | None:
  """Swaps the file with another one of the same name or ending, if they differ."""
  alike = [o for o in others if o != path and (o.name == path.name or o.suffix == path.suffix)]
  alike = [other for other in alike if other.read_bytes() != path.read_bytes()]
  if not alike:
    return None
  other, content = rng.choice(alike), path.read_bytes()
  path.write_bytes(other.read_bytes())
  other.write_bytes(content)
  return f"swapped with {other.parent.name}/{other.name}"


def rename(rng: random.Random, path: pathlib.Path, others: list[pathlib.Path]) -> str:
  """Renames the file or, in a checkpoint, sometimes the checkpoint's folder."""
  folder = next((parent for parent in path.parents if parent.parent.name == "checkpoints"), None)
  if folder is not None and rng.random() < 0.3:
    folder.rename(folder.with_name(str(int(folder.name) + 50)))
    return "folder of the checkpoint renamed"
  path.rename(path.with_name(path.name + ".bak"))
  return "renamed"


OUTCOMES = ("named", "harmless", "UNNAMED", "SILENT", "TRACEBACK")
WAYS = (flip_a_byte, change_a_digit, cut, swap, rename)


class Subject:
  """Files of one kind: how to make them, and what a user does with them.

  Attributes:
    make: folder → None; writes the files.
    use: folder → the results, as plain values and arrays.
  """

  def __init__(self, make: Callable[[pathlib.Path], None], use: Callable[[pathlib.Path], Any]):
    self.make, self.use = make, use


def _config():
  from configs import quickstart

  c = quickstart.get_config("pretrain")
  c.model.update(embed_dim=16, depths=(1,), num_heads=(2,), window_sizes=(4,), unroll=False)
  c.data.update(batch_size=16, eval_batch_size=72, num_threads=1)
  c.optim.update(total_epochs=STEPS / 89, warmup_epochs=2 / 89)
  c.checkpoint.every_epochs = STEPS / 2 / 89
  c.log.update(every_steps=1, eval_every_epochs=STEPS / 2 / 89, num_pictures=1)
  return c


def _train(folder: pathlib.Path) -> Any:
  from swin_jax.run import train

  return train.train(_config(), str(folder))


def _continue(folder: pathlib.Path) -> Any:
  evaluation = _train(folder)
  return evaluation, _load(folder)


def _load(folder: pathlib.Path) -> Any:
  import jax

  import swin_jax

  model, params = swin_jax.load(folder)
  return model.description, jax.device_get(params)


def _make_model(folder: pathlib.Path) -> None:
  from swin_jax.saved import description
  from swin_jax.saved import folder as folders

  described = description.describe(_config().to_dict(), "the study")
  shapes, rng = description.parameter_shapes(described), np.random.default_rng(0)
  arrays = {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}
  folders.write(str(folder), described, shapes, arrays.__getitem__)


def _make_set(folder: pathlib.Path) -> None:
  from swin_jax.data.prepare import __main__ as prepare

  images, rng = folder.with_name("images"), np.random.default_rng(0)
  for name in ("train/ant", "train/bee", "val/ant", "val/bee"):
    (images / name).mkdir(parents=True)
    for i in range(6):
      Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(images / name / f"{i}.png")
  for source in ([f"--source={images}", "--shards=2"], []):  # without a source, it measures statistics
    prepare.main(["prepare", f"--out={folder}", *source])
  shutil.rmtree(images)


def _use_set(folder: pathlib.Path) -> Any:
  from swin_jax.data.prepare import __main__ as prepare
  from swin_jax.data.read import sources, statistics

  results = [statistics.read(str(folder))]
  for split in ("train", "val"):
    source = sources.open_sources("array_record", str(folder), (split,))[0]
    for i in range(len(source)):
      try:
        results.append(source[i]._asdict())
      except ValueError as error:  # a run replaces such a record and counts it
        print(error)
  if prepare.main(["prepare", f"--verify={folder}"]):
    raise BadInput("--verify reports damage")
  return results


SUBJECTS = {
  "run": Subject(_train, _continue),
  "model": Subject(_make_model, _load),
  "set": Subject(_make_set, _use_set),
}


def _equal(one: Any, other: Any) -> bool:
  import jax

  leaves, shape = jax.tree.flatten(one)
  others, other_shape = jax.tree.flatten(other)
  return shape == other_shape and all(map(np.array_equal, leaves, others))


def attempt(subject: Subject, folder: pathlib.Path, expected: Any, names: list[str]) -> tuple[str, str]:
  """Uses damaged files; returns the outcome and what was said about them, if it names one of `names`."""
  said = io.StringIO()
  outcome = ""
  try:
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
      equal = _equal(subject.use(folder), expected)
    outcome = "" if equal else "SILENT"
  except BadInput as error:
    outcome = "UNNAMED"
    said.write(f"{error}\n")
  except Exception as error:
    return "TRACEBACK", f"{type(error).__name__}: {error}"
  lines = [line for line in said.getvalue().splitlines() if any(name in line for name in names)]
  if report := next((line for line in lines if outcome == "UNNAMED" or _REPORT.search(line)), ""):
    return "named", report
  return (outcome, said.getvalue()[-200:]) if outcome else ("harmless", "")


_REPORT = re.compile("damaged|changed|missing|cannot|not |belongs|bytes|unexpected|lacks|holds no|corrupt")


def study(out: pathlib.Path, number: int, seed: int, only: list[str]) -> list[dict[str, str]]:
  """Returns one entry for each damage."""
  from swin_jax.run import train

  rng, entries, build, programs = random.Random(seed), [], train.build, []

  def build_once(*arguments):  # all runs have the same config
    if not programs:
      programs.append(build(*arguments))
    return programs[0]

  train.build = build_once
  try:
    for name in only:
      subject, whole = SUBJECTS[name], out / name / "whole"
      whole.parent.mkdir(parents=True, exist_ok=True)
      subject.make(whole)
      spare = shutil.copytree(whole, out / name / "spare")
      expected = subject.use(spare)  # which may add to the files
      shutil.rmtree(spare)
      while len([entry for entry in entries if entry["files"] == name]) < number:
        copy = shutil.copytree(whole, out / name / "copy")
        files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
        path, way = rng.choice(files), rng.choice(WAYS)
        relative = str(path.relative_to(copy))
        if done := way(rng, path, files):
          step = re.match(r"checkpoints/(\d+)/", relative)
          names = [path.name, done.rpartition("/")[2], relative]
          names += [f"step {step[1]} ", f"step {int(step[1]) + 50} "] if step else []
          outcome, about = attempt(subject, copy, expected, names)
          entries.append(
            {
              "files": name,
              "file": relative,
              "way": f"{way.__name__}: {done}",
              "outcome": outcome,
              "about": about,
            }
          )
        shutil.rmtree(copy)
  finally:
    train.build = build
  return entries


def table(entries: list[dict[str, str]]) -> str:
  """Returns the number of outcomes for each kind of files and way of damage, and every bad one."""
  counts = collections.Counter((e["files"], e["way"].partition(":")[0], e["outcome"]) for e in entries)
  lines = [
    "| files | damage | named | harmless | unnamed | silent | traceback |",
    "|---|---|---|---|---|---|---|",
  ]
  for files, way in sorted({key[:2] for key in counts}):
    row = [counts[files, way, outcome] for outcome in OUTCOMES]
    lines.append(f"| {files} | {way.replace('_', ' ')} | {' | '.join(map(str, row))} |")
  bad = [e for e in entries if e["outcome"].isupper()]
  return "\n".join(lines + [f"{e['outcome']}: {e['file']}, {e['way']}: {e['about']}" for e in bad])


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--damages", type=int, default=300)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--only", default=",".join(SUBJECTS))
  arguments = parser.parse_args()
  only = arguments.only.split(",")
  entries = study(arguments.out, -(-arguments.damages // len(only)), arguments.seed, only)
  (arguments.out / "damages.json").write_text(json.dumps(entries, indent=1))
  print(table(entries))


if __name__ == "__main__":
  main()
