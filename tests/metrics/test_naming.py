"""Local naming by hand, and the words of descriptions."""

from __future__ import annotations

import math
import random
import sys

import pytest
import torch
from letter_encoder import LetterEncoder

from torchnle.errors import MissingDependencyError
from torchnle.metrics import Vocabulary, naming_rates, nearest_phrases, says_nouns, vocabulary


def test_nouns_are_said_word_for_word():
    texts = ["A compost bin!", "two bins", "a post box, a hen", ""]
    named = says_nouns(texts, ["bin", "box", "post box", "hen's"])
    assert named.tolist() == [
        [True, False, False, False],
        [False, False, False, False],
        [False, True, True, False],
        [False, False, False, False],
    ]


def test_the_nearest_phrase_is_the_slow_one():
    encoder = LetterEncoder()
    texts, phrases = ["the hens", "", "an old owl", "the hens"], ["a hen", "an owl", "a fox"]
    found = nearest_phrases(texts, phrases, encoder.encode)
    for text, row in zip(texts, found, strict=True):
        if not text:
            assert not row.any()
            continue
        cosines = [(encoder.encode([text])[0] @ encoder.encode([p])[0]).item() for p in phrases]
        assert row.tolist() == [c == max(cosines) for c in cosines]
    assert found.sum(dim=1).tolist() == [1, 0, 1, 1]


def test_rates_are_the_slow_rates():
    source = random.Random(3)
    named = torch.tensor([[source.random() < 0.4 for _ in range(5)] for _ in range(9)])
    truth = [source.randrange(5) for _ in range(9)]
    scenes = [0, 0, 1, 2, 2, 2, 3, 4, 4]
    same = [(i, j) for i in range(9) for j in range(9) if i != j and scenes[i] == scenes[j]]
    other = [(i, j) for i in range(9) for j in range(9) if scenes[i] != scenes[j]]

    def share(pairs):
        return sum(bool(named[i, truth[j]]) for i, j in pairs) / len(pairs)

    expected = {
        "local": share([(i, i) for i in range(9)]),
        "elsewhere": share(same),
        "shuffled": share(other),
    }
    assert naming_rates(named, truth, scenes) == pytest.approx(expected)
    order = [4, 0, 8, 2, 6, 1, 3, 7, 5]
    turned = naming_rates(named[order], [truth[i] for i in order], [scenes[i] for i in order])
    assert turned == pytest.approx(expected)


def test_scenes_of_one_object_have_nothing_elsewhere():
    rates = naming_rates(torch.eye(2, dtype=torch.bool), truth=[0, 1], scenes=[0, 1])
    assert (rates["local"], rates["shuffled"]) == (1, 0)
    assert math.isnan(rates["elsewhere"])


def test_bad_inputs_are_refused():
    encode = LetterEncoder().encode
    for call in (lambda t, p: says_nouns(t, p), lambda t, p: nearest_phrases(t, p, encode)):
        for texts, phrases in ([], ["hen"]), (["hen"], []):
            with pytest.raises(ValueError, match="at least one"):
                call(texts, phrases)
        with pytest.raises(TypeError, match="lists of texts"):
            call("a hen", ["hen"])
    with pytest.raises(ValueError, match="hold no word"):
        says_nouns(["a hen"], ["hen", "!"])
    with pytest.raises(ValueError, match="duplicates"):
        nearest_phrases(["a hen"], ["a hen", "a hen"], encode)
    named = torch.eye(2, dtype=torch.bool)
    for truth, scenes in ([0], [0, 1]), ([0, 1], [0]), ([0, 1], [0, 0]):
        with pytest.raises(ValueError, match="two scenes or more"):
            naming_rates(named, truth, scenes)


def test_vocabulary_counts_kinds_of_words():
    texts = ["a red hen sits on green grass", "The crowd was filled with people who were enjoying the event!"]
    found = vocabulary(texts)
    assert found == Vocabulary(2 / 18, 5 / 18, 17, 18)  # was filled, were enjoying, sits; "the" comes twice
    assert vocabulary([*texts, ""]) == found
    with pytest.raises(ValueError, match="no word"):
        vocabulary(["", "!"])


def test_a_missing_tagger_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "textblob.en", None)
    with pytest.raises(MissingDependencyError, match=r"'textblob' .* 'torchnle\[eval\]'"):
        vocabulary(["a hen"])
