"""Build the shipped aligned translator from composed scenes: one pass, one linear solve a layer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from torchnle import backbones, images
from torchnle.attr import LanguageAttribution
from torchnle.data import (
    Cutouts,
    Scenes,
    gradient_backgrounds,
    load_cutouts,
    plain_backgrounds,
    texture_backgrounds,
)
from torchnle.methods.aligned.decoder.corpus import STAMPS
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
from torchnle.translators.base import Translator
from torchnle.vision.taps import LayerChoice

#: The layers of EfficientNet-Lite0 at 28x28, 14x14 and 7x7 locations, the last one behind its activation.
LAYERS = ("_blocks.4", "_blocks.10", "_avg_pooling:input")
#: How often each textured background is listed among the plain ones.
_TEXTURED = 3


def fit_to_scenes(
    output: Path,
    *,
    model: str = "efficientnet-lite0",
    layers: LayerChoice = LAYERS,
    stamps: Path = STAMPS,
    part: Literal["all", "train", "test"] = "all",
    count: int = 8000,
    classes: bool = False,
    adapt: Path | None = None,
    seed: int = 0,
    decoder: TextDecoder | str | None = None,
    batch_size: int = 32,
) -> Translator:
    """Fit a map from text into features to composed scenes and save it with its card.

    Args:
        output: The translator's folder.
        model: The backbone, as the command line names it.
        layers: The layers to map.
        stamps: Captioned cut-outs (Debian's tuxpaint-stamps-default).
        part: The part of them; `Cutouts.split` holds a fifth of them out of "train".
        count: The number of scenes.
        classes: Whether to fit the classifier's class names too.
        adapt: A folder of unlabelled pictures whose statistics are saved with it; None = the scenes'.
        seed: The seed of the scenes.
        decoder: Describes whole pictures in sentences; None = phrases alone.
        batch_size: Scenes in the model at once.

    Raises:
        ValueError: If there are no cut-outs, a layer is not found, or the backbone has no class names to add.
    """
    backbone = backbones.load(model)
    if classes and not backbone.class_names:
        raise ValueError(f"'{model}' has no class names; fit it to the scenes alone (no --classes).")
    cutouts = load_cutouts(stamps)
    scenes = compose(cutouts if part == "all" else cutouts.split(part), count, seed)
    started = time.monotonic()
    lang: LanguageAttribution[Any] = LanguageAttribution.from_captions(
        backbone.model,
        layers,
        _batches(backbone, scenes, batch_size),
        class_names=backbone.class_names if classes else None,
        decoder=decoder,
    )
    if adapt is not None:
        lang.adapt(torch.stack([backbone.preprocess(p)]) for p in images.open_folder(adapt))
    minutes = (time.monotonic() - started) / 60
    translator = lang.translator
    translator.backbone = backbone.name
    translator.card |= {
        "license": "bsd-3-clause",
        "data": (
            f"{count} composed scenes (seed {seed}, one to three of {len(scenes.phrases)} things) from Tux "
            "Paint's stamps (GPL-2, not part of this) on plain, two-coloured and textured backgrounds."
        ),
        "statistics": "of the scenes" if adapt is None else f"of the pictures in {adapt.name}",
        "recipe": f"python -m measurements scenes-map --model {model} --scenes {count} --seed {seed}"
        f"{' --classes' if classes else ''}{'' if part == 'all' else f' --part {part}'}"
        f"{'' if adapt is None else f' --adapt {adapt.name}'}",
        "training time": f"{minutes:.1f} minutes on {torch.get_num_threads()} CPU thread(s)",
        "cannot": (
            f"say what is not among its things{' or a class' * classes} or in its vocabulary; it knows no "
            "actions."
        ),
    }
    translator.save_pretrained(output, dtype=torch.float16)
    return translator


def compose(cutouts: Cutouts, count: int, seed: int, objects: tuple[int, int] = (1, 3)) -> Scenes:
    """Compose the scenes that maps are fitted to; their captions list the objects in random order."""
    grounds = (*plain_backgrounds(), *gradient_backgrounds(), *(texture_backgrounds() * _TEXTURED))
    return Scenes(cutouts, grounds, length=count, objects=objects, seed=seed)


def _batches(
    backbone: backbones.Backbone, scenes: Scenes, batch_size: int
) -> Iterator[tuple[Tensor, Sequence[str]]]:
    for start in range(0, len(scenes), batch_size):
        part = scenes[start : start + batch_size]
        yield torch.stack([backbone.preprocess(s.image) for s in part]), [s.caption for s in part]
