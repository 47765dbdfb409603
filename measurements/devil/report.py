"""DeViL's tables as Markdown, with the paper's figures and the differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchnle.evaluation.paper import FIGURE_7, TABLE_2, TABLE_4
from torchnle.evaluation.record import table


def page(data: Mapping[str, Any]) -> str:
    """Format "table_2", "table_4" and "figure_7" of `data`, as far as there, with the paper's."""
    parts = [f"# DeViL's tables on {data['scenes']['count']} composed scenes", _DIFFERS]
    if "table_2" in data:
        parts += ["## Table 2: dropout", _table_2(data["table_2"])]
    if "table_4" in data:
        parts += ["## Table 4: words by layer", _table_4(data["table_4"])]
    if "figure_7" in data:
        parts += ["## Figure 7: the crop that fits the central sentence best", _figure_7(data)]
    return "\n\n".join(parts)


def _table_2(found: Mapping[str, Any]) -> str:
    rows: list[list[Any]] = []
    for layers in ("last", "all"):
        for dropout, scores in found.items():
            ours = [100 * scores[layers][name] for name in ("bleu4", "meteor", "rouge_l", "cider")]
            paper = TABLE_2.get((dropout, layers))
            rows.append([dropout, layers, *ours, _joined(paper[:4] if paper else ())])
    return table(["dropout", "layers", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "the paper's four"], rows)


def _table_4(found: Mapping[str, Any]) -> str:
    ours: list[list[Any]] = [
        [layer, 100 * row["adjectives"], 100 * row["verbs"], row["unique"], _percent(row.get("cider"))]
        for layer, row in found.items()
    ]
    paper = [[f"the paper's {model}, layer {layer}", *row] for (model, layer), row in TABLE_4.items()]
    return table(["layer", "adjectives %", "verbs %", "different words", "CIDEr"], [*ours, *paper])


def _figure_7(data: Mapping[str, Any]) -> str:
    found = data["figure_7"]
    sides = list(next(iter(found.values())))
    rows = [[layer, *shares.values()] for layer, shares in found.items()]
    note = f"Judged by `{data['scorer']}`. The paper: {FIGURE_7}"
    return f"{note}\n\n{table(['sentence of', *(f'{side} px' for side in sides)], rows)}"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _joined(values: tuple[float, ...]) -> str:
    return ", ".join(map(str, values)) or "-"


_DIFFERS = (
    "Numbers are in percent as in the paper. It captions CC3M's photographs of the web, each with one "
    "caption; here they are composed scenes with captions of a grammar, in every order of the objects, so "
    "scores are higher and vocabularies smaller, and only the differences between rows compare. METEOR is "
    "NLTK's without synonyms where the paper's is Java's 1.5; SPICE needs Java (`java_scores`)."
)
