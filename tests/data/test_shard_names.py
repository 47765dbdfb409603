"""Shards are local files and plain web addresses; nothing else is opened, and no program is started."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from torchnle.data import CaptionShards
from torchnle.data.readers.shard_names import expand
from torchnle.methods.devil.training import run


def tar_bytes():
    picture = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(picture, "PNG")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in {"0.png": picture.getvalue(), "0.txt": b"a red square"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def shard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.tar").write_bytes(tar_bytes())
    return "a.tar"


@pytest.fixture
def no_program(monkeypatch):
    """Fails the test that starts a program."""

    def refuse(*arguments, **_):
        pytest.fail(f"a program was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "system", refuse)


REFUSED = [
    ("pipe:touch PWNED; cat a.tar", "pipe"),
    ("PIPE:touch PWNED", "pipe"),
    ("  pipe:touch PWNED", "pipe"),
    ("\tpipe:touch PWNED", "pipe"),
    ("\x00pipe:touch PWNED", "pipe"),
    ("pi\npe:touch PWNED", "pipe"),
    ("pipe :touch PWNED", "pipe"),
    ("a.tar::pipe:touch PWNED", "pipe"),
    ("{a.tar,pipe:touch PWNED}", "pipe"),
    ("{pi,x}pe:touch PWNED", "pipe"),
    ("p{i..i}pe:touch PWNED", "pipe"),
    (["a.tar", "pipe:touch PWNED"], "pipe"),
    (Path("pipe:touch PWNED"), "pipe"),
    ("${HIDDEN}", "pipe"),
    ("file:pipe:touch PWNED", "pipe"),
    ("gs://bucket/a.tar", "gs"),
    ("s3://bucket/a.tar", "s3"),
    ("hdfs://host/a.tar", "hdfs"),
    ("hf://org/name/a.tar", "hf"),
    ("ais://bucket/a.tar", "ais"),
    ("htgs://bucket/a.tar", "htgs"),
    ("ftp://host/a.tar", "ftp"),
    ("ftps://host/a.tar", "ftps"),
    ("sftp://host/a.tar", "sftp"),
    ("scp://host/a.tar", "scp"),
    ("cli:cat a.tar", "cli"),
    ("data:application/x-tar;base64,AAAA", "data"),
    ("-", "standard input"),
    (["-"], "standard input"),
    ("http:///a.tar", "https://host/path"),
    ("http:a.tar", "https://host/path"),
    ("https://host/a b.tar", "https://host/path"),
    ("https://host/a\r\nHost: other", "https://host/path"),
    ("http://host:port/a.tar", "https://host/path"),
    ("file://other/a.tar", "file of this machine"),
]


@pytest.mark.parametrize(("shards", "named"), REFUSED)
def test_what_is_no_file_and_no_plain_address_is_refused(shard, no_program, monkeypatch, shards, named):
    monkeypatch.setenv("WDS_HIDDEN", "pipe:touch PWNED")
    with pytest.raises(ValueError, match=r"local files|https://host/path|this machine") as caught:
        CaptionShards(shards, cache="cache")
    assert named in str(caught.value)
    assert os.listdir() == ["a.tar"]


def test_nothing_is_opened_when_one_of_many_is_refused(shard, no_program, monkeypatch):
    monkeypatch.setattr("torchnle.hub.web.fetch", lambda *_: pytest.fail("downloaded"))
    monkeypatch.setattr("tarfile.open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(ValueError, match="pipe"):
        CaptionShards(["https://host/a.tar", "a.tar", "pipe:touch PWNED"])


@pytest.mark.parametrize("shards", ['"pipe:touch PWNED; cat a.tar"', '["a.tar", "gs://bucket/a.tar"]'])
@pytest.mark.parametrize("part", ["data", "validation"])
def test_a_recipe_is_refused_before_any_model_is_loaded(shard, no_program, monkeypatch, shards, part):
    monkeypatch.setattr("torchnle.backbones.load", lambda *_, **__: pytest.fail("a model was loaded"))
    tables = {"data": '"a.tar"', "validation": '"a.tar"', part: shards}
    Path("recipe.toml").write_text(
        '[vision]\nmodel = "efficientnet-lite0"\nlayers = ["_bn1"]\n[language]\nmodel = "no/model"\n'
        "[network]\n[training]\n"
        + "".join(f'[[{name}]]\nkind = "webdataset"\nshards = {value}\n' for name, value in tables.items())
    )
    with pytest.raises(ValueError, match="local files"):
        run.train(run.Run.read("recipe.toml"), progress=False)
    assert not Path("PWNED").exists()


def test_rewriting_by_the_environment_does_not_happen(shard, no_program, monkeypatch):
    monkeypatch.setenv("GOPEN_REWRITE", "a.tar=pipe:touch PWNED;cat ")
    monkeypatch.setenv("USE_AIS_FOR", "http:https")
    assert len(CaptionShards("a.tar")) == 1
    assert not Path("PWNED").exists()


@pytest.mark.parametrize(
    "written", ["a.tar", "./a.tar", "{here}/a.tar", "file:a.tar", "file://{here}/a.tar", "FILE:{here}/a.tar"]
)
def test_a_local_file_is_read_however_it_is_written(shard, no_program, written):
    source = CaptionShards(written.replace("{here}", os.getcwd()))
    assert source[0].captions == ("a red square",)


def test_a_file_whose_name_has_a_colon(shard):
    Path("pipe:x.tar").write_bytes(tar_bytes())
    assert len(CaptionShards("./pipe:x.tar")) == 1


def test_names_from_the_environment(shard, monkeypatch):
    monkeypatch.setenv("WDS_ROOT", "/data/{0..1}")
    assert expand("${ROOT}/a.tar") == ["/data/0/a.tar", "/data/1/a.tar"]
    with pytest.raises(ValueError, match="WDS_NONE is not set"):
        expand("${NONE}/a.tar")


def test_what_is_no_name_no_file_or_no_pattern(shard):
    with pytest.raises(TypeError, match="int"):
        CaptionShards([3])
    with pytest.raises(ValueError, match=r"'\{a'"):
        CaptionShards("{a")
    with pytest.raises(FileNotFoundError, match=r"none\.tar"):
        CaptionShards("none.tar")
    os.mkfifo("waits.tar")
    for path in ("waits.tar", "."):
        with pytest.raises(ValueError, match="a folder or a device"):
            CaptionShards(path)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Authorization")))
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?to=")[2])
            return self.end_headers()
        data = b"<html>" if self.path == "/page.tar" else tar_bytes()
        self.send_response(404 if self.path.startswith("/absent.tar") else 200)
        self.send_header("Content-Length", str(len(data) + (9 if self.path == "/cut.tar" else 0)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.requests = []
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def test_an_address_is_downloaded_once_and_by_no_program(shard, no_program, server):
    base = f"http://127.0.0.1:{server.server_port}"
    addresses = f"{base}/{{one,two}}/a.tar"
    for _ in range(2):
        source = CaptionShards(addresses, cache="cache")
        assert [source[i].captions for i in range(2)] == [("a red square",)] * 2
    assert [path for path, _ in server.requests] == ["/one/a.tar", "/two/a.tar"]
    assert len(os.listdir("cache")) == 2


def test_a_password_goes_to_its_host_and_into_no_message(shard, server):
    address = f"http://bob:s3cret%21@127.0.0.1:{server.server_port}"
    CaptionShards(f"{address}/a.tar", cache="cache")
    assert server.requests == [("/a.tar", f"Basic {b64encode(b'bob:s3cret!').decode()}")]
    with pytest.raises(OSError, match=r"\*\*\*@127.*404") as caught:
        CaptionShards(f"{address}/absent.tar?token=abc", cache="cache")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="no tar file") as caught:
        CaptionShards(f"{address}/page.tar", cache="cache")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in " ".join(os.listdir("cache"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.tar", "pipe:touch PWNED"])
def test_a_redirection_leads_to_no_other_protocol(shard, no_program, server, target):
    moved = f"http://127.0.0.1:{server.server_port}/moved?to={target.replace(' ', '%20')}"
    with pytest.raises(OSError, match="downloading"):
        CaptionShards(moved, cache="c")
    assert os.listdir("c") == []


def test_half_a_download_is_not_kept(shard, server):
    with pytest.raises(OSError, match="broke off"):
        CaptionShards(f"http://127.0.0.1:{server.server_port}/cut.tar", cache="cache")
    assert os.listdir("cache") == []
