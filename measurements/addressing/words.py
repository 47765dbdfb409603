"""Decoding without training: the prefix is a text's own token embeddings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.decoding import greedy
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import OPENING, PROMPT, STOP
from torchnle.methods.aligned.decoder.training import targets
from torchnle.training.texts import first_tokens

#: Sizes of noise on the token embeddings, in standard deviations of the model's embeddings.
NOISES = (0.0, 0.5)
_MAX_NEW_TOKENS, _EXAMPLES = 24, 4


@dataclass(frozen=True)
class Frame:
    """The text around the prefix.

    Args:
        opening: Words before it.
        prompt: Words after it.
        stop: The end of a text, in the prefix and in the answer; None = the model's end-of-text token.
    """

    opening: str = OPENING
    prompt: str = PROMPT
    stop: str | None = STOP


def without_bos(lm: LanguageModel) -> LanguageModel:
    """Wrap a model with a tokenizer without BOS."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.bos_token = None
    return LanguageModel(lm.model, tokenizer, reference=lm.reference)


@torch.no_grad()
def word_prefixes(
    lm: LanguageModel,
    texts: Sequence[str],
    frame: Frame,
    *,
    length: int = 8,
    noise: float = 0.0,
    seed: int = 0,
) -> Float[Tensor, "R _ E"]:
    """Embed the opening and each text's first tokens; a short text is filled with its end.

    Args:
        lm: The language model.
        texts: R texts.
        frame: Its opening and end are used.
        length: The number of vectors of a text.
        noise: Gaussian noise on a text's vectors, in standard deviations of all embeddings.
        seed: Seeds the noise.

    Raises:
        ValueError: If the texts are to end with an end-of-text token, and the model has none.
    """
    words = lm.embed(first_tokens(_ended(lm, texts, frame.stop), length).to(lm.device)).float()
    if noise:
        scale = lm.embed(torch.arange(lm.vocab_size, device=lm.device)).float().std()
        drawn = torch.randn(words.shape, generator=torch.Generator().manual_seed(seed))
        words = words + noise * scale * drawn.to(words)
    ids = lm.tokenize([frame.opening])[0] if frame.opening else []
    opening = lm.embed(torch.tensor(ids, dtype=torch.long, device=lm.device)).float()
    return torch.cat([opening.expand(len(words), -1, -1), words], dim=1)


def understood(
    lm: LanguageModel,
    encoder: TextEncoder,
    texts: Sequence[str],
    frame: Frame,
    *,
    noises: Sequence[float] = NOISES,
    length: int = 8,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Decode texts from their own token embeddings, and compare the results with them.

    Args:
        lm: The language model.
        encoder: Compares decoded texts with their sources.
        texts: The texts.
        frame: The text around them.
        noises: Sizes of noise on the token embeddings.
        length: The number of vectors of a text.
        seed: Seeds the noise.

    Returns:
        For each noise: "exact", the share of texts reproduced exactly; "cosine", the mean similarity of
        decoded text and source; "examples".
    """
    source, rows = encoder.encode(texts), []
    for noise in noises:
        prefixes = word_prefixes(lm, texts, frame, length=length, noise=noise, seed=seed)
        decoded = greedy(lm, prefixes, prompt=frame.prompt, stop=frame.stop, max_new_tokens=_MAX_NEW_TOKENS)
        decoded_texts = [text.strip() for text in decoded.texts]
        again = encoder.encode([text or "nothing" for text in decoded_texts])
        rows.append(
            {
                "noise": noise,
                "exact": sum(a == b for a, b in zip(decoded_texts, texts, strict=True)) / len(texts),
                "cosine": (again * source).sum(dim=1).mean().item(),
                "examples": dict(zip(texts[:_EXAMPLES], decoded_texts, strict=False)),
            }
        )
    return rows


def _ended(lm: LanguageModel, texts: Sequence[str], stop: str | None) -> list[list[int]]:
    if stop is not None:
        return targets(lm, texts, stop)
    if lm.eos_id is None:
        raise ValueError("the language model has no token that ends a text; name another end by stop=.")
    return [[*ids, lm.eos_id] for ids in lm.tokenize([f" {text}" for text in texts])]
