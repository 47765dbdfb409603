"""Decode several texts per embedding, and keep the one whose own embedding is nearest to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.language.decoding import Decoded
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder

#: A text whose embedding has this cosine with the given embedding is kept as it is. Two different texts of
#: the training domain are hardly ever so near each other, and rounding is far smaller.
EXACT = 0.999


@torch.no_grad()
def decode_nearest(
    decoder: TextDecoder,
    encoder: TextEncoder,
    embeddings: Float[Tensor, "R k"],
    *,
    candidates: int = 16,
    temperature: float = 0.7,
    seed: int = 0,
) -> Decoded:
    """Decode every embedding to the text, of several candidates, whose own embedding is nearest by cosine.

    The candidates are the greedily decoded text and, unless its embedding equals the given one (a cosine of
    at least `EXACT`), `candidates` texts drawn by nucleus sampling. Nothing besides the given embedding
    is used. It costs the draws of those rows, and encoding all candidates.

    Args:
        decoder: The text decoder.
        encoder: The encoder whose embeddings the decoder reads.
        embeddings: Sentence embeddings, or vectors mapped into their space.
        candidates: The number of texts drawn per row besides the greedy one; 0 = none.
        temperature: The temperature of these draws.
        seed: The seed of these draws.

    Returns:
        One text per row.

    Raises:
        ValueError: If the embeddings have another width than the encoder's, or `temperature` is not positive.

    Example:
        >>> wanted = encoder.encode(["a cicada and a tractor"])  # doctest: +SKIP
        >>> decode_nearest(decoder, encoder, wanted).texts  # doctest: +SKIP
        ['a cicada and a tractor']
    """
    wanted = F.normalize(embeddings, dim=-1)
    greedy = decoder.decode(embeddings)
    near = _cosines(encoder, greedy.texts, wanted)
    inexact = (near < EXACT).nonzero()[:, 0]
    if candidates < 1 or not len(inexact):
        return greedy
    drawn = decoder.sample(embeddings[inexact], candidates, temperature=temperature, seed=seed)
    cosines = _cosines(encoder, drawn.texts, wanted[inexact].repeat_interleave(candidates, dim=0))
    best, chosen = cosines.view(len(inexact), candidates).max(dim=1)
    return _replaced(greedy, drawn, inexact, chosen, best > near[inexact])


def _cosines(encoder: TextEncoder, texts: Sequence[str], wanted: Float[Tensor, "T k"]) -> Float[Tensor, "T"]:
    """Compute each text's cosine with the given embedding; -1 for an empty text."""
    distinct = list(dict.fromkeys(text for text in texts if text))
    found = wanted.new_full((len(texts),), -1.0)
    if not distinct:
        return found
    vectors = encoder.encode(distinct).to(wanted)
    index = {text: i for i, text in enumerate(distinct)}
    rows = [row for row, text in enumerate(texts) if text]
    found[rows] = (vectors[[index[texts[row]] for row in rows]] * wanted[rows]).sum(dim=-1)
    return found


def _replaced(greedy: Decoded, drawn: Decoded, inexact: Tensor, chosen: Tensor, better: Tensor) -> Decoded:
    """Replace greedy texts by the chosen draws where these are better."""
    texts, ids, log_probs = list(greedy.texts), list(greedy.ids), greedy.log_probs.clone()
    candidates = len(drawn.texts) // len(inexact)
    for index, row in enumerate(inexact.tolist()):
        if better[index]:
            number = index * candidates + int(chosen[index])
            texts[row], ids[row], log_probs[row] = (
                drawn.texts[number],
                drawn.ids[number],
                drawn.log_probs[number],
            )
    return Decoded(texts, ids, log_probs)
