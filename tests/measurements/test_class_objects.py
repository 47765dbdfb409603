"""Things that a classifier has classes for: which count, and what names them."""

from __future__ import annotations

import colour_world as world
import pytest

from measurements import class_objects
from torchnle.backbones import imagenet_class_names
from torchnle.data import Cutout, shapes
from torchnle.evaluation import record
from torchnle.evaluation.subject import attach

CLASSES = imagenet_class_names()


def cutouts():
    """A square of each colour that is a class is called by its colour; a black one is no class."""
    squares = shapes(names=["square"], colours=[*world.NAMES, "black"])
    return [Cutout(f"a little {cut.phrase.split()[1]}", cut.image) for cut in squares]


@pytest.fixture(scope="module")
def known():
    backbone = world.backbone()
    lang = attach(backbone, world.ColourTranslator())
    return class_objects.measure(backbone, lang, cutouts(), count=12, scale=(0.9, 1.0), batch_size=5)


def test_who_sees_colours_names_every_thing_of_a_class(known):
    assert known["things"] == {f"a little {name}": [name] for name in world.NAMES}
    for layer in ("fine", "coarse"):
        rates = known["layers"][layer]["class_name"]
        assert rates["local"] == 1
        assert 0 < rates["shuffled"] < 0.6  # four colours, of which some come more than once
        assert known["layers"][layer]["either"] == pytest.approx(rates, nan_ok=True)


def test_the_classifier_stands_beside(known):
    assert 0.5 < known["classifier"] <= 1


def test_batches_do_not_matter(known):
    backbone = world.backbone()
    lang = attach(backbone, world.ColourTranslator())
    again = class_objects.measure(backbone, lang, cutouts(), count=12, scale=(0.9, 1.0), batch_size=12)
    assert record.plain(again) == record.plain(known)


def test_the_page_holds_the_numbers(known):
    text = class_objects.page(known)
    assert "4 phrases of 5 cut-outs have the head noun of a name of one of 4 classes" in text
    whole, shuffled = (known["layers"]["fine"]["class_name"][name] for name in ("whole", "shuffled"))
    assert f"| fine | class name | 1.000 | {whole:.3f} | {shuffled:.3f} |" in text
    assert f"for {known['classifier']:.3f} of the scenes" in text


def test_the_rule_is_the_head_noun_of_any_name():
    phrases = [
        "a cock",
        "a rooster",
        "a small red fox",
        "a fox squirrel",
        "a compost bin",
        "a hen with chicks",
    ]
    found = {
        phrase: [CLASSES[index] for index in indices]
        for phrase, indices in class_objects.classes_of(phrases, CLASSES).items()
    }
    assert found["a cock"] == found["a rooster"] == ["rooster"]  # ImageNet's word, and the clear one
    assert {"red fox", "kit fox", "grey fox"} <= set(found["a small red fox"])
    assert all("fox" in name for name in found["a small red fox"])
    assert found["a fox squirrel"] == ["fox squirrel"]
    assert found["a compost bin"] == ["trash can"]  # "ashcan, trash can, garbage can, wastebin, ash bin"
    assert found["a hen with chicks"] == [
        "hen",
        "American coot",
        "hen of the woods mushroom",
    ]  # a "marsh hen"
    assert class_objects.classes_of(["a door"], ["sliding door", "a doorway"]) == {"a door": [0]}


def test_a_name_is_said_whole_and_in_order():
    texts = ["An Arctic fox, on snow.", "a fox in the Arctic", "a foxglove", ""]
    named = class_objects.says_names(texts, [["white fox", "Arctic fox"], ["fox"]])
    assert named.tolist() == [[True, True], [False, True], [False, False], [False, False]]


def test_synonyms_and_the_own_noun_are_told_apart():
    things = {"a cock": [7], "a fox": class_objects.classes_of(["a fox"], CLASSES)["a fox"]}
    scenes = [_scene(phrase) for phrase in things]
    texts = ["a rooster on grass", "a fox on grass"]
    found = class_objects.naming(texts, texts, scenes, things, CLASSES)
    assert {kind: rates["local"] for kind, rates in found.items()} == {
        "class_name": 0.5,  # no class is called just a fox
        "head_noun": 0.5,
        "either": 1.0,
    }
    assert all(rates["shuffled"] == 0 for rates in found.values())


def test_things_of_no_class_are_refused():
    backbone = world.backbone()
    lang = attach(backbone, world.ColourTranslator())
    with pytest.raises(ValueError, match="none of the 1 cut-outs has the head noun of one of 4 class names"):
        class_objects.measure(backbone, lang, cutouts()[4:])


def _scene(phrase):
    return class_objects.Scenes([Cutout(phrase, cutouts()[0].image)], length=1, objects=(1, 1), size=64)[0]
