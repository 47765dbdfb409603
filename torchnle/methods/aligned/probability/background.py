"""Descriptions of the background at locations where no phrase is likely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from torchnle.methods.aligned.probability.vocabulary import background_phrases
from torchnle.methods.aligned.text_choice import TextChoice
from torchnle.translators.rows import Rows

if TYPE_CHECKING:
    from torchnle.methods.aligned.translator import MapTranslator


def with_background(translator: MapTranslator, rows: Rows, choices: list[TextChoice]) -> list[TextChoice]:
    """Replace unsure descriptions by a background word where the feature is shorter than the mean location's.

    If layers are read together, the features of all have to be shorter, and their probabilities are averaged.

    Args:
        translator: Gives the maps and the threshold.
        rows: Features of single locations.
        choices: The text of each row, with its probability.

    Returns:
        The texts, some of them replaced ("the sky", "grass").
    """
    shares, short = [], []
    for slot, tokens in rows.tokens.items():
        fitted, features = translator.by_layer[slot], tokens.squeeze(1)
        unit = F.normalize(fitted.whiten(fitted.scaled(features)), dim=1)
        cosines = unit @ translator.text_directions.backgrounds[slot].T
        shares.append((fitted.temperature * cosines).softmax(dim=1))
        short.append(features.float().norm(dim=1) < fitted.location_norm)
    best = torch.stack(shares).mean(dim=0).max(dim=1)
    words, low = background_phrases(), torch.stack(short).all(dim=0).tolist()
    return [
        TextChoice(words[index], share * (1 - each.probability))
        if weak and each.probability < translator.sure_above_at_location
        else each
        for each, weak, share, index in zip(
            choices, low, best.values.tolist(), best.indices.tolist(), strict=True
        )
    ]
