"""Sentences that justify a classifier's predictions on any number of pictures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from typing import Any

from torch import Tensor

from torchnle.attr.dataset.lines import Lines
from torchnle.attr.dataset.picture_list import Given
from torchnle.attr.dataset.run import Answer, Draw, Options, Work, run
from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.public_calls import checked


@checked
def explain_dataset(
    lang: LanguageAttribution[Any],
    files: Given,
    *,
    target: str | int | None = None,
    rather_than: str | int | None = None,
    truth: str | int | None = None,
    unwanted: Collection[str] = (),
    bank: Any = None,
    count: int = 5,
    colours: bool = False,
    batch_size: int | None = None,
    workers: int = 0,
    journal: str | os.PathLike[str] | None = None,
    process: int | None = None,
    processes: int | None = None,
    draw: Draw | None = None,
) -> Lines:
    """Explain a classifier's predictions on pictures one batch after the other, a sentence each.

    Args:
        lang: Made with `LanguageAttribution.from_backbone`, of a classifier.
        files: As `describe_dataset`.
        target: As `LanguageAttribution.explain`, one for all pictures.
        rather_than: As `LanguageAttribution.explain`.
        truth: As `LanguageAttribution.explain`.
        unwanted: Words that must not be used.
        bank: The concepts, as `LanguageAttribution.concepts`.
        count: How many concepts per picture.
        colours: As `LanguageAttribution.explain`.
        batch_size: As `describe_dataset`.
        workers: As `describe_dataset`.
        journal: As `describe_dataset`.
        process: As `describe_dataset`.
        processes: As `describe_dataset`.
        draw: As `describe_dataset`; called with the `Explanation`.

    Returns:
        `Lines`, one per picture: "file", "said", the fields of `Explanation`, and "concepts", pairs of a text
        and a score; or "error".

    Raises:
        TypeError: If the translator was not fitted to a classifier.
        ValueError: As `describe_dataset` and `LanguageAttribution.explain`.

    Example:
        >>> lines = explain_dataset(lang, "photographs")  # doctest: +SKIP
        >>> next(lines)["said"]  # doctest: +SKIP
        'prediction: king penguin because it shows a penguin with a black beak'
    """
    from torchnle.methods.zero_shot.banks import as_bank

    phrases = as_bank(bank)
    contrast: dict[str, Any] = {"target": target, "rather_than": rather_than}

    def answer(x: Tensor) -> Iterator[Answer]:
        features = lang.read(x)  # once for both
        whys = lang.explain(features, truth=truth, unwanted=unwanted, colours=colours, **contrast)
        shown = lang.concepts(features, phrases, count=count, **contrast)
        for why, concepts in zip(whys, shown, strict=True):
            found = [[text, score] for text, score in concepts.found]
            fields = json.loads(json.dumps(why.to_dict()))  # as a journal gives them back
            del fields["image"]  # its index in the batch
            yield {"said": str(why), **fields, "concepts": found}, why

    options = Options(batch_size, workers, journal, process, processes, draw)
    setting = {
        **contrast,
        "truth": truth,
        "unwanted": sorted(unwanted),
        "bank": _mark(phrases),
        "count": count,
        "colours": colours,
    }
    return run(lang, files, Work("explanations", answer, setting), options)


def _mark(phrases: Collection[str]) -> str:
    """Return a hash of phrases."""
    return hashlib.sha256(json.dumps(list(phrases)).encode()).hexdigest()[:16]
