"""The best texts of every location, and the best locations of a text."""

from __future__ import annotations

import pytest
import torch
from fakes import LetterTranslator, conv_net
from tiny_translators import WIDTH, WORDS, tiny_language_model

from torchnle import DescriptionGrid, LanguageAttribution
from torchnle.methods.devil.network import DeViLNetwork
from torchnle.translators.prefix import PrefixTranslator

TEXTS = ["a cat", "a red cat", "the red door", "grass", "the dog", *WORDS[2:6], "a red dog of the door"]


def sentences():
    torch.manual_seed(3)
    sizes = {"prefix_length": 3, "width": 8, "depth": 2, "heads": 2, "feedforward": 16}
    network = DeViLNetwork({"layer": 6, "stem": 4}, WIDTH, **sizes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return PrefixTranslator(network, tiny_language_model())


@pytest.fixture(params=[LetterTranslator, sentences])
def lang(request):
    return LanguageAttribution(conv_net(), "layer", request.param())


@pytest.fixture
def x():
    return 3 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("prior", [False, True])
def test_top_texts_are_the_best_of_saliency(lang, x, prior):
    maps = lang.saliency(x, TEXTS, prior=prior, interpolate_mode=None)
    top = lang.top_texts(x, TEXTS, k=3, prior=prior)
    for image, grid in enumerate(top.found):
        assert isinstance(grid, DescriptionGrid)
        for cell in grid:
            scores, order = maps[image, :, cell.location[0], cell.location[1]].sort(descending=True)
            assert [cell.text, *(text for text, _ in cell.phrases)] == [TEXTS[i] for i in order[:3]]
            found = torch.tensor([cell.score, *(score for _, score in cell.phrases)])
            torch.testing.assert_close(found, scores[:3], atol=1e-4, rtol=0)
            assert (cell.image, cell.layer, cell.score_kind) == (image, "layer", lang.translator.score_kind)


@pytest.mark.parametrize("prior", [False, True])
def test_top_locations_are_the_highest_of_saliency(lang, x, prior):
    maps = lang.saliency(x, "a red cat", prior=prior, interpolate_mode=None)[:, 0]
    found = lang.top_locations(x, "a red cat", k=4, prior=prior).found
    best = torch.tensor([maps[p.image, p.location[0], p.location[1]] for p in found])
    torch.testing.assert_close(best, maps.flatten().topk(4).values)
    torch.testing.assert_close(torch.tensor([p.score for p in found]), best, atol=1e-4, rtol=0)
    assert len({(p.image, p.location) for p in found}) == 4
    assert all(p.text == "a red cat" for p in found)


def test_several_layers_compete_for_a_text_and_each_names_its_places(x):
    lang = LanguageAttribution(conv_net(), ["stem", "layer"], sentences())
    maps = lang.saliency(x, "the red door", interpolate_mode=None)
    found = lang.top_locations(x, "the red door", k=5).found
    every = torch.cat([each.flatten() for each in maps])
    expected = every.topk(5).values
    torch.testing.assert_close(torch.tensor([p.score for p in found]), expected, atol=1e-4, rtol=0)
    by_name = dict(zip(["stem", "layer"], maps, strict=True))
    for peak, score in zip(found, expected, strict=True):
        row, column = peak.location
        assert by_name[peak.layer][peak.image, 0, row, column] == pytest.approx(score.item(), abs=1e-4)
    top = lang.top_texts(x, TEXTS, k=2, where=None)
    assert [len(layer) for layer in top.found] == [2, 2]


def test_layers_read_together_are_one(x):
    lang = LanguageAttribution(conv_net(), ["stem", "layer"], sentences())
    maps = lang.saliency(x, TEXTS, joint=True, interpolate_mode=None)
    top = lang.top_texts(x, TEXTS, k=1, joint=True)
    assert [cell.text for cell in top.found[0]] == [TEXTS[i] for i in maps[0].argmax(0).flatten()]
    assert top.found[0][0, 0].layer == "stem+layer"
    (best,) = lang.top_locations(x, "grass", k=1, joint=True).found
    score = maps[best.image, TEXTS.index("grass"), best.location[0], best.location[1]]
    assert score == maps[:, TEXTS.index("grass")].max()


def test_reports_what_it_read(x):
    lang = LanguageAttribution(conv_net(), "layer", sentences())
    top = lang.top_texts(x, TEXTS, k=1)
    assert 0 <= top.extensions < top.exhaustive
    cosine = LanguageAttribution(conv_net(), "layer", LetterTranslator()).top_texts(x, TEXTS, k=1)
    assert (cosine.extensions, cosine.exhaustive) == (0, 0)


def test_refuses_bad_questions(lang, x):
    with pytest.raises(ValueError, match="k=0"):
        lang.top_texts(x, TEXTS, k=0)
    with pytest.raises(ValueError, match="k=0"):
        lang.top_locations(x, "a cat", k=0)
    with pytest.raises(TypeError, match="pass one text"):
        lang.top_locations(x, ["a cat"])
    with pytest.raises(ValueError, match="blank"):
        lang.top_texts(x, [" "])
