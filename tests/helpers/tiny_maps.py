"""Random maps from text into features, and a random decoder of the letters' space."""

from __future__ import annotations

import torch
from letter_encoder import LetterEncoder
from tiny_translators import LAYERS, WIDTH, tiny_language_model

from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence, TextDecoder
from torchnle.methods.aligned.text_features.statistics import Domain
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator

PHRASES, NAMES, EXTRA = ("a red cat", "a door"), ("dog", "house"), ("grass", "a bird")
TEXTS = ("a dog", "a house")


def tiny_decoder(lm=None) -> TextDecoder:
    torch.manual_seed(5)
    network = PrefixFromSentence(26, WIDTH, opening_length=1, prefix_length=3, hidden=16)
    network.set_start(torch.randn(1, WIDTH), torch.randn(3, WIDTH), torch.randn(9, 26))
    lm = lm or tiny_language_model()
    return TextDecoder(network, lm, encoder="letters", prompt="the", stop=" door", reference="decoder")


def tiny_map(lm=None, *, decoder=True, **options) -> MapTranslator:
    """One map of phrases, whitened, and one of phrases and class names; both know pictures of nothing."""
    source = torch.Generator().manual_seed(4)
    maps = {}
    for layer, width in LAYERS.items():
        classes = len(NAMES) if layer == "layer4" else 0
        fitted = TextMap(width, 26, phrases=len(PHRASES), classes=classes, whitened=classes == 0)
        for tensor in fitted.buffers():
            tensor.copy_(torch.randn(tensor.shape, generator=source))
        nulls = torch.randn(3, width, generator=source)
        fitted.set_statistics(Domain(torch.randn(width, generator=source), 1.5, 4.0), nulls)
        fitted.temperature.fill_(4.0)
        fitted.offset.fill_(0.1)
        fitted.head_share.fill_(0.3 if classes else 0.0)
        maps[layer] = fitted
    given = {"phrases": PHRASES, "class_names": NAMES, "class_texts": TEXTS, "vocabulary": EXTRA}
    return MapTranslator(maps, LetterEncoder(), tiny_decoder(lm) if decoder else None, **{**given, **options})
