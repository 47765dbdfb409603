"""Scores are in float32 under autocast too, which is for the model that is read."""

from __future__ import annotations

import torch
from tiny import make_lm

from torchnle import LanguageAttribution
from torchnle.methods.devil import devil_translator


def test_maps_are_float32_under_autocast():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 4, 4), torch.nn.ReLU()).eval()
    sizes = {"prefix_length": 2, "width": 8, "depth": 1, "heads": 2, "feedforward": 8}
    lang = LanguageAttribution(model, "1", devil_translator({"1": 6}, make_lm(), **sizes))
    x, texts = torch.rand(1, 3, 12, 12), ["a cat", "grass"]
    exact = lang.saliency(x, texts)
    with torch.autocast("cpu", torch.bfloat16):
        found = lang.saliency(x, texts)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, exact, atol=0.2, rtol=0.02
    )  # the model's features alone are in bfloat16
