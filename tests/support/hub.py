"""A stand-in for the Hugging Face hub, and its library pointed at it."""

import hashlib
import http.server
import json
import threading


class Hub:
  """A local server with the part of the Hugging Face hub that its library requests: one model, whose files
  are those in a folder.
  """

  def __init__(self, root, model="owner/name"):
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
          known = parts[:2] in (model.split("/"), ["api", "models"])
          self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
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


def use(monkeypatch, endpoint, cache):
  """Lets the library in this process ask the hub at `endpoint`, and keep what it downloads in `cache`."""
  import huggingface_hub  # late, as it takes a second
  from huggingface_hub import constants, file_download

  template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
  names = {"ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HUGGINGFACE_CO_URL_TEMPLATE": template}
  for module in (constants, file_download):
    for name, value in names.items():
      monkeypatch.setattr(module, name, value, raising=False)
  return huggingface_hub
