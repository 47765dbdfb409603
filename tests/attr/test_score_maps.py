"""Variants of saliency against the formula, location by location."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import LetterTranslator, conv_net
from tiny_translators import LAYERS, features, tiny_translator

from torchnle import LanguageAttribution
from torchnle.attr.score_maps import Refinement, score_variants
from torchnle.translators.rows import rows_of

TEXTS, OTHERS = ["a cat", "the red door"], ["a dog", "grass", "a cat"]


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("length", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_variants_are_the_slow_ones(prior, length, joint):
    translator = tiny_translator()
    layers = [features(layer) for layer in LAYERS]
    given = layers if joint else layers[0]
    how = Refinement(prior, "length" if length else None, OTHERS)
    found = score_variants(translator, rows_of(given, joint=joint), TEXTS, how)
    counts = {"a cat": 2, "the red door": 3, "a dog": 2, "grass": 1}

    def score(text):
        values = translator.score(rows_of(given, joint=joint), [text], prior=prior)[:, 0]
        return (values / counts[text] if length else values).tolist()

    for column, text in enumerate(TEXTS):
        own = score(text)
        rivals = [score(other) for other in OTHERS if other != text]
        for row, value in enumerate(own):
            total = math.exp(value) + sum(math.exp(rival[row]) for rival in rivals)
            assert found[row, column].item() == pytest.approx(value - math.log(total), abs=1e-4)


def test_without_variants_scores_are_the_translators_own():
    translator, given = tiny_translator(), features("layer4")
    torch.testing.assert_close(
        score_variants(translator, rows_of(given), TEXTS, Refinement()),
        translator.score(rows_of(given), TEXTS),
    )
    twice = score_variants(translator, rows_of(given), ["a cat", "a cat"], Refinement())
    torch.testing.assert_close(twice[:, 0], twice[:, 1])


def test_contrasted_texts_share_each_place():
    """Against one another, the probabilities of all texts sum to one."""
    texts = ["a cat", "a dog", "grass"]
    for translator, given in (
        (tiny_translator(), features("layer4")),
        (LetterTranslator(8), features("layer4")),
    ):
        total = score_variants(translator, rows_of(given), texts, Refinement(contrast=texts)).exp().sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total))


def test_cosines_are_sharpened():
    translator, given = LetterTranslator(8), features("layer4")
    found = score_variants(translator, rows_of(given), ["a cat"], Refinement(contrast=["a dog"]))
    cosines = translator.score(rows_of(given), ["a cat", "a dog"])
    margin = (cosines[:, 0] - cosines[:, 1]) / 0.2
    torch.testing.assert_close(found[:, 0], torch.nn.functional.logsigmoid(margin))


def test_saliency_takes_the_variants():
    net, images = conv_net(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    lang = LanguageAttribution(net, ["layer", "act"], LetterTranslator())
    with pytest.raises(ValueError, match="cosine"):
        lang.saliency(images, ["a cat"], normalize="length")
    lang = LanguageAttribution(net, "layer", LetterTranslator())
    small = lang.saliency(images, ["a cat", "sky"], contrast=["a dog", "grass"], interpolate_mode=None)
    large = lang.saliency(images, ["a cat", "sky"], contrast=["a dog", "grass"])
    assert large.shape == (2, 2, 8, 8)
    expected = torch.nn.functional.interpolate(small, (8, 8), mode="bicubic")
    torch.testing.assert_close(large, expected)
    tokens = lang.read(images)[0]
    rows = score_variants(
        lang.translator, rows_of(tokens), ["a cat", "sky"], Refinement(contrast=["a dog", "grass"])
    )
    torch.testing.assert_close(small, tokens.fold(rows).permute(0, 3, 1, 2))


def test_bad_variants_are_refused():
    with pytest.raises(ValueError, match="'length' or None"):
        Refinement(normalize="words")
    with pytest.raises(ValueError, match="at least one text"):
        Refinement(contrast=[])
    with pytest.raises(TypeError, match="one string"):
        Refinement(contrast="a dog")
