"""The report of the sweep: a table of results and reasons, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measurements.architectures.paper import PAPER
from measurements.architectures.run import load
from torchnle.evaluation.record import setting

#: The folder of records, under the output folder.
FINISHED = Path("results") / "architectures.jsonl"
#: The message of `find_head` for models that give no vector an image.
_NO_LOGITS = "a classifier gives logits of shape"
#: The groups in the order of the page; others follow.
_ORDER = (
    "Zero-shot NLE", "torchvision classifiers", "timm families", "open_clip towers", "transformers",
    "torchvision backbones",
)  # fmt: skip


def write_report(output: Path) -> str:
    """Write architectures.md and results/architectures.json from the records of the sweep; builds no model.

    Args:
        output: The folder that holds the records under `FINISHED`.

    Returns:
        The summary, a line a group.
    """
    groups: dict[str, list[dict[str, Any]]] = {group: [] for group in _ORDER}
    for record in load(output / FINISHED).values():
        for group, note in record["groups"].items():  # a model in two groups counts in both
            groups.setdefault(group, []).append(record | {"note": note})
    data = {"setting": setting(), "groups": {group: found for group, found in groups.items() if found}}
    results = output / FINISHED.with_suffix(".json")
    results.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (output / "architectures.md").write_text(_page(data), encoding="utf-8")
    return "\n".join(_summary(group, found) for group, found in groups.items() if found)


def _summary(group: str, records: list[dict[str, Any]]) -> str:
    works = [record for record in records if record["status"] == "works"]
    if group == "Zero-shot NLE":
        count = sum(len(record["note"].split(", ")) for record in works)
        return f"{group}: {count} of {len(PAPER)} models ({len(works)} of {len(records)} architectures)"
    tried = [record for record in records if record["status"] != "not tried"]
    rest = len(records) - len(tried)
    return f"{group}: {len(works)} of {len(tried)}" + (f" ({rest} not tried)" if rest else "")


def _page(data: Mapping[str, Any]) -> str:
    setting, groups = data["setting"], data["groups"]
    versions = ", ".join(f"{name} {number}" for name, number in setting["versions"].items())
    parts = [
        _PREFACE,
        "\n".join(f"- {_summary(group, found)}" for group, found in groups.items()),
        f"\n{_time(groups)} ({setting['machine']}; Python {setting['python']}; {versions}; commit "
        f"{setting['commit']}).\n",
        _exceptions(groups),
        _heads(groups),
        *(_table(group, records) for group, records in groups.items()),
    ]
    return "\n".join(parts)


def _time(groups: Mapping[str, list[dict[str, Any]]]) -> str:
    """Format the duration of the sweep; processor time only if every record has it."""
    records = {record["key"]: record for found in groups.values() for record in found}.values()
    tried = [record for record in records if record["status"] != "not tried"]
    made = f"Made by `python -m measurements architectures`, {len(tried)} models one at a time:"
    wall = sum(record.get("seconds", 0) for record in tried) / 60
    by_clock = f"{made} {wall:.0f} minutes of wall-clock time, on a machine shared with other work"
    if not all("processor_seconds" in record for record in tried):
        return by_clock
    busy = sum(record["processor_seconds"] for record in tried) / 60
    return f"{by_clock}, {busy:.0f} minutes of processor time"


def _exceptions(groups: Mapping[str, list[dict[str, Any]]]) -> str:
    unlike = {r["key"]: r for records in groups.values() for r in records if r["status"] != "works"}
    lines = [f"- `{r['key']}` ({r['status']}): {' '.join(r['problems'])}" for r in unlike.values()]
    return "\n".join(["## Exceptions\n", *(lines or ["None."]), ""])


def _heads(groups: Mapping[str, list[dict[str, Any]]]) -> str:
    """Format the heads that were read, and the reasons for those that were not."""
    found = {r["key"]: r["head"] for records in groups.values() for r in records if r.get("head")}
    maps = [key for key, outcome in found.items() if _NO_LOGITS in outcome]
    refused = {key: outcome for key, outcome in found.items() if "Error: " in outcome and key not in maps}
    features = [outcome for outcome in found.values() if outcome.startswith("(features)")]
    whole = [key for key, outcome in found.items() if ", none of " in outcome]
    heads = len(found) - len(refused) - len(features) - len(maps)
    lines = [f"- `{key}`: {outcome.partition('Error: ')[2]}" for key, outcome in refused.items()]
    return "\n".join(
        [
            "## Heads\n",
            f"{heads} linear heads were found and reproduce the model's output (1e-3); for CLIP's towers "
            f"these are projections. For {len(features)} encoders the path from a layer to their features "
            f"was found. {len(maps)} models return maps or tokens only (backbones of detection, some towers)."
            f" Described as whole images only: {', '.join(f'`{key}`' for key in whole) or 'none'}. "
            "No head was found for:\n",
            *(lines or ["None."]),
            "",
        ]
    )


def _table(group: str, records: list[dict[str, Any]]) -> str:
    header = "| model | layers: width on grid | tokens dropped | other sizes | head |\n|---|---|---|---|---|"
    return "\n".join([f"## {group}\n", header, *map(_row, records), ""])


def _row(record: Mapping[str, Any]) -> str:
    name = f"`{record['key']}`" + (f" ({record['note']})" if record["note"] else "")
    layers = record.get("layers", [])
    shown = "; ".join(f"`{f['name']}` {f['width']} on {f['grid'][0]}x{f['grid'][1]}" for f in layers)
    dropped = max((f["num_prefix_tokens"] for f in layers), default=0)
    shown += f"; {record['order']}" if record.get("order") else ""
    sizes = "; ".join(f"{size}: {_short(outcome)}" for size, outcome in record.get("sizes", {}).items())
    mark = "" if record["status"] == "works" else f"**{record['status']}** "
    return f"| {mark}{name} | {shown} | {dropped} | {sizes} | {_head(record.get('head', ''))} |"


def _short(outcome: str) -> str:
    return "not taken" if outcome.startswith("not taken") else outcome


def _head(outcome: str) -> str:
    """Format a head, which is "name, reading of layer"; other texts are refusals."""
    if "Error: " in outcome or not outcome:
        return "none"
    name, _, how = outcome.partition(", ")
    return f"{name} {how}" if name == "(features)" else f"`{name}`, {how}"


_PREFACE = """# Supported architectures

Every model is built with random weights and used without changes. Suggested layers are found by one dry run
(`suggest_layers`). The whole image, one location and all locations are described, and a text is scored and
attributed. Words have no meaning on random weights; the sweep tests the code path. It checks

- shapes, grids, dropped tokens and finite values;
- a batch against its images one by one (1e-4);
- the order of locations: a change in a quarter of the input must change the same quarter of the grid;
- that no hook stays, and that every weight and flag of the model is unchanged.

In the tables, "other sizes" are inputs that are not square, large or odd; "not taken" means that the bare
model refuses them. "Head" is the class head that was found (`find_head`), and how its input is read at
locations: as their mean, as one of the first tokens (or several concatenated), as all tokens through a
pooling module or flattened, or none (whole images only). For encoders it is the computation of their feature
vector.
"""
