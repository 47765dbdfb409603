"""Contexts of an audit: kept as they are, or left out with a word; few texts of a translator are told."""

from __future__ import annotations

import logging

import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder

from torchnle import LanguageAttribution
from torchnle.attr.audits import audit
from torchnle.methods.texplain.audit.class_words import ClassWords
from torchnle.methods.texplain.audit.contexts import (
    FEW_TEXTS,
    check_contexts,
    context_nouns,
    usable_contexts,
    warn_of_few_texts,
)

NAMES = ("a dog", "a cat", "a boat")
BIRDS = ClassWords(["land bird", "water bird"])


@pytest.fixture(scope="module")
def lang():
    example = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return LanguageAttribution.from_classifier(
        conv_net(classes=3), NAMES, example=example, encoder=LetterEncoder(), vocabulary=["grass", "a lake"]
    )


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(60, 3, 8, 8, generator=generator), torch.arange(60) % 3)]


def test_phrases_are_compared_as_they_are(lang, batches):
    contexts = ["a yellow corner", "a blue corner", "yellow"]
    found = audit(lang, batches, NAMES, contexts=contexts)
    for each in found.shortcuts.classes:
        assert {word.word for word in each.words} == set(contexts)
        assert {word.kind for word in each.words} == {"background"}


def test_phrases_that_name_a_class_are_left_out_and_told(lang, batches, caplog):
    contexts = ["a yellow corner", "a brown dog", "a wall"]
    with caplog.at_level(logging.WARNING, logger="torchnle"):
        found = audit(lang, batches, NAMES, contexts=contexts)
    assert {word.word for word in found.shortcuts.classes[0].words} == {"a yellow corner", "a wall"}
    assert "'a brown dog' names a dog" in caplog.text
    with pytest.raises(ValueError, match="1 of 2 can be used: 'a white hen' names land bird"):
        usable_contexts(["a lake", "a white hen"], BIRDS)


def test_what_sentences_do_not_look_for_is_told(caplog):
    with caplog.at_level(logging.WARNING, logger="torchnle"):
        assert context_nouns(["a yellow corner", "grass"]) == ("corner", "grass")
    assert "'yellow' of 'a yellow corner'" in caplog.text
    with pytest.raises(ValueError, match="hold no noun"):
        context_nouns(["quickly"])


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [("a lake", TypeError, "one string"), ([], ValueError, "pass phrases"), (["a", " "], ValueError, "pass")],
)
def test_bad_contexts(given, kind, message):
    with pytest.raises(kind, match=message):
        check_contexts(given)


def test_few_texts_are_told(lang, batches, caplog):
    with caplog.at_level(logging.WARNING, logger="torchnle"):
        audit(lang, batches, NAMES)
    assert "fitted to 3 texts (a dog, a cat, a boat, ...)" in caplog.text
    assert "--reader" in caplog.text
    caplog.clear()
    assert not warn_of_few_texts(lang.translator, ["a small boat", "a dog"])
    assert caplog.text == ""


def test_many_texts_are_not():
    names = [f"thing {number}" for number in range(FEW_TEXTS)]
    example = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = conv_net(classes=FEW_TEXTS)
    found = LanguageAttribution.from_classifier(
        model, names, example=example, encoder=LetterEncoder(), vocabulary=()
    )
    assert not warn_of_few_texts(found.translator, ["the sky"])


def test_the_number_of_names_is_told_after_one_batch(lang):
    def endless():
        yield torch.rand(4, 3, 8, 8), torch.arange(4) % 3
        raise AssertionError("a second batch was read")

    with pytest.raises(ValueError, match="2 class names for a model that gives"):
        audit(lang, endless(), NAMES[:2])
