"""The figures of the lens as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from measurements.lens import photographs
from torchnle.evaluation.record import table

_TRANSLATORS = ("class names", "class names, adapted", "scenes")


def page(data: Mapping[str, Any]) -> str:
    """Format the figures as Markdown."""
    parts = ["# Lower layers through the model's own upper part"]
    if "scenes" in data:
        parts += _scenes(data["scenes"])
    if "photographs" in data:
        rows = photographs.rows(data["photographs"])
        parts += [
            "## Photographs, by class names alone",
            "What is said by the layer, right by the judge: at the main thing's location; of the mean of "
            "what all locations are carried to; of the mean of the layer's features. Then whose query is "
            "first among 12 by its map's mean, and whose map peaks in the box.",
            table(["layer", *photographs.KINDS, "first", "in box"], rows),
        ]
    if "costs" in data:
        parts += _costs(data["costs"])
    return "\n\n".join(parts)


def _scenes(found: Mapping[str, Any]) -> list[str]:
    parts = [
        "## Composed scenes",
        f"{found['count']} scenes of two objects (seed {found['seed']}), at each object's central location: "
        f"the phrase of highest cosine among all {found['phrases']}; of held-out objects among the "
        f"{found['held']} held-out phrases; and, of objects that a class is named like, the class name of "
        "highest cosine and the first class of the head's own logits.",
    ]
    for name in _TRANSLATORS:
        if name in found:
            rows = [
                [layer, each["seen"], each["held_out"], each["class"]["right"], each["class"]["first_class"]]
                for layer, each in found[name].items()
            ]
            columns = ["layer", "seen phrases", "held-out phrases", "class name", "head's first class"]
            parts += [f"### The map of the head's layer fitted to: {name}", table(columns, rows)]
    return parts


def _costs(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            layer,
            each["locations"],
            each["operations"],
            *(each[kind][which]["median"] for kind in ("lens", "fitted lens") for which in ("one", "all")),
            each["fit"]["median"],
        ]
        for layer, each in found.items()
        if layer != "forward"
    ]
    columns = ["layer", "locations", "operations", "lens: one", "all", "fitted: one", "all", "its fit"]
    return [
        "## Cost",
        f"Median seconds, the forward of the image included, which alone takes "
        f"{found['forward']['median']:.3f}; operations of one location as a share of a forward's.",
        table(columns, rows),
    ]
