"""Tiny models and translators, built in code: of prefixes, and of random maps and a decoder of letters."""

from __future__ import annotations

from pathlib import Path

import torch
from letter_encoder import LetterEncoder
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from torchnle.language.model import LanguageModel
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence, TextDecoder
from torchnle.methods.aligned.text_features.statistics import Domain
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.devil.network import DeViLNetwork
from torchnle.translators.base import Translator
from torchnle.translators.configuration import check_keys
from torchnle.translators.prefix import PrefixTranslator
from torchnle.vision.features import Features

WORDS = ["<s>", "</s>", "a", "cat", "dog", "red", "door", "the", "of", "grass"]
LAYERS = {"layer3": 6, "layer4": 8}
WIDTH = 12
PHRASES, NAMES, EXTRA = ("a red cat", "a door"), ("dog", "house"), ("grass", "a bird")
TEXTS = ("a dog", "a house")


def tiny_language_model(*, reference: str = "", dtype: torch.dtype = torch.float32) -> LanguageModel:
    torch.manual_seed(1)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<s>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=64,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=1,
    )
    return LanguageModel(GPT2LMHeadModel(config), tokenizer, reference=reference, dtype=dtype)


def saved_language_model(folder: Path) -> LanguageModel:
    lm = tiny_language_model()
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return LanguageModel.from_pretrained(str(folder), dtype=torch.float32)


def tiny_network(**changes) -> DeViLNetwork:
    torch.manual_seed(2)
    sizes = {"prefix_length": 3, "width": 8, "depth": 2, "heads": 2, "feedforward": 16, **changes}
    network = DeViLNetwork(LAYERS, WIDTH, **sizes)
    with torch.no_grad():
        for parameter in network.parameters():  # large enough that every part shows in the output
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return network


def tiny_translator(lm: LanguageModel | None = None, **options) -> PrefixTranslator:
    return PrefixTranslator(tiny_network(), lm or tiny_language_model(), max_new_tokens=5, **options).eval()


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


def features(layer: str, images: int = 2, grid: tuple[int, int] | None = (2, 2), seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    count = 1 if grid is None else grid[0] * grid[1]
    tokens = torch.randn(images, count, LAYERS[layer.split("/")[0]], generator=generator)
    return Features(tokens, layer, grid)


class Doubler(Translator, kind="doubler"):
    """The smallest translator: it says a number and saves two tensors."""

    score_kind = "cosine"

    def __init__(self, width: int = 3, note: object = None) -> None:
        super().__init__()
        self.width, self.note = width, note
        self.weight = nn.Parameter(torch.arange(float(width)))
        self.register_buffer("steps", torch.tensor(7))

    @property
    def config(self):
        return {"width": self.width, "note": self.note}

    @classmethod
    def from_config(cls, config):
        check_keys(config, cls, "the configuration of Doubler")
        return cls(**config)

    def describe(self, rows, *, internal_batch_size=None):
        return []

    def score(self, rows, texts, *, prior=False, internal_batch_size=None) -> Tensor:
        return 2 * self.weight.expand(1, -1)
