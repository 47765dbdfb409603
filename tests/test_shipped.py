"""What is shipped in the package: small, with a card, and as good as its card says."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import pytest
import torch

import torchnle
from measurements import commands
from torchnle import LanguageAttribution, backbones, images
from torchnle.evaluation.photographs import Judge
from torchnle.evaluation.pictures import find_photographs
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.quality import decoding_quality
from torchnle.methods.aligned.decoder.text_decoder import DECODER, TextDecoder

SHIPPED = Path(torchnle.__file__).parent / "translators" / "shipped"
ALIGNED = "aligned-efficientnet-lite0-scenes"
DEVIL = "devil-efficientnet-lite0-scenes"
TEXTS = ["a hen on grass", "a red fire engine", "a teapot and a spoon", "a small dog", "a castle", "an owl"]

#: What counts as naming the main object, written down before the first run.
NAMES = {
    "chelsea": frozenset(["cat", "kitten", "tabby", "kitty", "feline"]),
    "coffee": frozenset(["coffee", "espresso", "cappuccino", "cup", "mug"]),
    "rocket": frozenset(["rocket", "missile", "spacecraft", "spaceship", "shuttle", "launch"]),
    "motorcycle_left": frozenset(["motorcycle", "motorbike", "moped", "scooter", "bike"]),
    "flower": frozenset(["flower", "flowers", "blossom", "daisy", "dahlia", "petal", "petals", "bloom"]),
    "china": frozenset(
        ["palace", "temple", "pagoda", "building", "monastery", "tower", "castle", "shrine", "house"]
    ),
}


def named(lang, preprocess):
    """Judge each photograph's words: of their list, or a more general noun that is not too general."""
    found, judge = {}, Judge()
    for name, path in find_photographs().items():
        descriptions = lang.describe(preprocess(images.open_image(path))[None])
        (description,) = descriptions[-1] if isinstance(descriptions[0], list) else descriptions
        if judge(description.text, sorted(NAMES[name])).useful > 0.5:
            found[name] = description.text
    return found


@pytest.mark.parametrize(("name", "most"), [(DECODER, 12e6), (ALIGNED, 15e6), (DEVIL, 3e6)])
def test_it_is_small_and_says_where_it_comes_from(name, most):
    folder = SHIPPED / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= most
    card = json.loads((folder / "config.json").read_text())["card"]
    assert {"license", "data", "recipe", "training time", "cannot"} <= set(card)
    assert "seed" in card["recipe"]
    assert card["data"][:60] in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", [DECODER, ALIGNED])
def test_a_command_that_a_card_names_exists(name):
    folder = SHIPPED / name
    recipe = json.loads((folder / "config.json").read_text())["card"]["recipe"]
    assert not recipe.startswith("torchnle train")
    if recipe.startswith("python -m measurements "):
        parser = argparse.ArgumentParser()
        commands.add(parser.add_subparsers())
        given = parser.parse_args([*shlex.split(recipe)[3:], "--output", "FOLDER"])
        assert (given.model, given.count, given.seed, given.classes) == ("efficientnet-lite0", 4000, 0, True)
        assert recipe in (folder / "README.md").read_text()


@pytest.fixture(scope="module")
def decoder():
    return TextDecoder.from_pretrained()


@pytest.fixture(scope="module")
def backbone():
    return backbones.load()


@pytest.mark.real
def test_the_decoder_says_what_it_is_given(decoder):
    (row,) = decoding_quality(decoder, TextEncoder.from_pretrained(), TEXTS, noises=(0.0,))["by_noise"]
    assert row["cosine"] >= 0.85
    assert row["head_noun"] >= 0.8


@pytest.mark.real
def test_photographs_are_named_from_class_names_alone(backbone):
    lang = LanguageAttribution.from_classifier(backbone.model, backbone.class_names)
    assert len(found := named(lang, backbone.preprocess)) >= 5, found


@pytest.mark.real
def test_the_shipped_map_names_photographs_that_are_no_scenes(backbone):
    lang = LanguageAttribution.from_pretrained(backbone.model, ALIGNED, "_avg_pooling:input")
    assert len(found := named(lang, backbone.preprocess)) >= 5, found


@pytest.mark.real
def test_the_shipped_map_speaks_at_every_layer_and_saves_the_same(backbone, tmp_path):
    lang = LanguageAttribution.from_pretrained(backbone.model, ALIGNED)
    x = backbone.preprocess(images.open_image(find_photographs()["chelsea"]))[None]
    descriptions = lang.describe(x)
    assert [d[0].layer for d in descriptions] == ["_blocks.4", "_blocks.10", "_avg_pooling:input"]
    assert all(d[0].text for d in descriptions)
    maps = lang.saliency(x, ["a cat", "a hammer"])
    assert [m.shape for m in maps] == [(1, 2, 224, 224)] * 3
    lang.translator.save_pretrained(tmp_path / "again")
    again = LanguageAttribution.from_pretrained(backbone.model, str(tmp_path / "again"))
    torch.testing.assert_close(again.saliency(x, ["a cat", "a hammer"]), maps)


@pytest.mark.real
@pytest.mark.parametrize("fitted", ["class names", "shipped"])
def test_pictures_of_nothing_are_unsure(backbone, fitted):
    drawn = torch.Generator().manual_seed(7)
    noise = torch.randn(8, 3, 224, 224, generator=drawn)
    uniform = torch.rand(6, 3, 224, 224, generator=drawn) * 2 - 1
    constant = (torch.rand(6, 3, 1, 1, generator=drawn) * 2 - 1).expand(-1, -1, 224, 224)
    if fitted == "shipped":
        lang = LanguageAttribution.from_pretrained(backbone.model, ALIGNED, "_avg_pooling:input")
    else:
        lang = LanguageAttribution.from_backbone(backbone)
    descriptions = lang.describe(torch.cat([noise, uniform, constant]))
    assert sum(description.unsure for description in descriptions) >= 19


@pytest.mark.real
def test_the_shipped_devil_says_sentences_and_ranks_texts_as_the_map_does(backbone):
    layer = "_avg_pooling:input"
    devil = LanguageAttribution.from_pretrained(backbone.model, DEVIL, layer)
    pictures = {name: images.open_image(path) for name, path in find_photographs().items()}
    assert len(found := named(devil, backbone.preprocess)) >= 5, found
    x = torch.stack([backbone.preprocess(pictures[name]) for name in ("chelsea", "coffee")])
    texts = ["a cat", "a cup of coffee", "a rocket", "a motorcycle"]
    first = devil.saliency(x, texts).flatten(2).mean(dim=2).argmax(dim=1)
    assert first.tolist() == [0, 1]
