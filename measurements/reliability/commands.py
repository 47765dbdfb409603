"""The subcommands on reliability: fuzz, kills, language models of every architecture, the cost of checks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from torchnle.cli.output import say
from torchnle.evaluation import record


def add(commands: Any) -> None:
    """Add every measurement of reliability to the subparsers."""
    _add_reading(commands)
    _add_fuzz(commands)
    _add_kills(commands)
    _add_safety_costs(commands)
    _add_fault_cases(commands)


def _add_fault_cases(benchmarks: Any) -> None:
    cases = benchmarks.add_parser("fault-cases", help="situations that once came out wrong, tried again")
    cases.add_argument("--case", action="append", default=[], metavar="WORD", help="of a name (default: all)")
    cases.add_argument("--output", type=Path, metavar="FOLDER", help="write JSON and Markdown here")
    cases.set_defaults(run=_fault_cases)


def _fault_cases(options: argparse.Namespace) -> None:
    from measurements.reliability import fault_cases

    data, page = fault_cases.report(list(fault_cases.measure(options.case)))
    say(page)
    if options.output:
        record.write(options.output, "fault_cases", data, page)


def _add_fuzz(benchmarks: Any) -> None:
    fuzz = benchmarks.add_parser("fuzz", help="drawn calls and files, judged")
    fuzz.add_argument("--count", type=int, default=10_000, help="cases (default: %(default)s)")
    fuzz.add_argument("--seed", type=int, default=1, help="of all draws (default: %(default)s)")
    fuzz.add_argument("--output", type=Path, metavar="FOLDER", help="write JSON and Markdown here")
    fuzz.set_defaults(run=_fuzz)


def _fuzz(options: argparse.Namespace) -> None:
    from measurements.fuzz import run

    data, page = run.report(run.fuzz(options.count, options.seed), options.seed)
    say(page)
    if options.output:
        record.write(options.output, "fuzz", data, page)


def _add_reading(benchmarks: Any) -> None:
    reading = benchmarks.add_parser("reading", help="language models of every architecture, read and refused")
    reading.add_argument("--kind", action="append", metavar="TYPE", help="a model type (default: all)")
    reading.add_argument("--most", type=int, metavar="N", help="examine N that are not in the journal yet")
    reading.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    reading.set_defaults(run=_reading)


def _reading(options: argparse.Namespace) -> None:
    from measurements.reading import run

    journal = options.output / "reading.jsonl"
    outcomes = run.measure(options.kind or run.kinds(), journal, options.most)
    data, page = run.report(outcomes)
    say(page)
    record.write(options.output, "reading", data, page)


def _add_kills(benchmarks: Any) -> None:
    kills = benchmarks.add_parser(
        "kills", help="processes killed at random moments: nothing lost, nothing left"
    )
    kills.add_argument("--count", type=int, default=200, help="kills (default: %(default)s)")
    kills.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    kills.add_argument("--job", action="append", metavar="NAME", help="one kind of work (default: all)")
    kills.add_argument("--output", type=Path, metavar="FOLDER", help="write JSON and Markdown here")
    kills.set_defaults(run=_kills)


def _kills(options: argparse.Namespace) -> None:
    from measurements.kills import run
    from measurements.kills.jobs import JOBS

    outcomes = run.measure(options.job or JOBS, options.count, options.seed)
    data, page = run.report(outcomes, options.seed)
    say(page)
    if options.output:
        record.write(options.output, "kills", data, page)


def _add_safety_costs(benchmarks: Any) -> None:
    costs = benchmarks.add_parser("safety-costs", help="what checks cost where nothing is wrong")
    costs.add_argument("--rounds", type=int, default=15, help="of each timing (default: %(default)s)")
    costs.add_argument("--model", default="torchvision:resnet50", help="(default: %(default)s)")
    costs.add_argument("--output", type=Path, metavar="FOLDER", help="write JSON and Markdown here")
    costs.set_defaults(run=_safety_costs)


def _safety_costs(options: argparse.Namespace) -> None:
    from measurements.reliability import costs as safety_costs

    torch.set_num_threads(1)
    found = safety_costs.measure(options.rounds, options.model)
    text = safety_costs.page(found)
    say(text)
    if options.output:
        record.write(options.output, "safety_costs", {"setting": record.setting(), **found}, text)
