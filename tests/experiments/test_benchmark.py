"""The benchmark: patched peers compute the same as the stock model, sweeps end where they should, and
failures are reported.
"""

import importlib
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree
import zipfile

import pytest

from experiments.benchmark import compare, cpu, floor, gpu, ours, process, report
from experiments.benchmark import input as input_benchmark
from swin_jax.mesh import hardware
from swin_jax.models import swin
from swin_jax.terminal.errors import BadInput
from tests.support.paths import ROOT

HARDWARE = {"device": "NVIDIA H200"}
DEBUG = {"debug": dict(config="quickstart:pretrain", image_size=32, dtype="float32", remat="block")}


@pytest.mark.parametrize(
  "module", sorted(path.stem for path in pathlib.Path(compare.__file__).parent.glob("*.py"))
)
def test_every_part_can_be_imported(module):
  needs = {"peers": "torch", "fused": "timm"}
  if module in needs:
    pytest.importorskip(needs[module])
  importlib.import_module(f"experiments.benchmark.{module}")


@pytest.mark.parametrize("attention", ["SdpaAttention", "FlexAttention"])
def test_a_fused_timm_is_the_stock_one(attention):
  """Compares values and gradients in float64, with shifted windows and a map smaller than the window;
  FlexAttention has gradients on GPUs only.
  """
  torch = pytest.importorskip("torch", reason="torch is not installed")
  timm = pytest.importorskip("timm", reason="timm is not installed")
  from experiments.benchmark import fused

  cuda = torch.cuda.is_available()
  model = timm.models.swin_transformer_v2.SwinTransformerV2(
    img_size=64,
    window_size=4,
    embed_dim=32,
    depths=(2, 2, 2, 2),
    num_heads=(1, 2, 4, 8),
    num_classes=5,
  )
  assert any(getattr(block, "attn_mask", None) is not None for block in model.modules())
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
      if name.endswith("logit_scale"):
        parameter[0] = 9.0  # above the clamp
      elif "norm" in name and name.endswith("weight"):
        parameter.add_(1.0)
  model.eval().double()
  images = torch.randn(3, 3, 64, 64, generator=generator).double()
  if cuda:
    model, images = model.cuda(), images.cuda()

  def values_and_gradients():
    with torch.set_grad_enabled(cuda or attention == "SdpaAttention"):
      model.zero_grad()
      logits = model(images)
      if torch.is_grad_enabled():
        (logits**2).sum().backward()
    return logits.detach(), {
      name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }

  stock, stock_gradients = values_and_gradients()
  fused.replace_attention(model, getattr(fused, attention))
  values, gradients = values_and_gradients()
  assert (values - stock).abs().max() <= 1e-12 * stock.abs().max()
  assert gradients.keys() == stock_gradients.keys()
  for name, gradient in stock_gradients.items():
    assert (gradients[name] - gradient).abs().max() <= 1e-9 * gradient.abs().max() + 1e-12, name


def test_the_floor():
  """Its FLOPs equal the model's; its traffic and time equal those counted by hand for one stage with one
  block and one window.
  """
  chip = hardware.CHIPS["h200"]
  for name in ("B/w16/256", "G/w12/192/SimMIM"):
    config = ours.config_of(gpu.CASES[name] | {"batch": 2})
    model, size = swin.make_encoder(**config.model), config.data.image_size
    forward, train = (floor.floor(model, size, 3, 2, chip, train=train) for train in (False, True))
    assert (
      forward.flops == pytest.approx(2 * model.flops(size, 3), rel=1e-3) and train.flops == 3 * forward.flops
    )
    assert forward.seconds >= max(forward.flops / chip.peak_flops, forward.traffic / chip.memory_speed)
  config.model.update(
    embed_dim=8, depths=(1,), num_heads=(1,), window_sizes=(4,), trained_window_sizes=(), extra_norm_every=0
  )
  model = swin.make_encoder(**config.model)
  tokens, c = 16, 8
  patches = tokens * (48 + c) + 48 * c
  block = tokens * (4 * c + 4 * c + 2 * c + 5 * c + 5 * c + 2 * 3 * c) + 12 * c * c
  assert floor.floor(model, (16, 16), 3, 1, chip, train=False).traffic == 2 * (patches + block)
  slow = chip._replace(peak_flops=1e30)
  least = floor.floor(model, (16, 16), 3, 1, slow, train=True)
  backward = tokens * (48 + c) + 2 * tokens * (4 * c + 2 * c + 5 * c + 5 * c) + tokens * (7 * c + 2 * 4 * c)
  assert least.traffic == 2 * (patches + block + backward + 2 * (48 * c + 12 * c * c)) + 28 * (
    48 * c + 12 * c * c
  )
  assert least.seconds == pytest.approx(least.traffic / chip.memory_speed)


