"""Models of the Hugging Face hub, fetched by the real library from a server on this machine."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from tests.support import official
from tests.support.folders import TINY, save
from tests.support.paths import ROOT


class Hub:
  """A local server with the part of the Hugging Face hub that its library requests."""

  def __init__(self, root):
    class Handler(http.server.BaseHTTPRequestHandler):
      def do_HEAD(self):
        self.answer(body=False)

      def do_GET(self):
        self.answer(body=True)

      def answer(self, body):
        parts = self.path.split("?")[0].strip("/").split("/")
        data, kind = None, "application/octet-stream"
        if parts[:2] == ["api", "models"] and parts[4:5] == ["tree"]:
          names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
          data = json.dumps(
            [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in names]
          ).encode()
          kind = "application/json"
        elif parts[2:4] == ["resolve", "main"] and (root / "/".join(parts[4:])).is_file():
          data = (root / "/".join(parts[4:])).read_bytes()
        self.send_response(200 if data is not None else 404)
        if data is None:
          self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(data or b"").hexdigest()}"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if body and data:
          self.wfile.write(data)

      def log_message(self, *args):
        pass

    self.server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    self.url = f"http://localhost:{self.server.server_port}"
    threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.mark.slow
def test_the_hub(tmp_path):
  """Fetches a model in the way users do: with the real library, from our own server."""
  hub = tmp_path / "hub"
  state = official.random(official.state_dict(2, **TINY | dict(buffers=False)))
  save(hub / "model.safetensors", state)
  save(hub / "models" / "other.safetensors", official.random(official.state_dict(2, **TINY)))
  (hub / "config.json").write_text(json.dumps(dict(model_type="swinv2", image_size=32, window_size=4)))
  server = Hub(hub)
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
