import json
import re

import pytest
from explorer_world import make, picture

from torchnle import LanguageAttribution, backbones
from torchnle.cli import main


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A photograph, and the embedded model replaced by a tiny one."""
    (tmp_path / "world").mkdir()
    tiny = make(tmp_path / "world", count=1, decoder=False)
    monkeypatch.setattr(backbones, "load", lambda *_, **__: tiny.backbone)
    monkeypatch.setattr(LanguageAttribution, "from_backbone", lambda *_, **__: tiny.lang)
    return str(picture(tmp_path / "cat.png"))


def test_a_page_is_written_with_every_locations_words(photo, tmp_path, capsys):
    site = tmp_path / "site"
    assert main(["explore", photo, "--decoder", "none", "--export", str(site), "--text", "a cat"]) == 0
    assert f"page: {site / 'index.html'}" in capsys.readouterr().out
    page = (site / "index.html").read_text()
    data = json.loads(re.search(r'id="answers">(.*?)</script>', page, re.DOTALL)[1])
    (found,) = data["photos"].values()
    assert {layer: len(words["cells"]) for layer, words in found["words"].items()} == {"act": 64, "norm": 16}
    assert found["maps"]["texts"] == ["a cat"]
    assert not data["start"]["sentences"]
    assert data["start"]["photos"][0]["name"] == "cat.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export", "{folder}/site"], "no photograph"),
        (["{photo}", "--export", "{photo}"], "cannot write"),
        (["{photo}", "--export", "{folder}/site", "--text", " "], "blank"),
        (["missing.png"], "missing.png"),
        (["{photo}", "--units", "{folder}"], "index.html"),
        (["{photo}", "--port", "70000"], "--port"),
    ],
)
def test_bad_command_lines_say_one_sentence(photo, tmp_path, capsys, arguments, message):
    given = [each.format(photo=photo, folder=tmp_path) for each in arguments]
    assert main(["explore", "--decoder", "none", *given]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
