"""The page of a run over scenes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchnle.evaluation.record import table

_RATES = ("local", "whole", "elsewhere", "shuffled")
_MEASURES = ("strict", "within_15", "energy", "iou")


def page(data: Mapping[str, Any]) -> str:
    """Format naming, pointing and captions as Markdown tables."""
    scenes, layers = data["scenes"], data["layers"]
    parts = [
        f"# `{data['translator']}` on composed scenes",
        f"{scenes['count']} scenes of {scenes['objects'][0]} to {scenes['objects'][1]} objects (seed "
        f"{scenes['seed']}), {scenes['phrases']} phrases, maps on {scenes['maps']}; sentences are compared "
        f"through `{data['encoder']}`.",
        "## Local naming",
        "The share of objects that a sentence names: the one for their own location, the one for the whole "
        "image, the one at another object of the scene, and those of other scenes (the shuffled control).",
        table(["layer", "by", *_RATES, "probe at the location"], _naming_rows(layers)),
        "## Pointing",
        "Strict: the map's maximum lies in the object's box; within 15 pixels of it; the energy inside; the "
        "best overlap. A text's prior and length alone cannot change where its map is highest.",
        table(["layer", "saliency", *_MEASURES], _pointing_rows(data)),
        "## Captions of whole images",
        table(["layer", *_scores(layers)], _caption_rows(layers)),
    ]
    return "\n\n".join(parts)


def _naming_rows(layers: Mapping[str, Any]) -> list[list[Any]]:
    return [
        [layer, kind.replace("_", " "), *(rates[name] for name in _RATES), _probed(found, kind)]
        for layer, found in layers.items()
        for kind, rates in found["naming"].items()
    ]


def _probed(found: Mapping[str, Any], kind: str) -> float | None:
    """Format the probe's row."""
    return found["probe"]["named"] if found["probe"] and kind == "nearest_phrase" else None


def _pointing_rows(data: Mapping[str, Any]) -> list[list[Any]]:
    rows = []
    for layer, found in data["layers"].items():
        for variant, measures in (found["pointing"] or {}).items():
            rows.append([layer, variant, *(measures[name] for name in _MEASURES)])
        if found["probe"]:
            rows.append([layer, "ridge probe", *(found["probe"][name] for name in _MEASURES)])
    for variant, measures in (data["mean_of_layers"] or {}).items():
        rows.append(["mean of layers", variant, *(measures[name] for name in _MEASURES)])
    return [*rows, ["chance", "", *(data["chance"][name] for name in _MEASURES)]]


def _scores(layers: Mapping[str, Any]) -> list[str]:
    return list(next(iter(layers.values()))["captions"])


def _caption_rows(layers: Mapping[str, Any]) -> list[list[Any]]:
    return [[layer, *found["captions"].values()] for layer, found in layers.items()]
