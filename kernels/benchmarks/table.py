"""Write the table of README.md from the results: ``python -m benchmarks.table``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, verdict

_TARGET = Path(__file__).parent / "README.md"
_START, _END = "<!-- results -->", "<!-- end of results -->"


def main() -> None:
    """Replace what stands between the marks."""
    text = _TARGET.read_text(encoding="utf-8")
    before, rest = text.split(_START)
    _, after = rest.split(_END)
    table = "\n".join(_lines())
    _TARGET.write_text(f"{before}{_START}\n\n{table}\n\n{_END}{after}", encoding="utf-8")


def _lines() -> Iterator[str]:
    for path in sorted(RESULTS.glob("*.json")):
        saved = json.loads(path.read_text(encoding="utf-8"))
        yield f"**{path.stem}** ({_machine(saved['machine'])})"
        yield ""
        if path.stem == "memory":
            yield from _memory(saved["jobs"])
        elif path.stem == "end_to_end":
            yield from _shares(saved["jobs"])
        else:
            yield from _times(saved["jobs"])
        yield ""


def _times(jobs: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "| job | ours, s | times faster than | ratio (spread) | agreement |"
    yield "|---|---|---|---|---|"
    for job in jobs:
        ours = job["contenders"][0]["seconds"]
        busy = " (shared machine)" if job["busy"] else ""
        for ratio in job["ratios"]:
            low, high = ratio["spread"]
            yield (
                f"| {job['job']}{busy} | {ours:.3g} | {verdict(ratio).removeprefix('against ')} "
                f"| {ratio['ratio']:.2f} ({low:.2f} to {high:.2f}) | {ratio['agreement']} |"
            )
    notes = [f"{job['job']}: {job['note']}" for job in jobs if job["note"]]
    if notes:
        yield ""
        yield " ".join(notes)


def _memory(jobs: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "| job | contender | MB above the loaded model |"
    yield "|---|---|---|"
    for job in jobs:
        for name, megabytes in job["megabytes"].items():
            yield f"| {job['job']} | {name} | {megabytes:.0f} |"


def _shares(jobs: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "| job | s | share of each part |"
    yield "|---|---|---|"
    for job in jobs:
        busy = " (shared machine)" if job["busy"] else ""
        parts = ", ".join(f"{name} {share:.1%}" for name, share in job["shares"].items())
        yield f"| {job['job']}{busy} | {job['seconds']:.3g} | {parts} |"


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    sets = ", ".join(machine["instruction_sets"])
    name = machine.get("gpu") or f"{machine['processor']}: {sets}; {machine['threads']} thread"
    return (
        f"{name}, "
        f"load {machine['load_average'][0]:.1f}; {versions}; "
        f"commit {machine['commit']}, seed {machine['seed']}"
    )


if __name__ == "__main__":
    main()
