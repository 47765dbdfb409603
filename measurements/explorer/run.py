"""Measure the explorer: ``python -m measurements explorer``."""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from measurements.explorer.page import browser, opened, pictures, served
from measurements.explorer.pointing import count_misses, summary, time_clicks, time_texts
from torchnle import backbones
from torchnle.cli.evaluate import add_output, write_results
from torchnle.evaluation import record
from torchnle.evaluation.pictures import find_photographs
from torchnle.explorer.explorer import Explorer
from torchnle.explorer.export import export
from torchnle.explorer.prepare import attach
from torchnle.methods.aligned.decoder.text_decoder import DECODER
from torchnle.views import plots

_EXPORTED = ("a cat", "an eye", "a nose")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("explorer", help="the explorer in a browser: its times, clicks that miss")
    parser.add_argument("--photo", type=Path, metavar="FILE", help="what is explored (default: a cat)")
    parser.add_argument("--clicks", type=int, default=100, help="each time (default: %(default)s)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write pictures of the page here")
    parser.add_argument("--seed", type=int, default=0, help="of the clicks (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the processor (default: %(default)s)")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.threads < 1 or options.clicks < 1:
        raise ValueError(f"--threads {options.threads}, --clicks {options.clicks}: pass 1 or more.")
    if options.output:
        plots.check_folder(options.output)
    torch.set_num_threads(options.threads)
    load, cores = os.getloadavg()[0], os.cpu_count()
    backbone = backbones.load("efficientnet-lite0")
    photo = options.photo or find_photographs()["chelsea"]
    explorer = Explorer(backbone, attach(backbone), [photo], decoder=DECODER)
    explorer.warm()
    if options.pictures:
        plots.check_folder(options.pictures)
        pictures(explorer, options.pictures)
    found = measure(explorer, clicks=options.clicks, seed=options.seed)
    write_results(options, "explorer", found | {"load": load, "cores": cores}, report)


def measure(explorer: Explorer, *, clicks: int = 100, seed: int = 0) -> dict[str, Any]:
    """Measure an explorer that holds at least one photograph and has been warmed."""
    drawn = random.Random(seed)
    with served(explorer) as address, browser() as started:
        found: dict[str, Any] = {
            "model": explorer.backbone.name,
            "layers": explorer.layers,
            "threads": torch.get_num_threads(),
            "first page": _first_pages(started, address),
        }
        page = opened(started, address, 1200, 1.0)
        found["click to phrases"], found["sentence after phrases"] = time_clicks(
            page, explorer, clicks, drawn
        )
        found["text to maps"] = time_texts(page)
        page.context.close()
        found["clicks off by a cell"] = count_misses(started, address, explorer, clicks, drawn)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        file = export(explorer, folder, _EXPORTED)
        found["export"] = {"megabytes": file.stat().st_size / 1e6, "seconds": time.perf_counter() - began}
    return found


def _first_pages(started: Any, address: str, rounds: int = 5) -> dict[str, float]:
    """Time from asking for the page to the words of the whole photograph, with an empty cache."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        opened(started, address, 1200, 1.0).context.close()
        times.append(time.perf_counter() - began)
    return summary(times)


def report(found: Mapping[str, Any]) -> str:
    """Format the measurement as Markdown."""
    goals = {"first page": 2.0, "click to phrases": 0.15, "sentence after phrases": 1.0, "text to maps": 0.2}
    rows = [
        [name, found[name]["p50"], found[name]["p95"], goal, found[name]["count"]]
        for name, goal in goals.items()
        if found.get(name)
    ]
    clicks = found["clicks off by a cell"]
    table = record.table(["what", "p50, s", "p95, s", "goal for p50, s", "times"], rows)
    missed = record.table(["window", "off", "clicks"], [[name, *counts] for name, counts in clicks.items()])
    layers = ", ".join(f"`{layer}`" for layer in found["layers"])
    return f"""# The explorer, in a real browser

{found["model"]}, {found["threads"]} thread(s), layers {layers}. The machine's load when it began was
{found["load"]:.1f} on {found["cores"]} cores. A sentence's time is counted from the click.

{table}

Clicks that read another location than the one under the pointer:

{missed}

The exported page of one photograph and {len(found["layers"])} layers is {found["export"]["megabytes"]:.2f} MB
(goal: 5), written in {found["export"]["seconds"]:.0f} s.
"""
