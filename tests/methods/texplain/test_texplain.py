import torch
from tiny_translators import WIDTH, tiny_language_model

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
