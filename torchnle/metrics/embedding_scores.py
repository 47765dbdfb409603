"""Caption scores by frozen encoders: BERTScore between texts, CLIPScore between pictures and texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.language.text_encoder import TextEncoder
from torchnle.metrics.captions import References, check_captions

#: Cosines of pictures (rows) and texts (columns).
TextImageScorer: TypeAlias = Callable[[Sequence[Image.Image], Sequence[str]], Tensor]

_PREFIX, _SCALE = "A photo depicts ", 2.5  # CLIPScore's, section 3


@torch.no_grad()
def bert_score(
    candidates: Sequence[str], references: References, encoder: TextEncoder, *, idf: bool = False
) -> float:
    """Compute BERTScore's F1, the mean over captions (Zhang et al. 2020): matched contextual token vectors.

    Every token is matched with the nearest token of the other text; the mean cosine is the recall for the
    reference's tokens, and the precision for the candidate's. The reference of largest F1 is used. Scores
    depend on the encoder (its last layer is used) and are comparable for one encoder only; they are not
    rescaled by a baseline.

    Args:
        candidates: One text per image.
        references: The reference captions of each image.
        encoder: The encoder whose `model` and `tokenizer` give the token vectors.
        idf: Weight tokens by their inverse frequency in the references.

    Raises:
        ValueError: If there is not at least one reference for each of at least one candidate.

    Example:
        >>> encoder = TextEncoder.from_pretrained()  # doctest: +SKIP
        >>> bert_score(["a hen"], [["a hen"]], encoder)  # doctest: +SKIP
        1.0
    """
    check_captions(candidates, references)
    flat = [text for texts in references for text in texts]
    unique = list(dict.fromkeys([*candidates, *flat]))
    embedded = dict(zip(unique, _embed(unique, encoder), strict=True))
    weigh = _idf([embedded[text].ids for text in flat]) if idf else (lambda token: 1.0)
    best = [
        max(_f1(embedded[candidate], embedded[text], weigh) for text in texts)
        for candidate, texts in zip(candidates, references, strict=True)
    ]
    return sum(best) / len(best)


def clip_score(images: Sequence[Image.Image], texts: Sequence[str], scorer: TextImageScorer) -> float:
    """Compute CLIPScore, the mean over pictures (Hessel et al. 2021): 2.5 times the cosine, at least 0.

    Args:
        images: The pictures.
        texts: One text per picture.
        scorer: Computes the cosines; the score depends on its model (the paper's is CLIP ViT-B/32).

    Raises:
        ValueError: If there is not one text for each of at least one picture.

    Example:
        >>> picture = Image.new("RGB", (4, 4))
        >>> clip_score([picture], ["a hen"], lambda images, texts: torch.tensor([[0.5]]))
        1.25
    """
    if not images or len(images) != len(texts):
        raise ValueError(f"{len(images)} pictures came with {len(texts)} texts; pass one text a picture.")
    cosines = [scorer([image], [_PREFIX + text])[0, 0] for image, text in zip(images, texts, strict=True)]
    return _SCALE * torch.stack(cosines).clamp(min=0).mean().item()


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a text as unit vectors; `content` is 0 for special and padding tokens."""

    ids: list[int]
    vectors: Float[Tensor, "t k"]
    content: Float[Tensor, "t"]


def _embed(texts: Sequence[str], encoder: TextEncoder) -> list[_Tokens]:
    found = []
    for text in texts:
        batch = encoder.tokenizer(
            [text],
            truncation=True,
            max_length=encoder.max_length,
            return_special_tokens_mask=True,
            return_tensors="pt",
        ).to(encoder.device)
        content = 1 - batch.pop("special_tokens_mask")[0].float()
        states = encoder.model(**batch).last_hidden_state[0].float()
        found.append(_Tokens(batch["input_ids"][0].tolist(), F.normalize(states, dim=1), content))
    return found


def _f1(candidate: _Tokens, reference: _Tokens, weigh: Callable[[int], float]) -> float:
    cosines = candidate.vectors @ reference.vectors.T
    precision = _weighted_mean(cosines.amax(dim=1), candidate, weigh)
    recall = _weighted_mean(cosines.amax(dim=0), reference, weigh)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _weighted_mean(values: Float[Tensor, "t"], text: _Tokens, weigh: Callable[[int], float]) -> float:
    weights = text.content * torch.tensor([weigh(token) for token in text.ids], device=values.device)
    total = weights.sum().item()
    return (values * weights).sum().item() / total if total else 0.0


def _idf(texts: Sequence[Sequence[int]]) -> Callable[[int], float]:
    seen_in = Counter(token for ids in texts for token in set(ids))
    return lambda token: log((len(texts) + 1) / (seen_in[token] + 1))
