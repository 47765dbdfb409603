import pytest
import torch
from letter_encoder import LetterEncoder
from tiny import tiny_lm

from torchnle.methods.zero_shot.sentences.beams import Beam, Search, _explored, _shortened, needed, repeats
from torchnle.methods.zero_shot.sentences.candidates import Candidates
from torchnle.methods.zero_shot.sentences.words import Words


def candidates(worth):
    words = Words(tiny_lm(), LetterEncoder())
    table = torch.zeros(len(words.texts))
    return Candidates(
        words,
        torch.arange(len(words.texts)),
        table,
        lambda texts: torch.tensor([sum(worth.get(word, 0.0) for word in text.split()) for text in texts]),
    )


def beams(given, *texts):
    return [Beam(text=text, fit=score) for text, score in zip(texts, given.fit(texts).tolist(), strict=True)]


def test_a_modifier_must_raise_the_score():
    given = candidates({"dog": 1.0, "red": 0.1, "green": -0.1})
    kept = needed(beams(given, "a green dog", "a red dog", "a dog", "a green red dog"), given)
    assert [beam.text for beam in kept] == ["a red dog", "a dog"]


def test_what_follows_the_first_noun_must_raise_the_score():
    given = candidates({"dog": 1.0, "grass": 0.2, "sky": -0.2})
    kept = needed(beams(given, "a dog on the grass", "a dog under the sky", "the dog"), given)
    assert [beam.text for beam in kept] == ["a dog on the grass", "the dog"]


@pytest.mark.parametrize(
    ("before", "word", "expected"),
    [
        ("a penguin with a", "bird", True),
        ("a bird with a", "penguin", True),
        ("a dam with a", "barrier", True),
        ("a dog with", "dogs", True),
        ("a dog on the", "grass", False),
        ("a tiger with a", "person", False),
        ("a tiger with a", "animal", True),
        ("a light", "tower", False),
        ("a dog with a", "with", False),
        ("a dog with", "with", True),
        ("a whole", "bird", False),  # what modifies a noun names nothing
        ("a red", "person", False),
        ("an orange on the", "fruit", True),
        ("a red dog with a", "red", True),
    ],
)
def test_a_noun_is_not_said_again_in_other_words(before, word, expected):
    assert repeats(before.split(), word) is expected


def test_the_prompt_names_the_class():
    assert Search(prompt="This is {}: it has").about("a dog").prompt == "This is a dog: it has"
    assert Search(prompt="It has").about("a dog").prompt == "It has"


@pytest.mark.parametrize("least", [2, 6, 7])
def test_the_search_goes_on_until_sentences_are_long_enough(least):
    given = candidates({"dog": 1.0, "grass": -0.1, "sky": -0.1, "cat": -0.1, "bird": -0.1})
    found = _explored(
        tiny_lm(), given, Search(beams=3, proposals=18, encoded=12, least_words=least, fluency=0)
    )
    ended = [beam for beam in found if beam.words[-1] in given.words.nouns]
    assert max(len(beam.words) for beam in ended) >= least


def test_a_modifier_is_left_out_with_the_article_it_asked_for():
    given = candidates({"dog": 1.0, "old": 0.1, "an": -5.0})
    assert needed(beams(given, "an old dog"), given) == []
    assert _shortened(["an", "old", "dog", "with", "a", "big", "owl"], given.words)[:2] == [
        "a dog with a big owl",
        "an old dog",
    ]
