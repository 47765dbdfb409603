"""Export: the explorer's page with all its answers on a few photographs inside, to be opened from disk."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from torchnle.explorer.explorer import Explorer, as_answer, checked_texts
from torchnle.explorer.page import static_page
from torchnle.explorer.photos import Photo
from torchnle.views import html
from torchnle.views.plots import check_folder

#: So many suggested concepts can be switched off on an exported page, in any combination.
_SWITCHED = 4


def export(explorer: Explorer, folder: str | os.PathLike[str], texts: Sequence[str] = ()) -> Path:
    """Write the page of the photographs that an explorer was given, with every location's words.

    Args:
        explorer: The explorer.
        folder: Where to.
        texts: The texts that are mapped; others cannot be computed from disk.

    Returns:
        The page.

    Raises:
        ValueError: If there is no photograph, or the folder cannot be written.
    """
    if not explorer.photos.given:
        raise ValueError("there is no photograph to export; pass at least one.")
    check_folder(Path(folder))
    return html.write(Path(folder) / "index.html", static_page(answers(explorer, texts)))


def answers(explorer: Explorer, texts: Sequence[str] = ()) -> dict[str, Any]:
    """Collect what the page may ask of the given photographs."""
    from torchnle.explorer.server import start_of

    checked = checked_texts(list(texts)) if texts else []
    phrases: dict[str, int] = {}
    photos = {
        photo.key: _answers_of(explorer, photo, checked, phrases) for photo in explorer.photos.given.values()
    }
    return {
        "start": start_of(explorer) | {"units": None, "texts": checked},
        "photos": photos,
        "phrases": list(phrases),
    }


def _answers_of(
    explorer: Explorer, photo: Photo, texts: list[str], phrases: dict[str, int]
) -> dict[str, Any]:
    picture = base64.b64encode(photo.jpeg).decode()
    return {
        "picture": f"data:image/jpeg;base64,{picture}",
        "about": explorer.about(photo.key),
        "words": {layer: _words(explorer, photo, layer, phrases) for layer in explorer.layers},
        "sentences": _sentences(explorer, photo),
        "maps": explorer.maps(photo.key, texts) if texts else None,
        "classes": _classes(explorer, photo),
    }


@torch.no_grad()
def _words(explorer: Explorer, photo: Photo, layer: str, phrases: dict[str, int]) -> dict[str, Any]:
    """Answer for the whole picture and every location, phrases as numbers in the common list."""

    def compact(answer: dict[str, Any]) -> list[Any]:
        numbers = [[phrases.setdefault(text, len(phrases)), round(p, 3)] for text, p in answer["phrases"]]
        text, probability = phrases.setdefault(answer["text"], len(phrases)), answer["probability"]
        shown = None if probability is None else round(probability, 3)
        return [text, shown, int(answer["unsure"]), round(answer["score"], 2), numbers[:4]]

    whole = explorer.words(photo.key, layer, None)
    return {
        "kind": whole["kind"],
        "whole": compact(whole),
        "cells": [compact(as_answer(each)) for each in explorer.every(photo.key, layer)],
    }


def _sentences(explorer: Explorer, photo: Photo) -> dict[str, Any]:
    if not explorer.sentences.offered:
        return {}
    return {layer: explorer.sentence(photo.key, layer, None) for layer in explorer.layers}


def _classes(explorer: Explorer, photo: Photo) -> dict[str, Any]:
    """Answer for every combination of the first suggested concepts, by their names, sorted and joined."""
    if explorer.concepts is None:
        return {}
    offered = explorer.classes(photo.key, [])["concepts"][:_SWITCHED]
    chosen = [list(some) for n in range(len(offered) + 1) for some in combinations(offered, n)]
    found = {"\n".join(sorted(some)): explorer.classes(photo.key, some) for some in chosen}
    return {key: answer | {"concepts": offered} for key, answer in found.items()}
