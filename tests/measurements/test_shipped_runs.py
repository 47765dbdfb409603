"""The runs that make what is shipped, end to end, on models and sources of a few thousand numbers."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from fakes import conv_net
from letter_encoder import LetterEncoder
from tiny import make_encoder_parts, tiny_lm

from measurements import scenes_map
from measurements.__main__ import main as measure
from torchnle import backbones, hub
from torchnle.backbones import Backbone, Preprocess
from torchnle.cli import main
from torchnle.data import load_cutouts, shapes
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder import run as text_decoder_run
from torchnle.methods.aligned.decoder.training import Recipe
from torchnle.methods.aligned.translator import MapTranslator

INDEX = "hen n 1 1 @ 1 1 00000010\ngravel n 1 1 @ 1 1 00000020\n"
DATA = """00000010 05 n 01 hen 0 000 | adult female chicken; "a brown hen"
00000020 27 n 01 gravel 0 000 | rock fragments and pebbles
"""
RECIPE = Recipe(
    steps=3,
    word_steps=2,
    batch_size=4,
    word_batch_size=8,
    hidden=16,
    prefix_length=2,
    prompt="the",
    log_every=1,
)


@pytest.fixture(scope="module")
def stamps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stamps")
    for number, cutout in enumerate(shapes()[:11]):
        cutout.image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(cutout.phrase.capitalize() + ".")
    return folder


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    (tmp_path / "index.noun").write_text(INDEX)
    (tmp_path / "data.noun").write_text(DATA)
    monkeypatch.setitem(sys.modules, "wordfreq", SimpleNamespace(zipf_frequency=lambda word, language: 5.0))
    return tmp_path


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    lm = tiny_lm("llama")
    lm.reference = "tiny"
    encoder = TextEncoder(*make_encoder_parts(), reference="tiny")
    encoder.tokenizer.model_max_length = 64
    loads = {"an-lm": lm, hub.SMOLLM2: lm, "an-encoder": encoder, hub.MINILM: encoder}
    monkeypatch.setattr(text_decoder_run.LanguageModel, "from_pretrained", lambda name: loads[name])
    monkeypatch.setattr(text_decoder_run, "TextEncoder", SimpleNamespace(from_pretrained=loads.get))
    monkeypatch.setattr(
        "torchnle.attr.construction.frozen.TextEncoder.from_pretrained", lambda *_: LetterEncoder()
    )
    preprocess = Preprocess(size=32, mean=127.0, std=128.0, fit="crop")
    names = {"named": ("an ox", "an elk", "a yak", "a gnu", "an auk")}
    models = {name: Backbone(conv_net(), preprocess, names.get(name, ()), name) for name in ("tiny", "named")}
    monkeypatch.setattr(backbones, "load", lambda name: models.get(name, models["tiny"]))


@pytest.mark.filterwarnings("ignore:.*longer|.*tokens")
def test_a_decoder_is_trained_measured_and_saved_with_its_card(tmp_path, wordnet, stamps, monkeypatch):
    sources = {"wordnet": wordnet, "stamps": stamps, "encoder": "an-encoder", "language_model": "an-lm"}
    found = text_decoder_run.train_text_decoder(
        tmp_path / "run", RECIPE, **sources, count=300, progress=False
    )
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(5))
    assert found["known"]["phrases"] == 1000
    assert found["known"]["exact"] == 1 - len(found["known"]["others"]) / 1000
    assert [row["noise"] for row in found["by_noise"]] == [0.0, 0.3, 0.5, 0.7]
    card = json.loads((tmp_path / "run" / "decoder" / "config.json").read_text())["card"]
    assert json.loads(card["recipe"])["steps"] == 3
    assert "held out by their hash" in card["data"]
    assert (tmp_path / "run" / "decoder" / "README.md").is_file()


def test_an_aligned_translator_is_fitted_to_scenes_and_read_back(tmp_path, stamps, monkeypatch, capsys):
    folder = str(tmp_path / "aligned")
    given = ["--layer", "layer", "--layer", "pool:input", "--stamps", str(stamps), "--scenes", "40"]
    assert measure(["scenes-map", "--output", folder, *given]) == 0
    assert folder in capsys.readouterr().out
    monkeypatch.setattr(
        "torchnle.methods.aligned.translator.TextEncoder.from_pretrained", lambda reference: LetterEncoder()
    )
    loaded = MapTranslator.from_pretrained(folder)
    assert loaded.layers == ("layer", "pool:input")
    assert set(loaded.phrases) >= {cutout.phrase for cutout in shapes()[:11]}
    assert "40 composed scenes (seed 0" in loaded.card["data"]


def test_cut_outs_can_be_held_out(tmp_path, stamps, monkeypatch):
    given = {"model": "tiny", "layers": ["layer"], "stamps": stamps, "part": "train", "count": 20}
    fitted = scenes_map.fit_to_scenes(tmp_path / "out", **given)
    kept, held = ({c.phrase for c in shapes()[:11].split(part)} for part in ("train", "test"))
    assert set(fitted.phrases) >= kept
    assert held
    assert not held & set(fitted.phrases)
    assert "--part train" in fitted.card["recipe"]


def test_what_the_classifier_knows_is_added(tmp_path, stamps, monkeypatch):
    given = {"layers": ["layer", "norm"], "stamps": stamps, "count": 40, "classes": True}
    fitted = scenes_map.fit_to_scenes(tmp_path / "out", model="named", **given)
    assert set(fitted.phrases) >= {cut.phrase for cut in shapes()[:11]}
    assert fitted.class_names == backbones.load("named").class_names
    assert "--classes" in fitted.card["recipe"]
    assert "a class" in fitted.card["cannot"]
    with pytest.raises(ValueError, match=r"'tiny' has no class names; .*no --classes"):
        scenes_map.fit_to_scenes(tmp_path / "out", model="tiny", **given)


def test_the_command_passes_on_only_what_was_given(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        text_decoder_run,
        "train_text_decoder",
        lambda output, recipe, **rest: given.update(rest, recipe=recipe),
    )
    pair = ["--encoder", "an-encoder", "--language-model", "an-lm"]
    assert main(["train", "text-decoder", "--output", str(tmp_path), "--steps", "7", *pair, "--quiet"]) == 0
    assert given.pop("recipe") == Recipe(steps=7)
    assert given == {"encoder": "an-encoder", "language_model": "an-lm", "progress": False}
    given.clear()
    changed = ["--learning-rate", "1e-4", "--warmup", "3", "--noise", "0.5", "--known", "0.5"]
    more = ["--start", "a-decoder", "--most", "9", "--word-steps", "0"]
    assert main(["train", "text-decoder", "--output", str(tmp_path), *changed, *more]) == 0
    expected = Recipe(word_steps=0, learning_rate=1e-4, warmup=3, noise=0.5, known=0.5)
    assert given.pop("recipe") == expected
    assert given == {"start": "a-decoder", "most": 9, "progress": True}


@pytest.mark.filterwarnings("ignore:.*longer|.*tokens")
def test_a_decoder_is_trained_further_on_few_texts(tmp_path, wordnet, stamps):
    sources = {"wordnet": wordnet, "stamps": stamps, "encoder": "an-encoder", "language_model": "an-lm"}
    given = {**sources, "count": 300, "progress": False}
    text_decoder_run.train_text_decoder(tmp_path / "run", RECIPE, **given)
    start = str(tmp_path / "run" / "decoder")
    found = text_decoder_run.train_text_decoder(tmp_path / "more", RECIPE, start=start, most=3, **given)
    assert found["known"]["phrases"] == 1000
    card = json.loads((tmp_path / "more" / "decoder" / "config.json").read_text())["card"]
    texts = int(card["data"].split()[0])
    assert 1000 < texts <= 3 + 1000 + len(load_cutouts(stamps).phrases)


def test_without_wordnet_the_message_names_the_files(tmp_path, stamps, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wordfreq", SimpleNamespace(zipf_frequency=lambda word, language: 5.0))
    given = ["--wordnet", str(tmp_path), "--stamps", str(stamps)]
    assert main(["train", "text-decoder", "--output", str(tmp_path / "run"), *given]) == 2
    assert "data.noun" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
