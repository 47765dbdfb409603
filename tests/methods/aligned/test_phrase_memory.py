from __future__ import annotations

import pytest
import torch

from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.probability.truth import parts, phrases_about, probability_of
from torchnle.methods.aligned.probability.vocabulary import Vocabulary

WORDS = Vocabulary(
    ["a red heart", "a white heart", "a tabby cat", "a poodle", "a house with a roof", "a qwert"],
    class_names=["crane (machine)"],
    class_texts=["a crane"],
)


def test_what_is_recalled_is_the_weighted_mean_as_far_out_as_a_phrase():
    source = torch.Generator().manual_seed(0)
    vectors = torch.randn(5, 3, generator=source)
    shares = torch.rand(4, 5, generator=source)
    center = sum(vectors) / 5
    distance = sum((v - center).norm() for v in vectors) / 5
    for row, found in zip(shares, recall(shares, vectors), strict=True):
        step = sum(p * (v - center) for p, v in zip(row, vectors, strict=True))
        torch.testing.assert_close(found, center + distance * step / step.norm())
    torch.testing.assert_close(recall(3 * shares, vectors), recall(shares, vectors))


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("a heart", {"a red heart", "a white heart"}),
        ("a red heart", {"a red heart"}),  # the vocabulary knows other hearts as well
        ("a green heart", {"a red heart", "a white heart"}),  # this one it does not
        ("an animal", {"a tabby cat", "a poodle"}),
        ("a dog and a red heart on a house", {"a poodle", "a red heart", "a house with a roof"}),
        ("a house with a roof", {"a house with a roof"}),
        ("tabby cat", {"a tabby cat"}),
        ("The Red-Heart", {"a red heart"}),
        ("a crane", {"a crane"}),
        ("a bird", set()),  # the crane is a machine
        ("a device", {"a crane"}),
        ("a qwert", {"a qwert"}),
        ("a standard poodle", {"a poodle"}),  # the nearest that the vocabulary has
        ("a beagle", set()),  # no kind of poodle, and there is no phrase for all dogs
        ("xyzzy", set()),
        ("", set()),
    ],
)
def test_what_a_text_is_about(text, about):
    marked = phrases_about(text, WORDS).tolist()
    assert {phrase for phrase, own in zip(WORDS.phrases, marked, strict=True) if own} == about
    shares = torch.arange(1.0, 8.0) / 28
    expected = sum(float(shares[WORDS.phrases.index(phrase)]) for phrase in about) if about else None
    assert probability_of(text, shares, WORDS) == (None if expected is None else pytest.approx(expected))


def test_nothing_is_counted_twice():
    shares = torch.full((7,), 1 / 7)
    assert probability_of("a heart, a red heart and a heart", shares, WORDS) == pytest.approx(2 / 7)
    assert parts("a heart, a red heart and a heart.") == ["a heart", "a red heart", "a heart"]
