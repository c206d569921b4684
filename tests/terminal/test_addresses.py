"""Addresses in place of paths are refused by every command, before anything is read or written."""

import pytest

from swin_jax import main as run
from swin_jax.export import __main__ as export
from swin_jax.plan import __main__ as plan
from swin_jax.show import __main__ as show
from swin_jax.terminal import addresses
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import __main__ as weights
from tests.support import prepared

QUICK = "--config=configs/quickstart.py"
FUSE = "https://cloud.google.com/storage/docs/cloud-storage-fuse/overview"


@pytest.mark.parametrize(
  "path",
  ["gs://b/x", "s3://b/x", "http://h/x", "HTTPS://h", "file:///x", "a+b.c-1://x", "gs:/b/x", "file:/x"],
)
def test_addresses(path):
  with pytest.raises(BadInput, match="mount the bucket") as error:
    addresses.check_local("--out", path)
  assert f"--out={path} is an address" in str(error.value)
  assert (FUSE in str(error.value)) == path.startswith("gs:")


@pytest.mark.parametrize("path", ["a\nb", "a\x1b[31m", "\0"])
def test_control_characters_are_refused(path):
  with pytest.raises(BadInput, match="has control characters") as error:
    addresses.check_local("--out", path)
  assert path not in str(error.value)


@pytest.mark.parametrize(
  "path", ["", "x", "/a/b", "a:b", "gs:b", "c:/x", "a//b", "tfds:mnist", "x/y://z", None]
)
def test_paths(path):
  addresses.check_local("--out", path)


@pytest.mark.parametrize(
  "main, words",
  [
    (run.main, [QUICK, "--workdir=gs://b/run"]),
    (run.main, [QUICK, "--workdir=gs://b/run", "--mode=eval"]),
    (run.main, [QUICK, "--workdir=run", "--config.transfer.class_map=gs://b/map"]),
    (run.main, [QUICK, "--workdir=run", "--config.init_from=gs://b/model"]),
    (run.main, [QUICK, "--workdir=run", "--config.data.source=folder", "--config.data.path=gs://b/set"]),
    (run.main, [QUICK, "--workdir=run", "--config.data.source=array_record", "--config.data.path=gs://b"]),
    (prepared.main, ["--source=gs://b/x", "--out=out"]),
    (run.main, ["--config=gs://b/quickstart.py", "--workdir=run"]),
    (plan.main, [QUICK, "--topology=v5p:4x4x4", "--json=gs://b/x"]),
    (prepared.main, ["--source=set", "--out=gs://b/x"]),
    (prepared.main, ["--verify=gs://b/x"]),
    (weights.main, ["import", "gs://b/x", "model"]),
    (weights.main, ["import", "set", "gs://b/x"]),
    (weights.main, ["adapt", "gs://b/x", "model"]),
    (weights.main, ["adapt", "set", "gs://b/x"]),
    (weights.main, ["export", "gs://b/x", "x.safetensors", "--layout=hf"]),
    (weights.main, ["export", "set", "gs://b/x.safetensors", "--layout=hf"]),
    (weights.main, ["verify", "gs://b/x"]),
    (export.main, ["gs://b/x", "exported"]),
    (export.main, ["set", "gs://b/x"]),
    (show.main, ["features", "gs://b/model", "set/x.png", "--out=pictures"]),
    (show.main, ["features", "set", "gs://b/x.png", "--out=pictures"]),
    (show.main, ["features", "set", "set/x.png", "--out=gs://b/x"]),
    (show.main, ["segment", "set", "set/x.png", "--out=pictures", "--maps=gs://b/x"]),
    (show.main, ["segment", "set", "set/x.png", "--out=pictures", "--labels=gs://b/x"]),
  ],
)
def test_every_command_refuses_and_leaves_nothing(main, words, tmp_path, monkeypatch, capsys):
  monkeypatch.syspath_prepend(".")
  config = run.__file__.replace("swin_jax/main.py", "configs/quickstart.py")
  words = [f"--config={config}" if word == QUICK else word for word in words]
  monkeypatch.chdir(tmp_path)
  (tmp_path / "set").mkdir()
  (tmp_path / "set" / "x.png").write_bytes(b"")
  before = sorted(tmp_path.rglob("*"))
  assert (main(*words) if main is prepared.main else main(["command", *words])) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "mount the bucket" in error and FUSE in error
  assert sorted(tmp_path.rglob("*")) == before
