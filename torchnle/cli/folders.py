"""``--lines FILE``: the commands on photographs over any number of them, a line each, in batches."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from torchnle import backbones
from torchnle.attr.dataset.decoding import suitable_workers
from torchnle.attr.dataset.lines import Line, Lines
from torchnle.attr.dataset.picture_list import PictureList
from torchnle.attr.dataset.run import Draw
from torchnle.attr.dataset.tables import check_table, write_table
from torchnle.cli.output import say
from torchnle.cli.photos import load
from torchnle.journal import read_lines
from torchnle.views import plots
from torchnle.views.names import output_names


def add_lines(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run over many photographs."""
    lines = parser.add_argument_group("many photographs")
    lines.add_argument(
        "--lines", type=Path, metavar="FILE", help="write JSON lines here, in batches; goes on where it was"
    )
    lines.add_argument("--table", type=Path, metavar="FILE", help="with --lines: also as .csv or .parquet")
    lines.add_argument(
        "--batch-size", type=int, metavar="N", help="at once (default: 4 on a processor, 32 on a GPU)"
    )
    lines.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (default: one a processor, at most 8)"
    )


def write_lines(
    options: argparse.Namespace,
    make: Callable[..., Lines],
    figure: Callable[[Any, Any, str], Figure] | None = None,
    *,
    ending: str = "",
) -> None:
    """Write a line per photograph; what cannot be read is named and counted, and does not stop the run.

    Args:
        options: As they were given.
        make: Starts the run: (attribution, pictures, batch_size=, workers=, journal=, draw=) -> `Lines`.
        figure: Draws (the photograph, its answer, its name) for --output; None = there are no pictures.
        ending: Of the pictures' names.

    Raises:
        ValueError: If --output is given where nothing is drawn, or the photographs cannot be listed.
    """
    pictures = PictureList(options.photos)
    if options.table:
        check_table(options.table)
    if options.output and figure is None:
        raise ValueError("--lines writes no pictures with this command; leave --output or --lines out.")
    if options.output:
        plots.check_folder(options.output)
    workers = suitable_workers(len(pictures)) if options.workers is None else options.workers
    backbone, lang = load(options)
    draw = _drawing(options.output, backbone, pictures, figure, ending) if figure and options.output else None
    lines = make(
        lang, pictures, batch_size=options.batch_size, workers=workers, journal=options.lines, draw=draw
    )
    _count(lines, options.lines, quiet=getattr(options, "quiet", False))
    if options.table and int(os.environ.get("RANK", 0)) == 0:
        write_table(read_lines(options.lines), options.table)
        say(f"table: {options.table}")


def _count(lines: Lines, file: Path, *, quiet: bool = False) -> None:
    skipped = 0
    rank = os.environ.get("RANK", "0")
    shown = sys.stderr.isatty() and rank == "0"
    for number, line in enumerate(tqdm(lines, total=lines.total, unit="photo", disable=not shown)):
        if number == 0 and lines.kept and not quiet:
            say(f"{lines.kept} of {lines.total} lines were in {file} already", error=True)
        if "error" in line:
            skipped += 1
            say(f"torchnle: skipped: {line['error']}", error=True)
    count = int(os.environ.get("WORLD_SIZE", 1))
    part = f"process {rank} of {count}: " if count > 1 else ""
    say(f"{part}{lines.total - skipped} photographs in {file}, {skipped} skipped")


def _drawing(
    folder: Path,
    backbone: backbones.Backbone,
    pictures: PictureList,
    figure: Callable[[Any, Any, str], Figure],
    ending: str,
) -> Draw:
    """Return what draws an answer on its photograph, under a name that no other has."""
    names = output_names([Path(name) for name in pictures.names()])

    def draw(number: int, answer: Any) -> Line:
        made = figure(backbone.view(pictures.open(number)), answer, Path(pictures.name(number)).name)
        return {"picture": str(plots.save(made, folder / f"{names[number]}_{ending}.png"))}

    return draw
