"""Noun phrases of captions: forty like MS-COCO's, with what a person would cut out of them."""

from __future__ import annotations

import re
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest

from torchnle.backbones import imagenet_class_names
from torchnle.data.cutouts import NOT_THINGS
from torchnle.errors import MissingDependencyError
from torchnle.language.english import captions
from torchnle.language.english.caption_words import UNIQUE
from torchnle.language.english.captions import phrases_of
from torchnle.language.english.phrases import HEAD_ENDS, noun_phrase, with_article

STAMPS = Path("/usr/share/tuxpaint/stamps")

CAPTIONS = {
    "A red car and a dog in front of a beach": "a red car | a dog | a beach",
    "A man riding a wave on top of a surfboard.": "a man | a wave | a surfboard",
    "Two giraffes standing next to each other in a field.": "two giraffes | a field",
    "A bathroom with a toilet, sink, and shower curtain.": (
        "a bathroom | a toilet | a sink | a shower curtain"
    ),
    "A close up of a plate of food with broccoli.": "a plate of food | broccoli",
    "Three people skiing down a snow covered slope.": "three people | a snow covered slope",
    "A black and white photo of an old train.": "an old train",
    "The cat's tail is on a laptop keyboard.": "a cat's tail | a laptop keyboard",
    "A group of people playing frisbee in the park.": "a group of people | a frisbee | a park",
    "A person rides a skateboard down the street.": "a person | a skateboard | a street",
    "Several people fly kites on the beach.": "people | kites | a beach",
    "A little girl is holding an umbrella in the rain.": "a little girl | an umbrella | rain",
    "The kitchen has a stove, a refrigerator and wooden cabinets.": (
        "a kitchen | a stove | a refrigerator | wooden cabinets"
    ),
    "A stop sign at the corner of a busy intersection.": "a stop sign | a busy intersection",
    "A man in a blue shirt and tie looks at his phone.": "a man | a blue shirt | a tie | a phone",
    "An orange cat sleeping on a couch.": "an orange cat | a couch",
    "A glass of wine and a slice of pizza on a wooden table.": (
        "a glass of wine | a slice of pizza | a wooden table"
    ),
    "A herd of elephants walking across a dry grass field.": "a herd of elephants | a dry grass field",
    "A train is coming down the tracks near a building.": "a train | tracks | a building",
    "A woman playing tennis on a tennis court.": "a woman | tennis | a tennis court",
    "A dog catches a frisbee in its mouth.": "a dog | a frisbee | a mouth",
    "A large jetliner flying through a cloudy blue sky.": "a large jetliner | a cloudy blue sky",
    "A bunch of bananas hanging from a tree.": "a bunch of bananas | a tree",
    "A baseball player swings his bat at the ball.": "a baseball player | a bat | a ball",
    "There is a clock on the side of the tower.": "a clock | a tower",
    "A fire hydrant sitting on the side of a road.": "a fire hydrant | a road",
    "Some vases with flowers in them on a shelf.": "vases | flowers | a shelf",
    "A teddy bear sits in a chair.": "a teddy bear | a chair",
    "A young boy brushing his teeth with a toothbrush.": "a young boy | teeth | a toothbrush",
    "A city street filled with lots of traffic.": "a city street | traffic",
    "The bus is parked next to the sidewalk.": "a bus | a sidewalk",
    "A desk with a computer monitor, keyboard and mouse.": (
        "a desk | a computer monitor | a keyboard | a mouse"
    ),
    "A parking meter on a city sidewalk at night.": "a parking meter | a city sidewalk",
    "A hotel swimming pool under the sky": "a hotel swimming pool | the sky",
    "A garbage can beside two blue benches": "a garbage can | two blue benches",
    "A man wearing a suit cuts a birthday cake.": "a man | a suit | a birthday cake",
    "Zebras graze in the wild.": "zebras",
    "He is very happy.": "",
    "Running fast!": "",
    "A very tall giraffe eats leaves from the top of a tree.": "a very tall giraffe | leaves | a tree",
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_the_phrases_of_a_caption(caption):
    assert " | ".join(phrases_of(caption)) == CAPTIONS[caption]


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("", ()),
        (" ... !", ()),
        ("the sun", ("the sun",)),
        ("a dog and a dog", ("a dog",)),
        ("one dog, 2 cats; two cats", ("a dog", "two cats")),
        ("a cup of the tea", ("a cup of tea",)),
        ("a glass of ice-cold water on grass", ("a glass of ice-cold water", "grass")),
        ("a bird of paradise", ("a bird of paradise",)),
        ("the wing of an airplane", ("a wing", "an airplane")),
        ("an orange and a key", ("an orange", "a key")),
        ("a yellow and black bird", ("a yellow and black bird",)),
        ("A couple of dogs that are lying on the ground.", ("a couple of dogs", "the ground")),
        ("A UK post box", ("a uk post box",)),
        ("a jack-o\u2019-lantern", ("a jack-o'-lantern",)),
        ("a damselfly on a xylophone", ("a damselfly", "a xylophone")),
        ("An upright piano in a well lit room", ("an upright piano", "a well lit room")),
        ("a dry erase board in a room", ("a dry erase board", "a room")),
        ("a wishing well and a man waving", ("a wishing well", "a man")),
        ("a toy from Germany and a turkey", ("a toy", "germany", "a turkey")),
        ("a man playing frisbee in a frisbee park", ("a man", "a frisbee", "a frisbee park")),
    ],
)
def test_other_captions(caption, phrases):
    assert phrases_of(caption) == phrases