def faked(monkeypatch, rates):
  """Makes `measure` answer from a table: (contestant, batch) → images a second; whatever is not in the table
  runs out of memory.
  """
  asked = []

  def measure(name, work, environment, rounds, limit_seconds):
    asked.append((name, work["kinds"][0], work["batch"]))
    if (name, work["batch"]) not in rates:
      return {
        "failed": f"{name} ended with 1",
        "out_of_memory": True,
        "log": "RESOURCE_EXHAUSTED",
        "seconds": 1.0,
      }
    return {
      "images_per_second": rates[name, work["batch"]],
      "peak_bytes": 2**30,
      "versions": {name: "1"},
      "seconds": 1.0,
    }

  monkeypatch.setattr(gpu, "measure", measure)
  return asked


RATES = {
  ("swin_jax", 32): 300.0,
  ("swin_jax", 64): 400.0,
  ("swin_jax-kernels", 32): 500.0,
  ("timm", 32): 200.0,
  ("timm", 64): 250.0,
}


def test_a_sweep(monkeypatch, tmp_path):
  asked = faked(monkeypatch, RATES)
  cases, out = {gpu.HEADLINE: gpu.CASES[gpu.HEADLINE]}, tmp_path / "gpu.json"
  names = ["swin_jax", "swin_jax-kernels", "timm", "torchvision"]
  result = gpu.compare(HARDWARE, cases, (32, 64, 128), names, ["transformers"], out)
  assert result == json.loads(out.read_text()) | {"asked": result["asked"]} and not result["cut_short"]
  assert ("swin_jax-kernels", "train", 64) in asked and ("swin_jax-kernels", "train", 128) not in asked
  assert (
    all(name != "torchvision" for name, *_ in asked)
    and "padding" in result["cases"][gpu.HEADLINE]["left_out"]["torchvision"]
  )
  assert (
    result["forward_ratio"] == result["train_ratio"] == result["cases"][gpu.HEADLINE]["train_ratio"] == 2.0
  )
  assert result["ours"]["train"] == {
    "contestant": "swin_jax-kernels",
    "batch": 32,
    "images_per_second": 500.0,
  }
  assert result["best_peer"]["forward"]["batch"] == 64
  mfu = {
    entry["kind"]: entry["mfu"] for entry in result["measurements"] if entry.get("images_per_second") == 500.0
  }
  assert mfu["forward"] == pytest.approx(500 * 43.6e9 / 989e12, rel=0.01) and mfu["train"] == pytest.approx(
    3 * mfu["forward"]
  )
  text = report.table(result)
  assert "| B/w16/256: swin_jax | 400 | 64 |" in text and "forward: 2.00" in text and "out of memory" in text
  assert "transformers: not installed" in text and "cut short" not in text
  drawn = xml.etree.ElementTree.fromstring(report.roofline(result, 989e12, 4.8e12))
  # ours and a peer, in the picture and its legend
  assert len(drawn.findall("{*}circle")) == len(drawn.findall("{*}rect")) - 1 == 4


def test_what_is_cut_short_is_there_and_goes_on(monkeypatch, tmp_path):
  asked = faked(monkeypatch, RATES)
  cases, out = {gpu.HEADLINE: gpu.CASES[gpu.HEADLINE]}, tmp_path / "gpu.json"
  measure = gpu.measure

  def cut(name, *args):
    if name == "timm":
      raise KeyboardInterrupt
    return measure(name, *args)

  monkeypatch.setattr(gpu, "measure", cut)
  with pytest.raises(KeyboardInterrupt):
    gpu.compare(HARDWARE, cases, (32, 64), ["swin_jax", "timm"], [], out)
  left = json.loads(out.read_text())
  assert left["cut_short"] and len(left["measurements"]) == 2 and left["forward_ratio"] is None
  assert "cut short" in report.table(left)
  monkeypatch.setattr(gpu, "measure", measure)
  asked.clear()
  result = gpu.compare(HARDWARE, cases, (32, 64), ["swin_jax", "timm"], [], out, entries=left["measurements"])
  assert not result["cut_short"] and result["train_ratio"] == 400 / 250
  assert asked[0] == ("timm", "forward", 32) and len(asked) == 6


