"""Measure the start of the command: ``python -m measurements start-up``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from torchnle.cli.evaluate import add_output, write_results
from torchnle.evaluation import record
from torchnle.evaluation.pictures import find_photographs
from torchnle.views import plots

_IMPORTS = "import torch, captum.attr, transformers"
_GOAL = 2.0


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("start-up", help="torchnle describe PHOTO, over the imports it needs")
    parser.add_argument("--photo", type=Path, metavar="FILE", help="what is described (default: a cat)")
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the model (default: %(default)s)")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.rounds < 1 or options.threads < 1:
        raise ValueError(f"--rounds {options.rounds}, --threads {options.threads}: pass 1 or more.")
    if options.output:
        plots.check_folder(options.output)
    photo = options.photo or find_photographs()["chelsea"]
    write_results(options, "start_up", measure(photo, options.rounds, options.threads), report)


def measure(photo: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Time the imports alone and the command, in turn, each in a fresh process.

    Args:
        photo: What is described.
        rounds: Of each; one before them fills the caches of embeddings and bytecode.
        threads: Of the model.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    ways = {
        "imports": [sys.executable, "-c", _IMPORTS],
        "describe": [sys.executable, "-m", "torchnle", "describe", str(photo)],
    }
    load = os.getloadavg()[0]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, words in ways.items():
            found = _timed(words, environment)
            times[name] += [found] if number else []
    over = {
        what: [b[i] - a[i] for a, b in zip(times["imports"], times["describe"], strict=True)]
        for i, what in enumerate(("seconds", "processor"))
    }
    return {
        "load": load,
        "cores": os.cpu_count(),
        "threads": threads,
        "rounds": rounds,
        "times": times,
        "over the imports": {what: median(values) for what, values in over.items()},
        "least over the imports": min(over["seconds"]),
        "goal": _GOAL,
    }


def _timed(words: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the seconds of a process, on the clock and of the processor."""
    begun = time.perf_counter()
    process = subprocess.Popen(words, env=dict(environment), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise OSError(f"{' '.join(words)} ended with status {process.returncode}.")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


def report(found: Mapping[str, Any]) -> str:
    """Format the measurement as Markdown."""
    rows = [
        [name, *(f"{median(each[i] for each in times):.2f}" for i in (0, 1))]
        for name, times in found["times"].items()
    ]
    over = found["over the imports"]
    rows.append(["describe over the imports", f"{over['seconds']:.2f}", f"{over['processor']:.2f}"])
    return f"""# The start of `torchnle describe PHOTO`

A fresh process each time, caches of embeddings and bytecode filled, {found["threads"]} threads of the model,
{found["cores"]} cores, load {found["load"]:.1f} when it began; medians of {found["rounds"]} rounds, in turn.
Imports are those of torch, captum and transformers.

{record.table(["what", "seconds", "seconds of the processor"], rows)}

Asked: {found["goal"]:.0f} s over the imports; the least of the rounds was
{found["least over the imports"]:.2f} s.
"""
