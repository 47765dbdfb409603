"""Measure a text decoder: its texts are encoded again and compared with their source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.language import scoring
from torchnle.language.english.phrases import head_noun
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.nearest import decode_nearest
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder

#: Noise on standardised embeddings, in standard deviations; a map that explains half of its targets' variance
#: errs by 0.7.
NOISES = (0.0, 0.3, 0.5, 0.7)


def decoding_quality(
    decoder: TextDecoder,
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    noises: Sequence[float] = NOISES,
    candidates: int = 0,
    seed: int = 0,
    examples: int = 12,
) -> dict[str, Any]:
    """Measure how well held-out texts are decoded from their embeddings, clean and with added noise.

    Args:
        decoder: The decoder.
        encoder: The encoder whose embeddings it reads.
        texts: Texts that it was not trained on.
        noises: The standard deviations of Gaussian noise on the standardised embeddings.
        candidates: The number of texts drawn besides the greedy one (`decode_nearest`); 0 = greedy only.
        seed: The seed of the noise and the draws.
        examples: The number of texts that are returned with their decoded texts.

    Returns:
        For each noise: "given_cosine" of the noisy embedding with the clean one; "cosine" of the decoded
        text's embedding with the clean one; "exact", the share decoded exactly; "head_noun", the share whose
        first head noun is among the decoded words; "nats_per_token" of the decoded texts under the language
        model alone. "source_nats_per_token" is that of the given texts.
    """
    source = encoder.encode(texts).to(decoder.network.mean)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for noise in noises:
        shift = torch.randn(source.shape, generator=generator).to(source) * decoder.network.std
        given = F.normalize(source + noise * shift, dim=1)
        decoded = _decoded(decoder, encoder, given, candidates, seed)
        rows.append(
            {
                "noise": noise,
                "given_cosine": (given * source).sum(dim=1).mean().item(),
                "cosine": (encoder.encode(decoded).to(source) * source).sum(dim=1).mean().item(),
                "exact": _share(text == wanted for text, wanted in zip(decoded, texts, strict=True)),
                "head_noun": _share(
                    _names(text, wanted) for text, wanted in zip(decoded, texts, strict=True)
                ),
                "nats_per_token": nats_per_token(decoder.language_model, decoded),
                "examples": dict(zip(texts[:examples], decoded, strict=False)),
            }
        )
    return {
        "texts": len(texts),
        "source_nats_per_token": nats_per_token(decoder.language_model, texts),
        "by_noise": rows,
    }


def reconstruction_quality(
    decoder: TextDecoder, encoder: TextEncoder, phrases: Sequence[str], *, candidates: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Measure how many phrases that a decoder was trained on are decoded exactly from their embeddings.

    Args:
        decoder: The decoder.
        encoder: The encoder whose embeddings it reads.
        phrases: The phrases.
        candidates: As `decoding_quality`.
        seed: The seed of the draws.

    Returns:
        "phrases", their number; "exact", the share decoded exactly; "cosine" of the decoded texts' embeddings
        with the phrases'; "others", the decoded texts that differ, by phrase.
    """
    source = encoder.encode(phrases).to(decoder.network.mean)
    decoded = _decoded(decoder, encoder, source, candidates, seed)
    others = {wanted: text for wanted, text in zip(phrases, decoded, strict=True) if text != wanted}
    cosines = (encoder.encode(decoded).to(source) * source).sum(dim=1)
    exact = 1 - sum(phrase in others for phrase in phrases) / len(phrases)
    return {"phrases": len(phrases), "exact": exact, "cosine": float(cosines.mean()), "others": others}


def nats_per_token(language_model: LanguageModel, texts: Sequence[str]) -> float:
    """Compute the mean negative log-probability per token of texts, under the language model alone."""
    spaced = [f" {text}" for text in texts]
    parts = [scoring.prior(language_model, spaced[i : i + 256]) for i in range(0, len(spaced), 256)]
    total = torch.cat(parts).sum()
    return -float(total) / sum(map(len, language_model.tokenize(spaced)))


def _decoded(
    decoder: TextDecoder, encoder: TextEncoder, given: Float[Tensor, "T k"], candidates: int, seed: int
) -> list[str]:
    """Decode embeddings; a text of no words is shown as "nothing"."""
    decoded = (
        decode_nearest(decoder, encoder, given, candidates=candidates, seed=seed)
        if candidates
        else decoder.decode(given)
    )
    return [text or "nothing" for text in decoded.texts]


def _names(decoded: str, wanted: str) -> bool:
    return head_noun(wanted.split(",")[0].split(" and ")[0]) in decoded.lower().split()


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found)
