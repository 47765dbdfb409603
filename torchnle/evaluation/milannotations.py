"""MILANNOTATIONS: descriptions of units against human ones (DeViL, section 4.2; Hernandez et al. 2022).

The data, one folder a network, must be as MILAN's own code reads it: ``annotations.csv`` with the
columns "layer", "unit" and "summary", and a folder for each layer with ``images.npy`` (units, images, 3, H,
W, bytes), ``masks.npy`` (units, images, 1, H, W) and, where not every unit is there in order, ``units.npy``.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.evaluation.paper import MILANNOTATIONS
from torchnle.evaluation.record import table
from torchnle.language.text_encoder import TextEncoder
from torchnle.metrics import bert_score, caption_scores
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features

_COLUMNS = ("layer", "unit", "summary")


@dataclass(frozen=True)
class Unit:
    """A unit with the pictures of its largest activations, and human descriptions of them.

    Args:
        layer: The name of its layer's folder.
        number: Its index in the layer.
        images: The pictures, (K, 3, H, W), uint8.
        masks: Its activation on them, (K, H, W), not negative.
        summaries: The human descriptions.
    """

    layer: str
    number: int
    images: np.ndarray
    masks: np.ndarray
    summaries: tuple[str, ...]


def units(folder: Path) -> Iterator[Unit]:
    """Yield every annotated unit of a folder, layer by layer; pictures are read from disk when used.

    Args:
        folder: The folder of one network's annotations.

    Raises:
        FileNotFoundError: If the annotations, or a layer's pictures or masks are missing.
        ValueError: If a column is missing, arrays do not fit, or no unit is annotated.
    """
    summaries = _summaries(folder / "annotations.csv")
    if not summaries:
        raise ValueError(f"'{folder / 'annotations.csv'}' annotates no unit.")
    for layer in sorted({layer for layer, _ in summaries}):
        images, masks, numbers = _arrays(folder / layer)
        for index, number in enumerate(numbers):
            if descriptions := summaries.get((layer, number)):
                yield Unit(layer, number, images[index], masks[index, :, 0], tuple(descriptions))


def describe_unit(backbone: Backbone, lang: LanguageAttribution, unit: Unit) -> str | None:
    """Describe a unit by one text, from features averaged under the masks and over the pictures.

    A picture whose mask is empty is left out, as in the authors' code.

    Args:
        backbone: The model that reads the pictures.
        lang: The translator attached to it.
        unit: The unit.

    Returns:
        The text; None if all masks are empty.
    """
    nonempty = [index for index, mask in enumerate(unit.masks) if np.any(mask > 0)]
    if not nonempty:
        return None
    preprocess = replace(backbone.preprocess, share=1.0)
    pictures = [Image.fromarray(np.ascontiguousarray(unit.images[p].transpose(1, 2, 0))) for p in nonempty]
    masks = torch.from_numpy(np.array(unit.masks[nonempty], dtype=np.float32))
    with torch.no_grad():
        features = lang.read(torch.stack([preprocess(picture) for picture in pictures]))
    pooled = [_mean(lang.reading.pool(f, masks)) for f in features]
    return lang.translator.describe(rows_of(pooled, joint=len(pooled) > 1))[0].text


def measure(
    folder: Path,
    backbone: Backbone,
    lang: LanguageAttribution,
    encoder: TextEncoder,
    *,
    count: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Describe annotated units and score the descriptions against human ones.

    The caller must exclude the units and networks that a translator was trained on.

    Args:
        folder: One network's annotated pictures.
        backbone: The model that reads the pictures; it need not be the annotated one.
        lang: The translator attached to it; it reads all its layers together.
        encoder: For BERTScore, with idf, on texts in lower case without a full stop.
        count: The largest number of units; None = all.
        progress: Whether to show a progress bar.

    Returns:
        The scores and their setting.

    Raises:
        FileNotFoundError: As `units`.
        ValueError: As `units`, or if every unit's masks are empty.
    """
    texts: list[str] = []
    references: list[list[str]] = []
    empty = 0
    for unit in tqdm(units(folder), total=count, disable=not progress):
        if count is not None and len(texts) == count:
            break
        text = describe_unit(backbone, lang, unit)
        if text is None:
            empty += 1
            continue
        texts.append(_plain(text))
        references.append([_plain(summary) for summary in unit.summaries])
    if not texts:
        raise ValueError(f"the masks of all {empty} units in '{folder}' are empty; nothing can be described.")
    scores = caption_scores(texts, references) | {
        "bert_score": bert_score(texts, references, encoder, idf=True)
    }
    return {
        "translator": lang.translator.name,
        "data": folder.name,
        "units": len(texts),
        "without_mask": empty,
        "encoder": encoder.reference,
        "scores": scores,
        "paper_bert_score": MILANNOTATIONS,
        "examples": list(zip(texts[:8], references[:8], strict=True)),
    }


def page(data: dict[str, Any]) -> str:
    """Format the scores as Markdown, beside those of the paper."""
    paper = ", ".join(f"{name} {score}" for name, score in data["paper_bert_score"].items())
    return (
        f"# `{data['translator']}` on {data['units']} units of {data['data']}\n\n"
        f"{table(list(data['scores']), [list(data['scores'].values())])}\n\n"
        f"BERTScore is of `{data['encoder']}`, with idf and not rescaled. The paper's means over 13 "
        f"experiments are of roberta-large and rescaled ({paper}): they do not compare with it."
    )


def _summaries(path: Path) -> dict[tuple[str, int], list[str]]:
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is not there; it lists layer, unit and summary.")
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
            raise ValueError(f"'{path}' has the columns {rows.fieldnames}; it lacks {missing}.")
        for row in rows:
            if row["summary"].strip():
                found[row["layer"], int(row["unit"])].append(row["summary"])
    return found


def _arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, list[int]]:
    for name in ("images.npy", "masks.npy"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"'{folder / name}' is not there.")
    images, masks = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
    numbers = np.load(folder / "units.npy") if (folder / "units.npy").is_file() else np.arange(len(images))
    fits = images.ndim == masks.ndim == 5 and images.shape[2] == 3 and masks.shape[2] == 1
    if not fits or images.shape[:2] + images.shape[3:] != masks.shape[:2] + masks.shape[3:]:
        raise ValueError(
            f"'{folder}': images {images.shape} and masks {masks.shape} do not fit; (units, images, 3, H, W) "
            "and (units, images, 1, H, W) are expected."
        )
    if images.dtype != np.uint8 or numbers.shape != (len(images),):
        raise ValueError(
            f"'{folder}': images of {images.dtype} and units {numbers.shape} for {len(images)} units; bytes "
            "and one number a unit are expected."
        )
    return images, masks, [int(number) for number in numbers]


def _mean(features: Features) -> Features:
    tokens: Tensor = features.tokens.mean(dim=0, keepdim=True)
    return Features(tokens, features.layer)


def _plain(text: str) -> str:
    return text.strip().rstrip(".").lower() or "nothing"
