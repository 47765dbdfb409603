"""The report: a table of what works, and why not where it does not, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torchnle.evaluation.architectures.catalogue import Case
from torchnle.evaluation.architectures.paper import PAPER
from torchnle.evaluation.architectures.run import load
from torchnle.evaluation.record import setting

#: Where the records are kept, under the output folder.
FINISHED = Path("results") / "architectures.jsonl"


def write_report(output: Path, cases: Iterable[Case]) -> str:
    """Write architectures.md and results/architectures.json from the records of the sweep.

    Args:
        output: The folder that holds the records under `FINISHED`.
        cases: What was to be tried: a model that stands in two groups counts in both.

    Returns:
        The summary, a line a group.
    """
    records = load(output / FINISHED)
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        if case.key in records:
            groups.setdefault(case.group, []).append(records[case.key] | {"note": case.note})
    data = {"setting": setting(), "groups": groups}
    results = output / FINISHED.with_suffix(".json")
    results.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (output / "architectures.md").write_text(_page(data), encoding="utf-8")
    return "\n".join(_summary(group, found) for group, found in groups.items())


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
    seconds = sum(record.get("seconds", 0) for records in groups.values() for record in records)
    parts = [
        _PREFACE,
        "\n".join(f"- {_summary(group, records)}" for group, records in groups.items()),
        f"\nMade by `torchnle evaluate architectures` in {seconds / 60:.0f} minutes on one thread "
        f"({setting['machine']}; Python {setting['python']}; {versions}; commit {setting['commit']}).\n",
        _exceptions(groups),
        *(_table(group, records) for group, records in groups.items()),
    ]
    return "\n".join(parts)


def _exceptions(groups: Mapping[str, list[dict[str, Any]]]) -> str:
    lines = [
        f"- `{record['key']}` ({record['status']}): {' '.join(record['problems'])}"
        for records in groups.values()
        for record in records
        if record["status"] != "works"
    ]
    return "\n".join(["## Exceptions\n", *(lines or ["None."]), ""])


def _table(group: str, records: list[dict[str, Any]]) -> str:
    header = "| model | layers: width on grid | tokens dropped | other sizes | head |\n|---|---|---|---|---|"
    return "\n".join([f"## {group}\n", header, *map(_row, records), ""])


def _row(record: Mapping[str, Any]) -> str:
    name = f"`{record['key']}`" + (f" ({record['note']})" if record["note"] else "")
    layers = record.get("layers", [])
    shown = "; ".join(f"`{f['name']}` {f['width']} on {f['grid'][0]}x{f['grid'][1]}" for f in layers)
    dropped = max((f["num_prefix_tokens"] for f in layers), default=0)
    sizes = "; ".join(f"{size}: {_short(said)}" for size, said in record.get("sizes", {}).items())
    mark = "" if record["status"] == "works" else f"**{record['status']}** "
    return f"| {mark}{name} | {shown} | {dropped} | {sizes} | {_head(record.get('head', ''))} |"


def _short(outcome: str) -> str:
    return "not taken" if outcome.startswith("not taken") else outcome


def _head(said: str) -> str:
    """A head is "name, reading of layer"; anything else is a refusal."""
    return "none" if "Error: " in said or not said else f"`{said.split(', ')[0]}`, {said.split(', ')[1]}"


_PREFACE = """# Which architectures torchnle attaches to

Every model is built with random weights and used as it is: suggested layers are found by one dry run
(`suggest_layers`), described as a whole, at one place and at every place, a text is scored and attributed.
Checked: shapes, grids, dropped tokens, finite values, a batch against one image alone (1e-4), the order of
the places (what changes in a quarter of the input must change that quarter of the grid), that no hook stays
and that every bit and flag of the model is as before. Words mean nothing on random weights; the way to them
is what is tried.

"Other sizes" are inputs that are not square, large or odd; "not taken" means that the bare model refuses
them. "Head" is the class head found by numbers (`find_head`) and how its input is read: the mean over places,
the first token, or none (whole images only).
"""
