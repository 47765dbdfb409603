"""A small Hugging Face Hub on loopback, and small wheels for pip."""

import hashlib
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest


def git_blob_id(data):
    return hashlib.sha1(b"blob " + str(len(data)).encode() + b"\0" + data).hexdigest()


def commit_id(name):
    return hashlib.sha1(name.encode()).hexdigest()


class TinyHub:
    """Repositories as {repo: {revision: {path: bytes}}}; weights are LFS files, the rest plain ones."""

    def __init__(self):
        self.repos, self.requests = {}, []
        self.missing, self.truncated, self.stated = set(), set(), {}
        self.failing = False

    def find(self, repo, revision):
        """(commit, files) of a revision given as branch, tag or commit; None if there is none."""
        for name, files in self.repos[repo].items():
            commit = commit_id(repo + name + repr(sorted(files.items())))
            if revision in (name, commit):
                return commit, files
        return None

    def hashes(self, path, data):
        stated = self.stated.get(path, data)
        is_lfs = not path.endswith((".json", ".txt", ".md", ".py"))
        return git_blob_id(stated), hashlib.sha256(stated).hexdigest() if is_lfs else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = unquote(urlsplit(self.path).path)
        self.server.hub.requests.append(path)
        if self.server.hub.failing:
            return self.answer(500, b"out of order")
        if path.startswith("/api/models/"):
            return self.api(path.removeprefix("/api/models/").split("/"))
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        return self.file(repo, revision, name, body)

    def api(self, parts):
        repo, kind, revision = "/".join(parts[:2]), *(parts[2:] or ["revision", "main"])
        hub = self.server.hub
        if repo not in hub.repos:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if (found := hub.find(repo, revision)) is None:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        commit, files = found
        entries = [(path, len(data), *hub.hashes(path, data)) for path, data in files.items()]
        if kind == "tree":
            reply = [
                {"type": "file", "path": path, "size": size, "oid": blob}
                | ({"lfs": {"oid": sha, "size": size, "pointerSize": 9}} if sha else {})
                for path, size, blob, sha in entries
            ]
        else:
            siblings = [
                {"rfilename": path, "size": size, "blobId": blob}
                | ({"lfs": {"sha256": sha, "size": size, "pointerSize": 9}} if sha else {})
                for path, size, blob, sha in entries
            ]
            reply = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings}
        return self.answer(200, json.dumps(reply).encode(), {"Content-Type": "application/json"})

    def file(self, repo, revision, name, body):
        hub = self.server.hub
        commit, files = hub.find(repo, revision)
        if name in hub.missing or name not in files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        data = files[name]
        blob, sha = hub.hashes(name, data)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{sha or blob}"'}
        self.close_connection = body and name in hub.truncated
        sent = data[: len(data) // 2 if self.close_connection else None]
        return self.answer(200, sent if body else b"", headers, length=len(data))

    def answer(self, status, data, headers=None, length=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running Hub that the real client talks to, with a cache of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = TinyHub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)  # between retries
    yield server.hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def index(monkeypatch, tmp_path):
    """A folder that pip takes for its only index; call it to put a wheel there: its path and sha256."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def add(distribution, version, entries):
        stem = f"{distribution.replace('-', '_')}-{version}"
        path = folder / f"{stem}-py3-none-any.whl"
        about = {
            f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}",
            f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{stem}.dist-info/top_level.txt": "tiny\n",
        }
        return path, write_archive(path, {**entries, **about, f"{stem}.dist-info/RECORD": ""})

    return add


def write_archive(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tiny_safetensors():
    """The bytes of a safetensors file with one tensor, w = [1, 2]."""
    import torch
    from safetensors.torch import save

    return save({"w": torch.tensor([1.0, 2.0])})
