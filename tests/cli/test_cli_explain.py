import json

import pytest
from fakes import conv_net
from letter_encoder import LetterEncoder
from PIL import Image
from tiny import tiny_lm
from zero_shot_world import NAMES, pictures

from torchnle import LanguageAttribution, backbones
from torchnle.attr.mixins import explain
from torchnle.backbones import Backbone, Preprocess
from torchnle.cli import main


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A photograph, and the embedded models replaced by tiny ones."""
    preprocess = Preprocess(size=8, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    backbone = Backbone(conv_net(), preprocess, tuple(NAMES), "tiny")
    lang = LanguageAttribution.from_classifier(
        backbone.model, NAMES, example=pictures(2), encoder=LetterEncoder()
    )
    lang.preprocess = preprocess
    monkeypatch.setattr(backbones, "load", lambda *_, **__: backbone)
    monkeypatch.setattr(LanguageAttribution, "from_backbone", lambda *_, **__: lang)
    monkeypatch.setattr(explain, "as_language_model", lambda _: tiny_lm())
    Image.effect_noise((12, 12), 80).convert("RGB").save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_a_photograph_is_explained(photo, capsys):
    assert main(["explain", photo, "--concepts", "2"]) == 0
    shown = capsys.readouterr().out
    assert "prediction: " in shown
    assert "because it shows" in shown
    assert "% of other sentences" in shown


def test_json_holds_what_the_lines_say(photo, capsys, tmp_path):
    (tmp_path / "bank.txt").write_text("a bee\nthe sea\n")
    arguments = ["explain", photo, "--json", "--target", "fern", "--bank", str(tmp_path / "bank.txt")]
    assert main(arguments) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["prediction"] == "fern"
    assert {text for text, _ in found["concepts"]} == {"a bee", "the sea"}
    assert found["said"].startswith("prediction: fern because")


def test_colours_are_told_on_request(photo, capsys):
    for more, count in ([], 0), (["--colours"], 3):
        assert main(["explain", photo, "--json", *more]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert len(found["colours"]) == count


@pytest.mark.parametrize(
    ("more", "named"),
    [(["--target", "owl"], "owl"), (["--bank", "none.json"], "none.json"), (["--concepts", "0"], "count=0")],
)
def test_bad_input_is_one_sentence(photo, capsys, more, named):
    assert main(["explain", photo, *more]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error
