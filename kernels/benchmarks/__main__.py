"""Run benchmarks by name, or all of them."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

import torch

from benchmarks import common

#: In order of what they tell; the first ones are what README.md's claims rest on.
NAMES = (
    "head",
    "captions",
    "scoring",
    "training",
    "compaction",
    "top",
    "memory",
    "end_to_end",
    "anchors",
    "curves",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds a job (default 3)")
    parser.add_argument(
        "--allow-busy",
        action="store_true",
        help="report processor time on a machine that is shared, and say so",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.names or NAMES:
        run(name, rounds=options.rounds, allow_busy=options.allow_busy)


def run(name: str, *, rounds: int, allow_busy: bool) -> None:
    """Run one benchmark, and save what it measured."""
    torch.manual_seed(common.SEED)
    module = importlib.import_module(f"benchmarks.suites.{name}")
    if name == "memory":
        records = module.records()
    elif name == "end_to_end":
        records = module.records(rounds)
    else:
        records = [common.measure(job, rounds=rounds, allow_busy=allow_busy) for job in module.jobs()]
    print(f"\n-> {common.save(name, records)}")


if __name__ == "__main__":
    main()
