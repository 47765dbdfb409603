"""Maps of texts on any number of pictures, on the grid of a layer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from torchnle.attr.dataset.lines import Line, Lines
from torchnle.attr.dataset.picture_list import Given
from torchnle.attr.dataset.run import Answer, Draw, Options, Work, run
from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.language.texts import as_texts
from torchnle.public_calls import checked


@checked
def saliency_dataset(
    lang: LanguageAttribution[Any],
    files: Given,
    texts: str | Sequence[str],
    *,
    batch_size: int | None = None,
    workers: int = 0,
    journal: str | os.PathLike[str] | None = None,
    process: int | None = None,
    processes: int | None = None,
    draw: Draw | None = None,
) -> Lines:
    """Map texts on pictures one batch after the other, as `describe_dataset` describes them.

    Args:
        lang: Made with `LanguageAttribution.from_backbone`; its one layer has a grid.
        files: As `describe_dataset`.
        texts: The texts; a single string is one.
        batch_size: As `describe_dataset`.
        workers: As `describe_dataset`.
        journal: As `describe_dataset`.
        process: As `describe_dataset`.
        processes: As `describe_dataset`.
        draw: As `describe_dataset`; called with the maps (texts, rows, columns).

    Returns:
        `Lines`, one per picture: "file", and "texts", a list of "text", "mean", "max", its "peak" (row,
        column) and the "map" of raw scores; or "error".

    Raises:
        ValueError: As `describe_dataset`; or if the layer has no grid, or there is no text.

    Example:
        >>> lines = saliency_dataset(lang, "photographs", ["a face", "grass"])  # doctest: +SKIP
        >>> next(lines)["texts"][0]["peak"]  # doctest: +SKIP
        [2, 4]
    """
    listed = as_texts(texts)

    def answer(x: Tensor) -> Iterator[Answer]:
        for maps in lang.saliency(x, listed, interpolate_mode=None):
            yield {"texts": [mapped(text, values) for text, values in zip(listed, maps, strict=True)]}, maps

    options = Options(batch_size, workers, journal, process, processes, draw)
    return run(lang, files, Work("maps", answer, {"texts": list(listed)}), options)


def mapped(text: str, values: Tensor) -> Line:
    """Return a map of a text as plain values.

    Example:
        >>> import torch
        >>> mapped("sky", torch.tensor([[0.0, 1.0]]))["peak"]
        [0, 1]
    """
    peak = divmod(int(values.argmax()), values.shape[1])
    mean, most = values.mean().item(), values.max().item()
    return {"text": text, "mean": mean, "max": most, "peak": list(peak), "map": values.tolist()}
