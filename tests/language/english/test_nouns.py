"""Nouns: WordNet's hierarchy as a table, the nouns of phrases, and the senses of class names."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from torchnle.backbones import imagenet_class_names
from torchnle.language.english.nouns import Nouns
from torchnle.language.english.wordnet.table import FILE

WORDNET = Path("/usr/share/wordnet")
COUNT = 82115


@pytest.fixture(scope="module")
def nouns():
    return Nouns.load()


def first_words(nouns, synsets):
    return [nouns.words(synset)[0] for synset in synsets]


def test_the_table_is_small_and_read_once_and_quickly(nouns):
    assert FILE.stat().st_size < 1.5e6
    assert (FILE.parent / "LICENSE").read_text().startswith("This software and database is being provided")
    assert Nouns.load() is nouns
    assert len(nouns) == COUNT
    start = time.process_time()
    Nouns()
    assert time.process_time() - start < 1  # 0.1 s on a laptop


@pytest.mark.skipif(not WORDNET.exists(), reason="Debian's wordnet-base is not installed")
def test_it_holds_what_wordnet_s_own_files_hold(nouns):
    lines = [line for line in (WORDNET / "data.noun").read_text().splitlines() if line[0] != " "]
    row = {line[:8]: index for index, line in enumerate(lines)}
    for index in range(0, COUNT, 7):
        fields = lines[index].split("|")[0].split()
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        assert nouns.words(index) == tuple(word.replace("_", " ") for word in words)
        parents = re.findall(r"@i? (\d{8}) n", lines[index].split("|")[0])
        assert nouns.parents(index) == tuple(row[offset] for offset in parents)
        assert nouns.of_wnid(f"n{lines[index][:8]}") == index
    for line in (WORDNET / "index.noun").read_text().splitlines()[29::11]:
        fields = line.split()
        senses = tuple(row[offset] for offset in fields[-int(fields[2]) :])
        assert nouns.senses(fields[0].replace("_", " ")) == senses


def test_ancestors_kinds_and_closure_against_slow_walks(nouns):
    some = list(range(0, COUNT, 4001)) + list(nouns.senses("dog"))
    for synset in some:
        reached, todo = set(), [synset]
        while todo:
            node = todo.pop()
            reached.add(node)
            todo += nouns.parents(node)
        assert nouns.ancestors(synset) == reached
    children = defaultdict(list)
    for synset in range(COUNT):
        for parent in nouns.parents(synset):
            children[parent].append(synset)
    for synset in [*nouns.senses("dog"), nouns.senses("entity")[0]]:
        below, todo = set(), [synset]
        while todo:
            node = todo.pop()
            below.add(node)
            todo += children[node]
        assert nouns.kinds(synset) == len(below)
    assert nouns.kinds(nouns.senses("entity")[0]) == COUNT
    nodes, member = nouns.closure(some)
    assert nodes.tolist() == sorted(set().union(*map(nouns.ancestors, some)))
    assert member.shape == (len(some), len(nodes))
    for row, synset in zip(member, some, strict=True):
        assert set(nodes[row].tolist()) == nouns.ancestors(synset)
    shares = torch.rand(len(some))
    summed = dict(zip(nodes.tolist(), (shares @ member.float()).tolist(), strict=True))
    canine = nouns.senses("canine")[1]
    assert summed[canine] == pytest.approx(
        sum(p for p, s in zip(shares.tolist(), some, strict=True) if canine in nouns.ancestors(s))
    )
    nothing, none = nouns.closure([])
    assert nothing.shape == (0,)
    assert none.shape == (0, 0)


def test_an_instance_lies_below_what_it_is_one_of(nouns):
    assert nouns.senses("tower")[0] in nouns.ancestors(nouns.senses("Eiffel Tower")[0])


def test_words_are_looked_up_in_any_case_and_number(nouns):
    for one, other in [
        ("DOG", "dog"),
        ("dogs", "dog"),
        ("churches", "church"),
        ("boxes", "box"),
        ("berries", "berry"),
        ("children", "child"),
        ("geese", "goose"),
        ("firemen", "fireman"),
        ("hot_dog", "hot dog"),
        ("ice-creams", "ice cream"),
        ("tee-shirt", "tee shirt"),
        ("Shih Tzu", "shih-tzu"),
    ]:
        assert nouns.senses(one) == nouns.senses(other) != ()
    assert nouns.senses("glasses") != nouns.senses("glass")
    assert nouns.senses("gas") != nouns.senses("ga")
    assert nouns.senses("qwert") == nouns.senses("") == nouns.senses("grass ss") == ()


def test_what_people_say(nouns):
    names = {
        word: nouns.common_name(nouns.senses(word)[0]) for word in ("puppy", "automobile", "tabby", "equine")
    }
    assert names == {"puppy": "puppy", "automobile": "car", "tabby": None, "equine": None}
    assert [nouns.common_name(nouns.imagenet_1k()[index]) for index in (9, 11, 134)] == [
        None
    ] * 3  # Struthio camelus
    assert nouns.common_name(nouns.common_senses("crane")[0]) == "crane"
    assert {
        word: nouns.common_name(nouns.senses(word)[0]) for word in ("spermatophyte", "viverrine", "bird")
    } == {
        "spermatophyte": "seed plant",
        "viverrine": None,
        "bird": "bird",
    }


def test_the_most_special_common_ancestors(nouns):
    def common(*words):
        return first_words(nouns, nouns.most_special_common([nouns.common_senses(w)[0] for w in words]))

    assert common("dog") == ["dog"]
    assert common("dog", "wolf") == ["canine"]
    assert common("dog", "puppy") == ["dog"]
    assert common("dog", "cat", "horse") == ["placental"]
    assert common("car", "dog") == ["whole"]
    with pytest.raises(ValueError, match="no synsets"):
        nouns.most_special_common([])


@pytest.mark.parametrize(
    ("phrase", "noun"),
    [
        ("a red car on a street", "car"),
        ("the two dogs", "dog"),
        ("a glass of wine", "glass"),
        ("a bird of paradise in a tree", "bird of paradise"),
        ("a chest of drawers", "chest of drawers"),
        ("a cup of tea", "cup"),
        ("a slice of pizza", "pizza"),
        ("a bunch of bananas", "banana"),
        ("a pair of old scissors", "scissors"),
        ("a man with a dog", "man"),
        ("a dog wearing a hat", "dog"),
        ("a girl in a pink dress", "girl"),
        ("a great white shark", "great white shark"),
        ("some fire trucks", "fire engine"),
        ("a crane", "crane"),
        ("a jay", "jay"),
        ("an orange", "orange"),
        ("a polar bear (on ice)", "ice bear"),
        ("A kite!", "kite"),
        ("a cat's tail", "tail"),
        ("mice", "mouse"),
        ("a bowl of soup and a fork", "bowl"),
    ],
)
def test_the_noun_of_a_phrase(nouns, phrase, noun):
    assert nouns.words(nouns.of_phrase(phrase))[0] == noun


def test_phrases_without_a_known_noun(nouns):
    assert [nouns.of_phrase(phrase) for phrase in ("", "qwert", "of", "...")] == [None] * 4


def test_imagenet_s_classes_are_in_the_order_of_a_head(nouns):
    synsets = nouns.imagenet_1k()
    assert len(synsets) == len(set(synsets)) == 1000
    assert synsets[0] == nouns.of_wnid("n01440764")
    tops = {0: "fish", 134: "bird", 517: "device", 263: "dog", 639: "garment"}
    for index, top in tops.items():
        assert nouns.senses(top)[0] in nouns.ancestors(synsets[index]), index
    assert "Cardigan" in nouns.words(synsets[264])
    with pytest.raises(ValueError, match="n00000001"):
        nouns.of_wnid("n00000001")
    with pytest.raises(ValueError, match="dog"):
        nouns.of_wnid("dog")


def test_class_names_are_read_beside_the_others(nouns):
    names, true = imagenet_class_names(), nouns.imagenet_1k()
    whole = [nouns.senses(name)[:1] == (synset,) for name, synset in zip(names, true, strict=True)]
    plain = [nouns.of_phrase(name) == synset for name, synset in zip(names, true, strict=True)]
    read = [a == b for a, b in zip(nouns.of_class_names(names), true, strict=True)]
    assert [sum(whole), sum(plain), sum(read)] == [696, 735, 822]
    kite = names[21]
    assert nouns.of_class_name(kite, ["dog", "car"]) == true[21]
    assert nouns.of_class_name("crane", ["forklift", "tractor", "truck"]) == true[517]
    assert nouns.of_class_name("crane", ["heron", "stork", "flamingo"]) == true[134]
    assert nouns.of_class_name("Boxer", ["beagle", "pug", "collie"]) == true[242]
    assert nouns.of_class_name("dog") == nouns.senses("dog")[0]
    assert nouns.of_class_name("qwert", ["dog"]) is None
    assert nouns.of_class_names([]) == ()
