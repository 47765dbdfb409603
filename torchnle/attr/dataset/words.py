"""Dominant words of any number of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torchnle.attr.dataset.lines import Lines
from torchnle.attr.dataset.picture_list import Given
from torchnle.attr.dataset.run import Answer, Draw, Options, Work, run
from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.public_calls import checked

if TYPE_CHECKING:
    from torchnle.methods.texplain.words.table import Split


@checked
def words_dataset(
    lang: LanguageAttribution[Any],
    files: Given,
    *,
    count: int = 10,
    n: int | None = None,
    replacement: bool = False,
    seed: int = 0,
    split: Split | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    journal: str | os.PathLike[str] | None = None,
    process: int | None = None,
    processes: int | None = None,
    draw: Draw | None = None,
) -> Lines:
    """Find the dominant words of pictures one batch after the other, as `describe_dataset` describes them.

    Words that are counted exactly (a map's phrases) are those of `LanguageAttribution.words`. Sentences that
    are drawn depend on the seed and on a picture's index in its batch.

    Args:
        lang: Made with `LanguageAttribution.from_backbone`; one layer is read.
        files: As `describe_dataset`.
        count: How many words per picture.
        n: As `LanguageAttribution.words`.
        replacement: As `LanguageAttribution.words`.
        seed: As `LanguageAttribution.words`.
        split: As `LanguageAttribution.words`.
        batch_size: As `describe_dataset`.
        workers: As `describe_dataset`.
        journal: As `describe_dataset`.
        process: As `describe_dataset`.
        processes: As `describe_dataset`.
        draw: As `describe_dataset`; called with the list of words.

    Returns:
        `Lines`, one per picture: "file", and "words", a list of "text", "frequency", its interval "low" and
        "high", and more of `Word`; or "error".

    Raises:
        TypeError: If the translator can neither write nor give probabilities of phrases.
        ValueError: As `describe_dataset` and `LanguageAttribution.words`.

    Example:
        >>> lines = words_dataset(lang, "photographs", count=3)  # doctest: +SKIP
        >>> [word["text"] for word in next(lines)["words"]]  # doctest: +SKIP
        ['cat', 'tabby', 'fur']
    """

    def answer(x: Tensor) -> Iterator[Answer]:
        table: Any = lang.words(x, n=n, replacement=replacement, seed=seed, split=split)
        for row in range(len(x)):
            top = table[row : row + 1].top(count)
            yield {"words": [asdict(word) for word in top]}, top

    options = Options(batch_size, workers, journal, process, processes, draw)
    setting: dict[str, Any] = {"count": count, "n": n, "replacement": replacement, "seed": seed}
    if split is not None:
        setting["split"] = getattr(split, "__qualname__", type(split).__name__)
    return run(lang, files, Work("words", answer, setting), options)
