"""Compare two processes with one: ``python -m measurements scale-out``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measurements.folder import photographs
from torchnle.cli.evaluate import add_output, write_results
from torchnle.evaluation import record
from torchnle.views import plots

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ray_describe.py"
_SIZE = (640, 480)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "scale-out", help="torchrun and Ray on two workers: the lines of one process"
    )
    parser.add_argument("--count", type=int, default=50, help="photographs (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--ray-python", metavar="FILE", help="a Python that has ray (default: this one)")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.count < 1 or options.batch_size < 1:
        raise ValueError(f"--count {options.count}, --batch-size {options.batch_size}: pass 1 or more.")
    if options.output:
        plots.check_folder(options.output)
    write_results(options, "scale_out", measure(options), report)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Describe and probe made photographs, three of them broken, in one process and in two."""
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        photos = work / "photos"
        files = photographs.make(photos, options.count, size=_SIZE)
        describe = ["-m", "torchnle", "describe", str(photos), "--batch-size", str(options.batch_size)]
        probing = ["-m", "measurements.scale_out.probing", str(photos)]
        found: dict[str, Any] = {"count": options.count, "batch size": options.batch_size, "ways": []}
        _timed([sys.executable, *probing, str(_made(work / "one"))])
        _timed([*_torchrun(), *probing, str(_made(work / "two"))])
        hashes = [file.read_text() for name in ("one", "two") for file in (work / name).glob("record-*")]
        found["probing"] = {"processes": len(hashes) - 1, "same": len(set(hashes)) == 1}
        photographs.add_broken(photos, files[0])
        one = work / "one.jsonl"
        seconds = _timed([sys.executable, *describe, "--workers", "1", "--lines", str(one)])
        found["ways"].append({"way": "one process", "seconds": seconds, "same": True, "whole": True})
        two = work / "two.jsonl"
        seconds = _timed([*_torchrun(), *describe, "--workers", "1", "--lines", str(two)])
        found["ways"].append(_compared("torchrun, two processes", seconds, one, two))
        if not options.no_ray:
            ray = work / "ray.jsonl"
            words = [options.ray_python or sys.executable, str(_EXAMPLE), str(photos), "--lines", str(ray)]
            seconds = _timed([*words, "--batch-size", str(options.batch_size), "--actors", "2"])
            found["ways"].append(_compared("Ray Data, two actors", seconds, one, ray))
        return found


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _torchrun() -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def _timed(words: Sequence[str]) -> float:
    begun = time.perf_counter()
    done = subprocess.run(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"{' '.join(words)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


def _compared(way: str, seconds: float, one: Path, other: Path) -> dict[str, Any]:
    """Compare lines; the first line of a journal is its setting, which Ray's file does not have."""
    expected, found = one.read_bytes(), other.read_bytes()
    lines = expected.split(b"\n", 1)[1]
    return {"way": way, "seconds": seconds, "same": found in (lines, expected), "whole": found == expected}


def report(found: Mapping[str, Any]) -> str:
    """Format the comparison as Markdown."""
    rows = [
        [each["way"], "yes" if each["same"] else "NO", f"{each['seconds']:.1f}"] for each in found["ways"]
    ]
    probing = found["probing"]
    same = "the same" if probing["same"] else "OTHER"
    return f"""# Two processes against one

{found["count"]} made photographs of {_SIZE[0]} x {_SIZE[1]} and three broken files, efficientnet-lite0,
batches of {found["batch size"]}, one thread a process. Seconds are of the whole command with its imports, on
a machine that others used too: they say nothing of scaling.

{record.table(["way", "the same lines, byte by byte", "seconds"], rows)}

Probing (`probe`, one layer) in {probing["processes"]} processes gives {same} bits as in one.
"""
