import io
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from explorer_world import HOSTILE, LAYERS, make
from PIL import Image

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from torchnle.explorer.regions import Region
from torchnle.explorer.security import JSON_BYTES, PHOTO_BYTES, refusal
from torchnle.explorer.server import application, free_port

TOKEN, HOST = "secret", "127.0.0.1:8123"


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    return make(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units") / "report"
    folder.mkdir()
    (folder / "index.html").write_text("<h1>Units</h1><script>1</script>")
    (folder.parent / "outside.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def client(explorer, units):
    app = application(explorer, port=8123, token=TOKEN, units=units)
    with TestClient(app, base_url=f"http://{HOST}", headers={"x-torchnle-token": TOKEN}) as client:
        yield client


@pytest.fixture
def key(explorer):
    return next(iter(explorer.photos.given))


def png(size=(6, 4)):
    content = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(content, "PNG")
    return content.getvalue()


def test_the_page_holds_no_code_and_carries_the_token(client):
    page = client.get("/")
    assert page.status_code == 200
    assert f'content="{TOKEN}"' in page.text
    assert not re.search(r"<script(?![^>]* src=)", page.text)
    assert not re.search(r"\son\w+=|\sstyle=|javascript:|https?://", page.text)


def test_every_answer_carries_the_policy(client, key):
    for address in ["/", "/static/main.js", "/api/start", f"/photo/{key}.jpg", "/photo/none.jpg", "/nowhere"]:
        headers = client.get(address).headers
        assert "default-src 'none'" in headers["content-security-policy"], address
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_every_file_of_the_page_is_served(client):
    found = {"main.js"}
    for name in list(found):
        found |= set(re.findall(r'from "\./(\w+\.js)"', client.get(f"/static/{name}").text))
    for name in [*found, "explorer.css"]:
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")


def test_start_lists_photographs_by_their_own_names(client):
    start = client.get("/api/start").json()
    assert start["photos"][0]["name"] == HOSTILE
    assert start["model"] == "tiny"
    assert start["concepts"]
    assert start["sentences"]
    assert start["units"] == "/units/index.html"


def test_every_question_is_answered(client, explorer, key):
    about = client.post("/api/about", json={"photo": key}).json()
    assert [layer["grid"] for layer in about["layers"]] == [[8, 8], [4, 4]]
    question = {"photo": key, "layer": "norm", "region": [1, 2, 1, 2]}
    assert client.post("/api/words", json=question).json() == explorer.words(key, "norm", Region(1, 2, 1, 2))
    assert set(client.post("/api/sentence", json=question).json()) == {"text", "probability", "unsure"}
    maps = client.post("/api/maps", json={"photo": key, "texts": ["a cat"]}).json()
    assert [len(layer["maps"][0]) for layer in maps["layers"]] == [64, 16]
    classes = client.post("/api/classes", json={"photo": key, "off": ["whiskers"]}).json()
    assert {each["name"] for each in classes["classes"]} <= set(explorer.backbone.class_names)
    assert client.get(f"/photo/{key}.jpg").headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(client.get(f"/photo/{key}.jpg").content)).size == (160, 160)


def test_a_photograph_is_taken_with_any_name(client):
    name = "%3Cscript%3Ealert(1)%3C%2Fscript%3E.png"
    found = client.post("/api/photo", content=png(), headers={"x-file-name": name}).json()
    assert found["name"] == "script>.png"  # what follows the last slash
    assert client.post("/api/words", json={"photo": found["key"], "layer": "norm"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:80", "localhost:8124", ""])
def test_other_hosts_are_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", f"https://{HOST}"]
)
def test_other_origins_are_refused(client, key, origin):
    for ask in (
        lambda **o: client.post("/api/about", json={"photo": key}, **o),
        lambda **o: client.get("/api/start", **o),
    ):
        assert ask(headers={"origin": origin}).status_code == 403
        assert ask(headers={"origin": f"http://{HOST}"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_cannot_embed_pictures_but_may_link_here(client, key, site):
    assert client.get(f"/photo/{key}.jpg", headers={"sec-fetch-site": site}).status_code == 403
    linked = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=linked).status_code == 200
    assert client.get("/api/start", headers=linked).status_code == 403


@pytest.mark.parametrize("token", ["", "wrong", "secreT", "sécret".encode()])
def test_posts_need_the_token(client, key, token):
    for name in ("about", "words", "sentence", "maps", "classes", "photo"):
        answer = client.post(f"/api/{name}", json={"photo": key}, headers={"x-torchnle-token": token})
        assert answer.status_code == 403, name


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(client, method):
    assert client.request(method, "/api/about").status_code == 405


def test_too_much_is_refused_before_it_is_read(client):
    assert client.post("/api/words", content=b"x" * (JSON_BYTES + 1)).status_code == 413
    length = {"content-length": str(PHOTO_BYTES + 1)}
    assert client.post("/api/photo", content=b"", headers=length).status_code == 413


@pytest.mark.parametrize("length", [None, "-1", "1e3", "٣"])
def test_the_length_must_be_stated(length):
    from starlette.datastructures import Headers

    raw = [(b"host", HOST.encode()), (b"x-torchnle-token", TOKEN.encode())]
    raw += [] if length is None else [(b"content-length", length.encode("utf-8"))]
    assert refusal("POST", "/api/words", Headers(raw=raw), (HOST,), TOKEN)[0] == 411


BAD = [
    ("words", b"{", 400),
    ("words", b"[" * 50_000, 400),
    ("words", b"\xff\xfe", 400),
    ("words", b"[]", 400),
    ("words", {}, 404),
    ("words", {"photo": ["x"], "layer": "norm"}, 404),
    ("words", {"photo": "KEY", "layer": {"a": 1}}, 404),
    ("words", {"photo": "KEY", "layer": "no such"}, 404),
    ("words", {"photo": "KEY", "layer": "norm", "region": [0, 0, 99, 99]}, 400),
    ("words", {"photo": "KEY", "layer": "norm", "region": "all"}, 400),
    ("words", {"photo": "../../etc/passwd", "layer": "norm"}, 404),
    ("maps", {"photo": "KEY"}, 400),
    ("maps", {"photo": "KEY", "texts": "a cat"}, 400),
    ("maps", {"photo": "KEY", "texts": []}, 400),
    ("maps", {"photo": "KEY", "texts": [" "]}, 400),
    ("maps", {"photo": "KEY", "texts": ["a"] * 9}, 400),
    ("maps", {"photo": "KEY", "texts": ["a" * 201]}, 400),
    ("maps", {"photo": "KEY", "texts": [1]}, 400),
    ("classes", {"photo": "KEY", "off": {"a": 1}}, 400),
    ("photo", b"not a picture", 400),
    ("photo", b"", 400),
    ("photo", b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n", 400),
    ("photo", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400),
    ("photo", png()[:40], 400),
]


@pytest.mark.parametrize(("name", "content", "status"), BAD)
def test_bad_questions_get_a_sentence(client, key, name, content, status):
    if not isinstance(content, bytes):
        content = json.dumps(content).replace("KEY", key).encode()
    answer = client.post(f"/api/{name}", content=content)
    assert answer.status_code == status
    assert 10 < len(answer.json()["error"]) < 400
    assert "Traceback" not in answer.text


def test_a_picture_of_too_many_pixels_is_refused(client, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    answer = client.post("/api/photo", content=png((5, 5)))
    assert answer.status_code == 400
    assert "too large" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/units/../outside.txt", "/units/%2e%2e/outside.txt", "/static/../page.py"])
def test_nothing_outside_the_folders_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code in (403, 404, 405)
    assert "secret" not in answer.text


def test_reports_of_units_are_in_an_origin_of_their_own(client):
    policy = client.get("/units/index.html").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy


def test_a_folder_without_a_report_is_refused(explorer, tmp_path):
    with pytest.raises(ValueError, match=r"index\.html"):
        application(explorer, port=1, units=tmp_path)


def test_a_port_that_is_taken_is_said():
    with free_port() as taken:
        taken.listen()
        with pytest.raises(ValueError, match="--port"):
            free_port(taken.getsockname()[1])


def test_two_sessions_at_once_get_right_answers(client, explorer):
    keys = list(explorer.photos.given)
    requests = [
        (
            name,
            {
                "photo": photo,
                "layer": layer,
                "region": [r, c, r, c],
                "texts": [f"text {r}{c}"],
                "off": [f"off {r}"],
            },
        )
        for photo in keys
        for layer in LAYERS
        for r in range(3)
        for c in range(2)
        for name in ("words", "maps", "classes")
    ]
    alone = [client.post(f"/api/{name}", json=question).json() for name, question in requests]
    with ThreadPoolExecutor(8) as many:
        together = list(many.map(lambda each: client.post(f"/api/{each[0]}", json=each[1]).json(), requests))
    assert together == alone
