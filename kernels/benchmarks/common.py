"""Measure contenders in one process, in interleaved rounds, once their outputs are known to agree."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
SEED = 0

#: Above this ratio of wall time to processor time something else held the processor, and a time means little.
BUSY = 1.3
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


class BusyError(RuntimeError):
    """The machine was shared while something was measured."""


class DisagreementError(RuntimeError):
    """Two contenders did not compute the same."""


@dataclass(frozen=True)
class Contender:
    """One way to do a job.

    Args:
        name: What the table calls it.
        run: Does the job, or a part of it, and returns its output.
        share: The part of the job that `run` does; its time is divided by it.
    """

    name: str
    run: Callable[[], Any]
    share: float = 1.0


@dataclass(frozen=True)
class Job:
    """A job, torchnle's way to do it, and the other ways.

    Args:
        name: What the table calls it.
        ours: torchnle's way.
        peers: The others.
        agree: Compares our output with a peer's; returns the difference in words, or raises
            `DisagreementError`.
        targets: For a peer's name, how many times its time should be ours.
        note: What a reader must know: sizes, what was sampled.
    """

    name: str
    ours: Contender
    peers: Sequence[Contender]
    agree: Callable[[Any, Any], str]
    targets: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds of a run of a whole job: those counted (of a processor or a GPU), and those on the wall."""

    counted: float
    wall: float


def measure(
    job: Job,
    *,
    rounds: int,
    allow_busy: bool,
    clock: Callable[[Callable[[], Any]], Timing] | None = None,
) -> dict[str, Any]:
    """Check that all contenders agree, time them in interleaved rounds, print and return the figures.

    Args:
        job: What to do.
        rounds: How often.
        allow_busy: Whether to report processor time where the machine is shared.
        clock: Runs something and says how long it took; None = by the processor's time.

    Raises:
        DisagreementError: If a peer computes something else; nothing is timed then.
        BusyError: If the machine was shared and `allow_busy` is off.
    """
    contenders = [job.ours, *job.peers]
    outputs = [contender.run() for contender in contenders]  # warms up, too
    agreement = {p.name: job.agree(outputs[0], out) for p, out in zip(job.peers, outputs[1:], strict=True)}
    del outputs
    times: dict[str, list[Timing]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            gc.collect()
            found = (clock or by_processor)(contender.run)
            share = contender.share
            times[contender.name].append(Timing(found.counted / share, found.wall / share))
    busy = is_shared([t for each in times.values() for t in each])
    if busy and not allow_busy:
        raise BusyError(f"'{job.name}': wall time is more than {BUSY} x processor time; try again later.")
    ours = times[job.ours.name]
    record = {
        "job": job.name,
        "note": job.note,
        "rounds": rounds,
        "busy": busy,
        "contenders": [{"name": c.name, "share": c.share, **_summary(times[c.name])} for c in contenders],
        "ratios": [
            {"peer": p.name, "agreement": agreement[p.name], "target": job.targets.get(p.name)}
            | _ratios(ours, times[p.name])
            for p in job.peers
        ],
    }
    _print(record)
    return record


def by_processor(run: Callable[[], Any]) -> Timing:
    """Time a run by what the processor spent on it."""
    counted, wall = time.process_time(), time.perf_counter()
    run()
    return Timing(time.process_time() - counted, time.perf_counter() - wall)


def is_shared(times: Sequence[Timing]) -> bool:
    """Whether something else held the machine meanwhile."""
    return statistics.median(t.wall for t in times) > BUSY * statistics.median(t.counted for t in times)


def _summary(times: Sequence[Timing]) -> dict[str, Any]:
    counted = sorted(t.counted for t in times)
    return {
        "seconds": statistics.median(counted),
        "spread": [counted[0], counted[-1]],
        "wall": statistics.median(t.wall / t.counted for t in times),
    }


def _ratios(ours: Sequence[Timing], theirs: Sequence[Timing]) -> dict[str, Any]:
    """Round by round, so that what slows the whole machine cancels."""
    ratios = sorted(b.counted / a.counted for a, b in zip(ours, theirs, strict=True))
    return {"ratio": statistics.median(ratios), "spread": [ratios[0], ratios[-1]]}


def _print(record: Mapping[str, Any]) -> None:
    print(f"\n{record['job']}{'  [machine shared: processor time]' if record['busy'] else ''}")
    if record["note"]:
        print(f"  {record['note']}")
    for each in record["contenders"]:
        low, high = each["spread"]
        print(f"  {each['name']:<44} {each['seconds']:9.3f} s  ({low:.3f} .. {high:.3f})")
    for each in record["ratios"]:
        low, high = each["spread"]
        print(f"  {each['ratio']:8.2f} x ({low:.2f} .. {high:.2f}) {verdict(each)} | {each['agreement']}")


def verdict(ratio: Mapping[str, Any]) -> str:
    """A ratio against its target, in words; a loss is called one."""
    lost = ", SLOWER" if ratio["ratio"] < 1 else ""
    if ratio["target"] is None:
        return f"against {ratio['peer']}{lost}"
    reached = "reached" if ratio["ratio"] >= ratio["target"] else "MISSED"
    return f"against {ratio['peer']}{lost}, target {ratio['target']:g}: {reached}"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": _cpuinfo("model name"),
        "instruction_sets": [flag for flag in _INSTRUCTION_SETS if flag in _cpuinfo("flags").split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "commit": _commit(),
        "seed": SEED,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def save(name: str, records: Sequence[Mapping[str, Any]]) -> Path:
    """Write what a benchmark measured, with its machine, to results/<name>.json."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "jobs": records}, indent=1) + "\n", encoding="utf-8")
    return path


def same_ids(least: float) -> Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], str]:
    """A comparison of token ids; `theirs` may be a sample of the first rows.

    Args:
        least: The share of rows that must be equal: near 1 in float32, where a near tie may still fall
            either way when rows are computed together instead of alone.
    """

    def compare(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> str:
        equal = sum(list(a) == list(b) for a, b in zip(ours, theirs, strict=False))
        if equal < least * len(theirs):
            raise DisagreementError(f"only {equal} of {len(theirs)} rows have the same tokens")
        return f"{equal} of {len(theirs)} rows have the same tokens"

    return compare


def close(tolerance: float) -> Callable[[torch.Tensor, torch.Tensor], str]:
    """A comparison of tensors that allows an absolute difference; `theirs` may be a sample of columns."""

    def compare(ours: torch.Tensor, theirs: torch.Tensor) -> str:
        difference = (ours - theirs).abs().max().item()
        if not difference <= tolerance:
            raise DisagreementError(f"the outputs differ by {difference:.2g}, more than {tolerance:g}")
        return f"largest difference {difference:.1e}"

    return compare


def dtype_name(dtype: torch.dtype) -> str:
    """Return "float32" and so on."""
    return str(dtype).removeprefix("torch.")


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), platform.machine())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=RESULTS, capture_output=True, text=True, check=False)
    return done.stdout.strip()