@pytest.mark.parametrize(
  "log, memory",
  [
    ("jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes", True),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB", True),
    ("ValueError: the logits deviate by 0.5", False),
    ("triton.runtime.errors.OutOfResources: out of resource: shared memory", False),
  ],
)
def test_what_memory_failures_say(log, memory):
  assert process.Ended("x", log).out_of_memory == memory


@pytest.mark.slow
def test_processes(tmp_path):
  """Real processes on a CPU: one that runs, and one that this machine cannot run."""
  result = gpu.compare(
    HARDWARE,
    DEBUG,
    (2, 4),
    ["swin_jax", "swin_jax-kernels", "timm"],
    [],
    tmp_path / "x.json",
    rounds=2,
    device="cpu",
  )
  entries = {(entry["contestant"], entry["batch"]): entry for entry in result["measurements"]}
  assert (
    list(entries) == [("swin_jax", 2), ("swin_jax", 4), ("swin_jax-kernels", 2)] and not result["cut_short"]
  )
  assert (
    entries["swin_jax", 4]["images_per_second"] > 0 and len(entries["swin_jax", 4]["seconds_a_step"]) == 2
  )
  assert "the attention kernel 'gpu' needs NVIDIA GPUs" in entries["swin_jax-kernels", 2]["failed"]
  assert not entries["swin_jax-kernels", 2]["out_of_memory"]


def test_a_process_that_takes_too_long_is_ended():
  order = DEBUG["debug"] | {
    "platform": "gpu",
    "device": "cpu",
    "kinds": ["train"],
    "check": False,
    "batch": 2,
  }
  entry = gpu.measure("swin_jax", order, gpu.ENVIRONMENT["cpu"], 1, limit_seconds=0.5)
  assert "it took too long" in entry["failed"] and entry["seconds"] < 60  # otherwise it hangs


def test_mistakes_are_one_line():
  for words, message in (
    ("--platform=gpu --cases=B/w17/256", "there is no 'B/w17/256' here; there are B/w16/256, "),
    ("--platform=gpu --batches=0", "--batches: '0' must be at least 1"),
    ("--platform=gpu --resume", "--resume goes on with the file of --json, which is not there"),
    ("--platform=gpu --json=nowhere/x.json", "there is no folder nowhere"),
    ("--platform=cpu --json=tests", "--json=tests is a folder: name a file in it"),
    (
      "--platform=gpu --batches=64,1.5",
      "--batches: '1.5' must be an integer",
    ),
    ("--platform=gpu --json=README.md", "README.md is there already: give --resume"),
    ("--platform=gpu --json=README.md --resume", "README.md was not written by --platform=gpu"),
    ("--platform=cpu --rounds=0", "--rounds and --limit_seconds must be more than 0"),
    ("--platform=cpu --cases=B/w16/256", "--cases is for --platform=gpu"),
  ):
    with pytest.raises(BadInput, match=re.escape(message)):
      compare.main(["compare", *words.split()])


def test_mistakes_of_the_input_benchmark_are_one_line(tmp_path):
  for name, inside in (("empty.zip", "a.png"), ("good.zip", "a.JPEG")):
    with zipfile.ZipFile(tmp_path / name, "w") as file:
      file.writestr(inside, b"")
  for words, message in (
    ((tmp_path / "nope.zip",), "nope.zip is no zip file"),
    (("README.md",), "README.md is no zip file"),
    ((tmp_path / "empty.zip",), "empty.zip holds no JPEG"),
    ((tmp_path / "good.zip", "--rounds=0"), "--rounds must be at least 1"),
    ((tmp_path / "good.zip", "--json=nowhere/x.json"), "there is no folder nowhere"),
    ((tmp_path / "good.zip", "--json=tests"), "--json=tests is a folder"),
  ):
    with pytest.raises(BadInput, match=message):
      input_benchmark.main(["input", f"--images={words[0]}", *words[1:]])


def test_no_gpu_is_one_line():
  try:
    gpu.find_gpu()
  except BadInput:
    words = [sys.executable, "-m", "experiments.benchmark.compare", "--platform=gpu"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (
      done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "jax sees no GPU here" in done.stderr
    )
  else:
    pytest.skip("there is a GPU")


@pytest.mark.parametrize("name", ["cpu.json", "cpu_python312.json"])
def test_the_readme_shows_what_was_measured(name):
  folder = pathlib.Path(cpu.__file__).parent
  assert cpu.table(json.loads((folder / name).read_text())) in (folder / "README.md").read_text()
