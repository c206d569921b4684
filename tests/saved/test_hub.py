"""Models of the Hugging Face hub, fetched by the real library from a server on this machine."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from swin_jax.saved import hub
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import config_file
from tests.support import hub as stand_in
from tests.support import official
from tests.support.folders import TINY, refusal, save
from tests.support.paths import ROOT

OUTSIDE = ["../x.safetensors", "/x.safetensors", "a/x.safetensors", "..", "", "x.bin", "a\\x.safetensors"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_names_only_files_in_its_folder(name, tmp_path, capsys):
  save(tmp_path / "x.safetensors", official.random(official.state_dict(2, **TINY)))
  folder = tmp_path / "model"
  folder.mkdir()
  index = folder / "model.safetensors.index.json"
  name = f"{tmp_path}{name}" if name.startswith("/") else name
  index.write_text(json.dumps({"weight_map": {"head.weight": name}}))
  assert f"names '{name}', which is not a .safetensors file in its folder" in refusal(
    capsys, "import", folder, tmp_path / "out"
  )


@pytest.mark.parametrize(
  "text",
  [
    "",
    "[]",
    "{}",
    '{"weight_map": 1}',
    '{"weight_map": {"a": 1}}',
    '{"weight_map": {"a": []}}',
    '{"weight_map": {}}',
    "[" * 100_000,
  ],
)
def test_a_damaged_index_is_one_line(text, tmp_path, capsys):
  (tmp_path / "model.safetensors.index.json").write_text(text)
  line = refusal(capsys, "import", tmp_path, tmp_path / "out")
  assert "must be an index of safetensors files" in line or "names no safetensors files" in line


def test_a_part_must_be_a_plain_file(tmp_path, capsys):
  os.mkfifo(tmp_path / "x.safetensors")
  (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}')
  assert "x.safetensors does not exist or is not a plain file" in refusal(
    capsys, "import", tmp_path, tmp_path / "out"
  )


@pytest.mark.parametrize(
  "rest", ["a/b/../../x", "../../etc/passwd", "/x/y", "a", "a/", "a//b", "a/b/", "a/b/./x"]
)
def test_addresses_stay_in_their_repository(rest, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args: pytest.fail("it was requested"))
  assert "write hf://OWNER/NAME" in refusal(capsys, "import", f"hf://{rest}", tmp_path / "out")


@pytest.mark.parametrize(
  "name, settings, message",
  [
    ("config.json", "[" * 100_000, "is not valid JSON"),
    ("config.json", '{"model_type": "swinv2", "image_size": "big", "window_size": 4}', "image_size is 'big'"),
    ("config.json", '{"model_type": "swinv2", "image_size": 32, "window_size": [[[4]]]}', "window is"),
    ("config.json", '{"model_type": "swinv2", "image_size": 1e99, "window_size": 4}', "image_size is 1e+99"),
    ("config.json", '{"model_type": "swinv2", "image_size": true, "window_size": 4}', "image_size is True"),
    ("preprocessor_config.json", '{"image_mean": [1, 2, "x"]}', "state mean"),
    ("preprocessor_config.json", '{"image_std": [1, 0, 1]}', "state std"),
    ("preprocessor_config.json", '{"image_std": [1, NaN, 1]}', "state std"),
    ("preprocessor_config.json", '{"image_mean": 7}', "state mean"),
  ],
)
def test_settings_next_to_weights_are_checked(name, settings, message, tmp_path, capsys):
  state = official.random(official.state_dict(2, **TINY | dict(buffers=False)))
  path = save(tmp_path / "model" / "model.safetensors", state)
  config = dict(model_type="swinv2", image_size=32, window_size=4)
  config |= {key: TINY[key] for key in ("embed_dim", "depths", "num_heads")}
  for key, text in {"config.json": json.dumps(config), name: settings}.items():
    if key == name == "config.json" and text.startswith("{"):
      text = json.dumps(config | json.loads(text))
    path.with_name(key).write_text(text)
  assert message in refusal(capsys, "import", path.parent, tmp_path / "out")


def test_labels_next_to_weights_are_cleaned(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "a\x1b[31m", "1": "b"}}))
  assert config_file.class_names(tmp_path / "config.json", 2) == ["a[31m", "b"]


@pytest.mark.parametrize(
  "settings", [{"id2label": [1, 2]}, {"id2label": 3}, [], {"pretrained_cfg": 3}, {"model_args": 3}], ids=str
)
def test_settings_of_another_type_are_refused(settings, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps(settings))
  with pytest.raises(BadInput, match="config.json.*object"):
    config_file.normalisation(tmp_path)


@pytest.mark.slow
def test_the_hub(tmp_path):
  """Fetches a model in the way users do: with the real library, from our own server."""
  files = tmp_path / "hub"
  state = official.random(official.state_dict(2, **TINY | dict(buffers=False)))
  save(files / "model.safetensors", state)
  save(files / "models" / "other.safetensors", official.random(official.state_dict(2, **TINY)))
  (files / "config.json").write_text(json.dumps(dict(model_type="swinv2", image_size=32, window_size=4)))
  server = stand_in.Hub(files)
  environment = os.environ | {
    "HF_ENDPOINT": server.url,
    "HF_HOME": str(tmp_path / "cache"),
    "JAX_PLATFORMS": "cpu",
  }

  def fetch(source, destination):
    words = [sys.executable, "-m", "swin_jax.weights", "import", source, str(tmp_path / destination)]
    return subprocess.run(
      words,
      env=environment,
      capture_output=True,
      text=True,
      timeout=120,
      cwd=ROOT,
    )

  done = fetch("hf://owner/name", "one")
  assert done.returncode == 0, done.stderr
  assert "windows from config.json next to it" in done.stdout
  done = fetch("hf://owner/name/models/other.safetensors", "two")
  assert done.returncode == 0, done.stderr
  assert "windows from the file" in done.stdout
  done = fetch("hf://owner/name/none.pth", "three")
  assert (
    done.returncode == 2
    and "no such file; the repository has model.safetensors, models/other.safetensors" in done.stderr
  ), done.stderr
  server.server.shutdown()


def test_a_hub_that_cannot_be_reached_ends_with_what_to_do(tmp_path, monkeypatch, capsys):
  """A port that nobody listens on, and one that takes connections but never answers."""
  cached = tmp_path / "cache"
  for silent in (False, True):
    with socket.socket() as listener:
      listener.bind(("localhost", 0))
      if silent:
        listener.listen()
      endpoint = f"http://localhost:{listener.getsockname()[1]}"
      stand_in.use(monkeypatch, endpoint, cached)
      start = time.perf_counter()
      line = refusal(capsys, "import", "hf://owner/name", tmp_path / "out")
      assert time.perf_counter() - start < 5
    assert f"{endpoint}/owner/name/resolve/main/model.safetensors" in line
    assert f"{endpoint}/owner/name/resolve/main/config.json" in line
    assert "python -m swin_jax.weights import FOLDER/model.safetensors models/name" in line
    assert ("does not answer" if silent else "cannot be reached") in line or silent
    assert not (tmp_path / "out").exists()


def test_a_hub_that_answers_after_four_seconds_is_waited_for():
  class Slow(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
      time.sleep(4)
      self.send_response(200)
      self.end_headers()

    def log_message(self, *words):
      pass

  server = http.server.ThreadingHTTPServer(("localhost", 0), Slow)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  assert hub._why_unreachable(f"http://localhost:{server.server_port}") == ""
  server.shutdown()
