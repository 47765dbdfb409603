"""Measure the cost of labelling a whole layer: 1,280 units from a folder of images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from torchnle.backbones import Backbone
from torchnle.evaluation.scenes.data import composed
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.candidates.local_chat import LocalChat
from torchnle.methods.dissect.candidates.summarisers import ChatSummariser
from torchnle.methods.dissect.labels import Dissection
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.run import dissect

#: The paper's seconds a unit, on a V100 (A.10).
PAPER = 38.8


def measure(
    backbone: Backbone,
    translator: MapTranslator,
    stamps: Path,
    folder: Path,
    *,
    count: int = 2000,
    timed: int | None = None,
    chat_units: int = 3,
    progress: bool = False,
) -> dict[str, Any]:
    """Time probing, labelling without a language model, and a few units with the embedded one.

    Args:
        backbone: The model; its last map is labelled.
        translator: Its map, which reads that layer.
        stamps: The cut-outs that the images are made of.
        folder: Where images and results are kept.
        count: How many images.
        timed: So many are probed, and their seconds counted up to all: probing is linear in them. None = all.
        chat_units: Units that the language model summarises.
        progress: Whether bars show.
    """
    shown = pictures(stamps, folder, timed or count)
    layer = translator.layers[-1]
    images = ProbingSet(shown, backbone.preprocess)
    options: dict[str, Any] = {"translator": translator, "cache": folder / "cost", "progress": progress}
    for old in (folder / "cost").glob("*"):
        old.unlink()
    first, probing = _timed(lambda: dissect(backbone.model, layer, images, only=[0], **options))
    found, labelling = _timed(lambda: dissect(backbone.model, layer, images, **options))
    chat = ChatSummariser(LocalChat())
    summarised, asking = _timed(
        lambda: dissect(backbone.model, layer, images, only=range(chat_units), summariser=chat, **options)
    )
    probed = {name: seconds * count / len(images) for name, seconds in probing.items()}
    total = probed["processor"] + labelling["processor"]
    return {
        "threads": torch.get_num_threads(),
        "allocator": " ".join(f"{n}={v}" for n, v in sorted(os.environ.items()) if n.startswith("MALLOC_")),
        "images": count,
        "units": len(found),
        "images_that_probing_is_timed_on": len(images),
        "probing_of_all": probed,
        "labelling_after_probing": labelling,
        "processor_seconds": total,
        "processor_seconds_a_unit": total / len(found),
        "chat_processor_seconds_a_unit": asking["processor"] / chat_units,
        "paper_seconds_a_unit": PAPER,
        "same_labels_when_resumed": first[0] == found[0],
        "with_chat": [[found[u].text, label.text, label.note] for u, label in enumerate(summarised)],
        "examples": [str(label) for label in found[:20]],
    }


def pictures(stamps: Path, folder: Path, count: int) -> Path:
    """Make a folder of composed scenes as image files, once."""
    shown = folder / f"pictures-{count}"
    if not shown.is_dir():
        partial = folder / f"pictures-{count}.part"
        partial.mkdir(parents=True, exist_ok=True)
        for number, scene in enumerate(composed(stamps, length=count, objects=(1, 3), seed=77)):
            scene.image.save(partial / f"{number:05}.jpg", quality=90)
        partial.rename(shown)
    return shown


def _timed(work: Callable[[], Dissection]) -> tuple[Dissection, dict[str, float]]:
    """Return the function's result, and its wall-clock and processor seconds."""
    wall, processor = time.monotonic(), time.process_time()
    found = work()
    return found, {"wall": time.monotonic() - wall, "processor": time.process_time() - processor}
