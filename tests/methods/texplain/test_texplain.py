import pytest
import torch
from fakes import conv_net
from tiny_translators import WIDTH, tiny_language_model

from torchnle import LanguageAttribution, NeuronLanguageAttribution, TextScore
from torchnle.methods.texplain import texplain_translator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features


def test_the_papers_sizes():
    translator = texplain_translator("norm", 768, tiny_language_model())
    assert translator.network.config == {
        "layers": {"norm": 768},
        "language_width": WIDTH,
        "tokens": 577,
        "mode": "per_token",
        "prefix_length": 577,
        "hidden": 768,
        "activation": "none",
    }


def test_a_single_vector_becomes_a_prefix():
    translator = texplain_translator(
        "norm", 8, tiny_language_model(), tokens=1, mode="flat", prefix_length=4, max_new_tokens=3
    ).eval()
    found = translator.describe(rows_of(Features(torch.randn(2, 3, 8), "norm")))
    assert len(found) == 2 * 3


def test_all_tokens_are_scored_together():
    torch.manual_seed(0)
    model = conv_net(width=8)
    translator = texplain_translator("layer", 8, tiny_language_model(), tokens=16, max_new_tokens=3).eval()
    x = torch.rand(2, 3, 8, 8)
    scores = TextScore(model, "layer", translator, ["a cat", "a dog"])(x)
    (features,) = LanguageAttribution(model, "layer", translator).read(x)
    expected = translator.score(rows_of(features, tokens_per_row=16), ["a cat", "a dog"])
    torch.testing.assert_close(scores, expected)
    for refused in (
        lambda: TextScore(model, "layer", translator, ["a cat"], where=(0, 0))(x),
        lambda: LanguageAttribution(model, "layer", translator).attribute(x, target="a cat"),
        lambda: NeuronLanguageAttribution(model, "layer", translator).describe(x, 0),
    ):
        with pytest.raises(ValueError, match="all 16 tokens of an image at once"):
            refused()
