"""The grammar: captions to noun phrases, articles, lists and corpora."""

from __future__ import annotations

import pytest

from torchnle.language.english.phrases import (
    corpus,
    head_noun,
    is_plural,
    listing,
    noun_phrase,
    scene_caption,
    with_article,
)


@pytest.mark.parametrize(
    ("caption", "phrase"),
    [
        ("A hen.", "a hen"),
        ("A ripe, red tomato!", "a ripe red tomato"),
        ("An albino peahen (a female peafowl, or peacock).", "an albino peahen"),
        ("A “Granny Smith” apple.", "a Granny Smith apple"),
        ("A knight\u2019s helmet.", "a knight's helmet"),
        ("A Jack-o\u2019-lantern.", "a Jack-o'-lantern"),
        ("A silver garbage can.", "a silver garbage can"),
        ("A wheelie bin! Give me your trash!", "a wheelie bin"),
        ("A stethoscope lets your doctor listen to your heart.", "a stethoscope"),
        ("An inukshuk (or inuksuk), a landmark made of stones. It was used as a milestone.", "an inukshuk"),
        ("Another tombstone.", "a tombstone"),
        ("The caboose\u2014a carriage for the guard.", "the caboose"),
        ("Two wild boars.", "two wild boars"),
        ("Teddy bear.", "a teddy bear"),
        ("red apple", "a red apple"),
        ("Sweet yellow corn.", "sweet yellow corn"),
        ("Magic stones.", "magic stones"),
        ("UK post box", "a UK post box"),
    ],
)
def test_a_caption_gives_its_noun_phrase(caption, phrase):
    assert noun_phrase(caption) == phrase


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "  ",
        ".",
        "A",
        "Excited!",
        "Boom!!!",
        "Fire! Fire! Fire!",
        "Santa Claus.",
        "Enter the cave.",
        "This shell is hundreds of years old!",
        "An important part of Hanukkah is the menorah.",
        "Mercury\u2014the planet closest to the Sun.",
        "Tankers carry bulk liquids.",
        "Grandma\u2019s old rag doll.",
        "A cat that sat on a mat and looked at a rat all day",
    ],
)
def test_a_caption_that_names_no_thing_gives_none(caption):
    assert noun_phrase(caption) is None


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("hour", "an hour"),
        ("house", "a house"),
        ("unicorn", "a unicorn"),
        ("uninteresting box", "an uninteresting box"),
        ("umbrella", "an umbrella"),
        ("European bear", "a European bear"),
        ("one-way sign", "a one-way sign"),
        ("F-22 Raptor", "an F-22 Raptor"),
        ("t shirt", "a t shirt"),
        ("x-ray", "an x-ray"),
        ("SUV", "an SUV"),
        ("a egg", "an egg"),
        ("the town hall", "the town hall"),
        ("some cherries", "some cherries"),
        ("bus", "a bus"),
        ("iris", "an iris"),
        ("mice", "mice"),
        ("closed scissors", "closed scissors"),
        ("a acai", "an acai"),
        ("a orange", "an orange"),
        ("an one-way street", "a one-way street"),
        ("unicycle", "a unicycle"),
        ("an user", "a user"),
        ("usher", "an usher"),
        ("utensil", "a utensil"),
        ("urn", "an urn"),
        ("urinal", "a urinal"),
        ("unidentified bird", "an unidentified bird"),
        ("unanimous vote", "a unanimous vote"),
        ("ukulele", "a ukulele"),
        ("UFO", "a UFO"),
        ("usb stick", "a usb stick"),
        ("onesie", "a onesie"),
        ("onion", "an onion"),
        ("Ouija board", "a Ouija board"),
        ("ewer", "a ewer"),
        ("heirloom", "an heirloom"),
        ("helmet", "a helmet"),
        ("xylophone", "a xylophone"),
        ("Xbox", "an Xbox"),
        ("yacht", "a yacht"),
        ("8-ball", "an 8-ball"),
        ("11-year-old boy", "an 11-year-old boy"),
        ("18-wheeler", "an 18-wheeler"),
        ("180-degree turn", "a 180-degree turn"),
        ("MP3 player", "an MP3 player"),
        ("luggage", "luggage"),
    ],
)
def test_articles(noun, expected):
    assert with_article(noun) == expected
    assert with_article(expected) == expected


def test_blank_nouns_are_refused():
    with pytest.raises(ValueError, match="blank"):
        with_article("  ")
    with pytest.raises(ValueError, match="no phrases"):
        listing([])


def test_the_head_is_what_the_phrase_is_about():
    heads = {
        "a glass of water": "glass",
        "a bunch of grapes": "grapes",
        "a head of red lettuce": "lettuce",
        "a castle in ruins": "castle",
        "a spider playing computer games": "spider",
        "the house of the hunter": "house",
        "hen": "hen",
    }
    assert {phrase: head_noun(phrase) for phrase in heads} == heads
    assert is_plural("two city houses")
    assert not is_plural("a pair of pants")


def test_captions_list_their_objects_and_place():
    assert scene_caption(["a hen"]) == "a hen"
    assert scene_caption(["a hen", "an owl", "a fox"], "on grass") == "a hen, an owl and a fox on grass"


def test_a_corpus_holds_every_phrase_at_every_place_and_the_lists_asked_for():
    phrases, scenes = ["a hen", "an owl", "a fox", "a hen"], ["on grass", "on gravel"]
    texts = corpus(phrases, scenes, lists=6, seed=1)
    assert texts[:3] == ["a hen", "an owl", "a fox"]
    assert {f"{phrase} {scene}" for phrase in phrases for scene in scenes} <= set(texts)
    lists = texts[9:]
    assert all(" and " in text for text in lists)
    assert len(texts) == len(set(texts))
    assert texts == corpus(phrases, scenes, lists=6, seed=1) != corpus(phrases, scenes, lists=6, seed=2)
    with pytest.raises(ValueError, match="from 1"):
        corpus(["a hen"], lists=1)