def _shared(name):
    """A name as captions share it: lower case, with the article that the noun takes."""
    article, _, rest = name.lower().partition(" ")
    if article == "some" or rest in UNIQUE:
        return rest if article == "some" else f"the {rest}"
    return with_article(f"a {rest}") if article in ("a", "an", "the") else name.lower()


def _lost(names):
    """The names that do not come back whole from "X and Y" or "Y and X"."""
    others = [names[(7 * index + 3) % len(names)] for index in range(len(names))]
    pairs = list(zip(names, others, strict=True))
    return sorted(
        {x for x, y in pairs for a, b in ((x, y), (y, x)) if _shared(x) not in phrases_of(f"{a} and {b}")}
    )


def test_the_names_of_single_classes_come_back_whole():
    short = [name.partition(" (")[0] for name in imagenet_class_names()]
    plain = [with_article(name) for name in short if re.fullmatch("[A-Za-z -]+", name)]
    names = [name for name in plain if not {"of", "or", "and"} & set(name.split())]
    assert len(names) > 950
    assert len(_lost(names)) <= 0.015 * len(names)


@pytest.mark.skipif(not STAMPS.is_dir(), reason="needs Tux Paint's stamps")
def test_the_phrases_of_composed_scenes_come_back_whole():
    files = [path for path in sorted(STAMPS.rglob("*.txt")) if path.with_suffix(".png").is_file()]
    kept = [path for path in files if not any(fnmatch(path.with_suffix(".png"), each) for each in NOT_THINGS)]
    notes = [path.read_text("utf-8", "replace") for path in kept]
    phrases = {noun_phrase(note.splitlines()[0]) for note in notes if note.strip()} - {None}
    names = sorted(phrase for phrase in phrases if not HEAD_ENDS & set(phrase.split()))
    assert len(names) > 350
    assert len(_lost(names)) <= 0.01 * len(names)


def test_a_million_captions_stream(capsys):
    start = time.process_time()
    count = sum(len(phrases_of(caption)) for caption in list(CAPTIONS) * 20)
    per_second = 20 * len(CAPTIONS) / (time.process_time() - start)
    assert count == 20 * sum(bool(p) for text in CAPTIONS.values() for p in text.split(" | "))
    assert per_second > 500  # 8,000 a second, unless types are checked at run time as here


def test_the_extra_is_named_where_the_tagger_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "textblob.en", None)
    captions._tagger.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"torchnle\[train\]"):
        phrases_of("a dog")
    captions._tagger.cache_clear()
