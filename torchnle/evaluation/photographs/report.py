"""The page on photographs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchnle.evaluation.record import table

_ROWS = {
    "classifier": "the classifier's first class",
    "classifier_squeezed": "the same, of pictures squeezed whole into the input",
    "said": "the whole picture",
    "said_at_place": "the main object's location",
    "said_elsewhere": "other locations",
}


def page(data: Mapping[str, Any]) -> str:
    """Format the figures as Markdown."""
    maps, grids = data["maps"], data["grids"]
    rows = [[name, *_figures(data["rates"][kind])] for kind, name in _ROWS.items()]
    rows.append(["the middle of each quarter of grids", *_figures(grids["said"])])
    header = ["said of", "texts", "right", "right and not too general", "wrong", "of these not marked unsure"]
    return "\n\n".join(
        [
            f"# `{data['translator']}` on {data['photographs']} photographs",
            f"Layer `{data['layer']}`; statistics: {data['statistics']}. The whole picture is read in the "
            f"backbone's own view ({_view(data['view'])}); locations, maps and grids with the picture "
            "squeezed whole into the input. A text is judged by the head nouns of its parts: right where one "
            "is a word of the truth, or lies above or below an exact word in WordNet; too general where it "
            "has more than 1,000 kinds below it. AUROC is that of the probability, or else of the raw score, "
            "between right and wrong texts.",
            table([*header, "right ones marked", "AUROC"], rows),
            table(["maps", "hits", "of", "by chance"], _map_rows(maps, grids)),
            f"The other texts of a rank are other photographs' queries that are wrong here (seed "
            f"{data['seed']}). The {grids['count']} grids are of the {grids['photographs']} photographs that "
            "the classifier names rightly when they are squeezed so.",
        ]
    )


def _map_rows(maps: Mapping[str, Any], grids: Mapping[str, Any]) -> list[list[Any]]:
    quarters = grids["said"]["count"]
    return [
        ["true text first of 12 by the map's mean", maps["first"], maps["of"], maps["first_by_chance"]],
        ["peak in the box", maps["in_box"], maps["pointed"], maps["in_box_by_chance"]],
        ["peak in the own quarter of a grid", grids["in_quarter"] * quarters, quarters, quarters / 4],
    ]


def _view(view: Mapping[str, Any]) -> str:
    crop = f"a centred square of {view['share']:g} of the shorter side"
    return crop if view["fit"] == "crop" else "squeezed as well"


def _figures(found: Mapping[str, float]) -> list[float]:
    keys = ("count", "right", "useful", "wrong", "wrong_not_unsure", "right_unsure", "auroc")
    return [found[key] for key in keys]
