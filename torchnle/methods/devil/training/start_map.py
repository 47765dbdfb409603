"""The map at which DeViL's training starts: loaded, or fitted to the training captions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from torchnle.backbones import Backbone
from torchnle.data import Mixture
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
from torchnle.methods.aligned.fit import fit_captions
from torchnle.methods.aligned.reader import Reader
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.devil.training.settings import Map
from torchnle.training import processes
from torchnle.training.recipe import Vision
from torchnle.translators.serialization import CONFIG
from torchnle.vision import taps

_BATCH = 32


def start_map(
    settings: Map, vision: Vision, backbone: Backbone, data: Mixture, folder: Path, *, progress: bool = False
) -> MapTranslator:
    """Load the map that a recipe names, or fit one to its data and save it.

    Args:
        settings: The recipe's table [map].
        vision: The recipe's table [vision].
        backbone: The vision model.
        data: The training data.
        folder: The folder of the fitted map, from which a resumed run loads it.
        progress: Show a progress bar.

    Raises:
        ValueError: If the folder holds a map that was fitted with other settings.
    """
    if settings.reference:
        return _with_decoder(MapTranslator.from_pretrained(settings.reference), settings.decoder)
    by = json.dumps([asdict(settings), asdict(vision), data.fingerprint], sort_keys=True)
    with processes.state().main_process_first():
        if (folder / CONFIG).is_file():
            return _saved_map(folder, by)
        fitted = _fit(settings, vision, backbone, data, progress)
        fitted.card["fitted by"] = by
        fitted.save_pretrained(folder)
        fitted.reference = str(folder.resolve())
    return fitted


def _with_decoder(found: MapTranslator, decoder: str) -> MapTranslator:
    """A map with a text decoder: its own, or the one that the recipe names."""
    if found.decoder is None:
        found.decoder = TextDecoder.from_pretrained(decoder)
    return found


def _saved_map(folder: Path, by: str) -> MapTranslator:
    found = MapTranslator.from_pretrained(folder)
    if found.card.get("fitted by") != by:
        raise ValueError(
            f"the map in '{folder}' was fitted by another recipe or to other data; pass another output, or "
            "delete it."
        )
    return found


def _fit(settings: Map, vision: Vision, backbone: Backbone, data: Mixture, progress: bool) -> MapTranslator:
    decoder = TextDecoder.from_pretrained(settings.decoder)
    names = backbone.class_names if settings.classes else ()
    head = find_head(backbone.model, example_for(backbone.model), len(names)) if names else None
    step = max(1, -(-len(data) // settings.images))
    numbers = range(0, len(data), step)
    batches, total = _batches(backbone, data, numbers), -(-len(numbers) // _BATCH)
    shown = tqdm(batches, desc="fitting the map", total=total, disable=not progress)
    return fit_captions(
        Reader(
            backbone.model.to(processes.state().device), taps.resolve(backbone.model, list(vision.layers))
        ),
        iter(shown),
        TextEncoder.from_pretrained(decoder.encoder),
        head=head,
        class_names=names,
        decoder=decoder,
    )


def _batches(backbone: Backbone, data: Mixture, numbers: Sequence[int]) -> Iterator[tuple[Tensor, list[str]]]:
    """Images and the first caption of each; one that cannot be read is left out, and training names it."""
    for start in range(0, len(numbers), _BATCH):
        images, captions = [], []
        for number in numbers[start : start + _BATCH]:
            try:
                pair = data[number]
            except ValueError:
                continue
            images.append(backbone.preprocess(pair.image))
            captions.append(pair.captions[0])
        if images:
            yield torch.stack(images).to(processes.state().device), captions
