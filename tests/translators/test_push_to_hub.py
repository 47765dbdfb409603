"""push_to_hub with the Hub's real client, against a small Hub on loopback."""

import base64
import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
from tiny_translators import Doubler

COMMIT = "c0ffee" * 6 + "c0ff"


class TinyHub(BaseHTTPRequestHandler):
    """Takes a new repository, branches and commits of small files, and remembers them."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.calls.append((self.path, self.headers["Authorization"]))
        path = self.path
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.address}/org/name"})
        elif "/branch/" in path:
            self.answer({})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in path:
            self.commit([json.loads(line) for line in body.splitlines()])
        else:
            self.send_error(404)

    def do_GET(self):
        """The oldest client asks how large files are stored, even for an upload without any."""
        if self.path.startswith("/api/models/org/name/revision/"):
            self.answer({"id": "org/name", "xetEnabled": False})
        else:
            self.send_error(404)

    def commit(self, lines):
        for line in lines:
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "header":
                self.server.messages.append(line["value"]["summary"])
        url = f"{self.server.address}/org/name/commit/{COMMIT}"
        self.answer({"success": True, "commitUrl": url, "commitOid": COMMIT, "hookOutput": ""})

    def answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), TinyHub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.calls, server.created, server.messages, server.files = [], [], [], {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pushed_translator_loads_again(hub, tmp_path):
    translator = Doubler(width=5)
    translator.card = {"license": "mit"}
    url = translator.push_to_hub("org/name", private=True, token="hf_secret", commit_message="First")
    assert url == f"{hub.address}/org/name/commit/{COMMIT}"
    assert (hub.created[0]["name"], hub.created[0]["organization"]) == ("name", "org")
    assert hub.messages == ["First"]
    assert {key for _, key in hub.calls} == {"Bearer hf_secret"}
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors"]
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    assert Doubler.from_pretrained(tmp_path).width == 5


def test_a_branch_is_made_for_a_revision(hub):
    Doubler().push_to_hub("org/name", revision="v2", token="hf_secret")
    paths = [path for path, _ in hub.calls]
    assert "/api/models/org/name/branch/v2" in paths
    assert "/api/models/org/name/commit/v2" in paths


def test_nothing_is_created_for_what_cannot_be_saved(hub):
    with pytest.raises(ValueError, match="plain values"):
        Doubler(note={1, 2}).push_to_hub("org/name", token="hf_secret")
    assert hub.calls == []


def test_a_failed_upload_shows_no_password(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://bob:s3cret@127.0.0.1:9")
    with pytest.raises(OSError, match="refused") as caught:
        Doubler().push_to_hub("org/name", token="hf_none")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_refused_upload_shows_no_password(hub, monkeypatch):
    address = hub.address.replace("http://", "http://bob:s3cret@")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(TinyHub, "do_POST", lambda self: self.send_error(403))
    with pytest.raises(OSError, match="403") as caught:
        Doubler().push_to_hub("org/name", token="hf_none")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
