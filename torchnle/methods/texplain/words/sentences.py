"""Sentences of features, with weights: sampled, or all phrases with their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.language import decoding
from torchnle.language.model import LanguageModel
from torchnle.language.sampling.distinct import sample_distinct
from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.texplain.cross_attention.translator import CrossAttentionTranslator
from torchnle.translators.base import Translator
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.rows import Rows


@dataclass(frozen=True)
class Sentences:
    """Weighted sentences of one row, which estimate the distribution of its descriptions.

    Args:
        texts: The sentences; they may come several times.
        weights: ``sum(weights * [word in text])`` estimates the word's frequency, without bias; (n,).
        variances: What each text adds to that estimate's variance, (n,); None = the texts were drawn
            independently, so that the variance of a frequency p is p (1 - p) / n.
    """

    texts: tuple[str, ...]
    weights: Float[Tensor, "n"]
    variances: Float[Tensor, "n"] | None


@dataclass(frozen=True)
class Sampling:
    """Settings of how sentences are drawn.

    Args:
        n: How many a row; the paper draws 1,000 with replacement.
        replacement: Whether a sentence may come twice. Without it the same precision needs fewer sentences
            where few are likely; 0.95 and 20 to 30 words are the paper's (section 3).
        top_p: The share of the probability that is drawn from.
        temperature: What logits are divided by.
        max_new_tokens: The largest number of tokens of a sentence; None = the translator's own.
        seed: Of the draws.
        internal_batch_size: The largest number of rows in the language model at a time.

    Raises:
        ValueError: If `n` is not positive.

    Example:
        >>> Sampling(n=1000, replacement=True).top_p
        0.95
    """

    n: int = 200
    replacement: bool = False
    top_p: float = 0.95
    temperature: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n={self.n}; pass how many sentences to draw for each row, 1 or more.")


@torch.no_grad()
def sentences_of(
    translator: Translator,
    rows: Rows,
    sampling: Sampling | None,
    *,
    phrases: Sequence[str] | None = None,
) -> list[Sentences]:
    """Draw or enumerate the weighted sentences of every row.

    Args:
        translator: One that writes with a language model, or a map from text into features.
        rows: Of one layer.
        sampling: How to draw; None = every phrase of the map's vocabulary, with its probability: exact.
        phrases: Without sampling: let only these compete, by a softmax over their cosines.

    Raises:
        TypeError: If the translator neither writes nor knows probabilities of phrases, or `sampling` is None
            and it knows none.
        ValueError: As the translator's `describe`.
    """
    if sampling is None:
        return _phrases(translator, rows) if phrases is None else _among(translator, rows, phrases)
    if isinstance(translator, CrossAttentionTranslator):
        return [_attended(translator, each[None], sampling) for each in translator.vectors([rows])]
    lm, prefixes, prompting = _voice(translator, rows)
    return _drawn(lm, prefixes, prompting, sampling)


@torch.no_grad()
def sentences_without_image(translator: Translator, sampling: Sampling | None) -> Sentences:
    """Draw the weighted sentences of the language model alone, without any image.

    Without sampling, the probabilities of a map's phrases on the mean feature of the pictures that it reads.
    """
    if sampling is None:
        text_map = _as_map(translator, "know the probabilities of phrases")
        layer, fitted = next(iter(text_map.by_layer.items()))
        return _phrases(text_map, Rows({layer: fitted.center[None, None]}))[0]
    if isinstance(translator, CrossAttentionTranslator):
        return _attended(translator, None, sampling)
    lm, prompting = _prompting(translator)
    prefix = lm.embed(torch.zeros(0, dtype=torch.long, device=lm.device))
    if isinstance(translator, MapTranslator) and translator.decoder is not None:
        prefix = translator.decoder.network.opening
    return _drawn(lm, prefix[None].to(lm.device), prompting, sampling)[0]


@dataclass(frozen=True)
class _Prompting:
    prompt: str
    stop: str | None
    max_new_tokens: int


def _voice(translator: Translator, rows: Rows) -> tuple[LanguageModel, Tensor, _Prompting]:
    """The language model that writes, a prefix per row, and its prompt and limits."""
    lm, prompting = _prompting(translator)
    if isinstance(translator, PrefixTranslator):
        return lm, translator.vectors([rows]), prompting
    text_map = _as_map(translator, "write")
    decoder = text_map.decoder
    if decoder is None:
        raise TypeError("this map has no text decoder to sample from.")
    return lm, decoder.prefixes(recall(text_map.probabilities([rows]), text_map.vectors)), prompting


def _prompting(translator: Translator) -> tuple[LanguageModel, _Prompting]:
    if isinstance(translator, PrefixTranslator):
        return translator.language_model, _Prompting(
            translator.prompt, translator.stop, translator.max_new_tokens
        )
    decoder = _as_map(translator, "write").decoder
    if decoder is None:
        raise TypeError(
            "this translator has no text decoder to sample sentences from. Leave n out, which counts its "
            "phrases "
            "by their probabilities, or attach a decoder: LanguageAttribution.from_classifier(..., "
            "decoder='decoder-minilm-smollm2')."
        )
    return decoder.language_model, _Prompting(decoder.prompt, decoder.stop, decoder.max_new_tokens)


def _as_map(translator: Translator, does: str) -> MapTranslator:
    if not isinstance(translator, MapTranslator):
        raise TypeError(
            f"a {type(translator).__name__} does not {does}. Pass a translator with a language model "
            f"(DeViL's, "
            "TExplain's) and n=..., or a map from text into features."
        )
    return translator


def _phrases(translator: Translator, rows: Rows) -> list[Sentences]:
    text_map = _as_map(translator, "know the probabilities of phrases")
    texts, shares = text_map.vocabulary.phrases, text_map.probabilities([rows]).cpu()
    return [Sentences(texts, row, torch.zeros_like(row)) for row in shares]


def _among(translator: Translator, rows: Rows, phrases: Sequence[str]) -> list[Sentences]:
    text_map = _as_map(translator, "know the probabilities of phrases")
    maps = text_map.by_layer
    named = rows.for_inputs({layer: fitted.width for layer, fitted in maps.items()}, text_map.name)
    ((layer, tokens),) = named.tokens.items()
    fitted = maps[layer]
    white = fitted.whiten(tokens.squeeze(1))
    cosines = F.normalize(white, dim=1) @ text_map.directions(layer, phrases).T
    shares = (fitted.temperature * cosines).softmax(dim=1).cpu()
    return [Sentences(tuple(phrases), row, torch.zeros_like(row)) for row in shares]


def _drawn(
    lm: LanguageModel, prefixes: Float[Tensor, "R P E"], prompting: _Prompting, sampling: Sampling
) -> list[Sentences]:
    options = {
        "top_p": sampling.top_p,
        "temperature": sampling.temperature,
        "generator": torch.Generator().manual_seed(sampling.seed),
        "prompt": prompting.prompt,
        "stop": prompting.stop,
        "max_new_tokens": sampling.max_new_tokens or prompting.max_new_tokens,
        "internal_batch_size": sampling.internal_batch_size,
    }
    if not sampling.replacement:
        draw = partial(sample_distinct, lm, n=sampling.n, **options)  # type: ignore[arg-type]
        return [Sentences(tuple(f.texts), f.weights, f.variances) for f in map(draw, prefixes)]
    texts = decoding.sample(lm, prefixes, sampling.n, **options).texts  # type: ignore[arg-type]
    weights = torch.full((sampling.n,), 1 / sampling.n)
    parts = range(0, len(texts), sampling.n)
    return [Sentences(tuple(texts[i : i + sampling.n]), weights, None) for i in parts]


def _attended(
    translator: CrossAttentionTranslator, states: Float[Tensor, "1 P E"] | None, sampling: Sampling
) -> Sentences:
    """Sentences of one row by a decoder that attends to it, or to nothing."""
    options: dict[str, Any] = {
        "top_p": sampling.top_p,
        "temperature": sampling.temperature,
        "generator": torch.Generator().manual_seed(sampling.seed),
        "max_new_tokens": sampling.max_new_tokens or translator.max_new_tokens,
        "internal_batch_size": sampling.internal_batch_size,
    }
    if sampling.replacement:
        texts = translator.decoder.sample(states, sampling.n, **options).texts
        return Sentences(tuple(texts), torch.full((sampling.n,), 1 / sampling.n), None)
    found = translator.decoder.sample_distinct(states, sampling.n, **options)
    return Sentences(tuple(found.texts), found.weights, found.variances)
