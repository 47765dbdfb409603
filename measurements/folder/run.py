"""Measure folders: ``python -m measurements folder``."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from measurements.folder import photographs
from measurements.folder.report import report
from torchnle.cli.evaluate import add_output, write_results
from torchnle.cli.output import say
from torchnle.journal import Journal, read_lines
from torchnle.views import plots

_SOME = 40  # photographs for the shares and for JPEG's own scaling


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("folder", help="200 photographs of 12 megapixels: rate, memory, kills")
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="where they are made (default: removed)"
    )
    parser.add_argument("--count", type=int, default=200, help="photographs (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="that decode (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each timing (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and kills (default: %(default)s)")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="a run that was stopped goes on")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if min(options.count, options.batch_size, options.rounds, options.threads) < 1:
        raise ValueError("--count, --batch-size, --rounds and --threads: pass 1 or more.")
    if options.output:
        plots.check_folder(options.output)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        files = [str(file) for file in photographs.make(folder, options.count, seed=options.seed)]
        setting = {"count": options.count, "batch": options.batch_size, "workers": options.workers}
        journal = Journal(options.journal, setting | {"threads": options.threads, "seed": options.seed})
        measured = Folder(files, options.batch_size, options.workers, options.threads, journal)
        found: dict[str, Any] = {
            "count": len(files),
            "megabytes": sum(os.path.getsize(file) for file in files) / 1e6,
            "batch size": options.batch_size,
            "workers": options.workers,
            "threads": options.threads,
            "load": os.getloadavg()[0],
            "cores": os.cpu_count(),
        }
        found |= measured.rates(options.rounds)
        found["table"] = measured.table(options.workers)
        found["shares"] = measured.part("shares", files[:_SOME])["seconds a photograph"]
        found["draft"] = measured.part("draft", files[:_SOME])
        draw = random.Random(options.seed)
        found["kills"] = journal.get("kills", lambda: measured.kills(folder, options.kills, draw))
    write_results(options, "folder", found, report)


class Folder:
    """A folder of photographs that is described in several ways, each in a fresh process.

    Args:
        files: The photographs.
        batch_size: Pictures at once.
        workers: Processes that decode.
        threads: Of the model.
        journal: Keeps the parts that were measured.
    """

    def __init__(
        self, files: Sequence[str], batch_size: int, workers: int, threads: int, journal: Journal
    ) -> None:
        self.files, self.batch_size, self.workers, self.journal = files, batch_size, workers, journal
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def part(self, name: str, files: Sequence[str], **options: Any) -> dict[str, Any]:
        """Run one of `measurements.folder.part`, or find it in the journal."""
        again = options.pop("again", 0)
        key = json.dumps([name, len(files), options, again])
        return self.journal.get(key, lambda: self._measured(name, files, **options))

    def _measured(self, name: str, files: Sequence[str], **options: Any) -> dict[str, Any]:
        say(f"{name}: {len(files)} photographs {options or ''}", error=True)
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.json"
            request = {"files": list(files), "options": {"batch_size": self.batch_size, **options}}
            subprocess.run(
                [sys.executable, "-m", "measurements.folder.part", name],
                input=json.dumps({**request, "answer": str(answer)}),
                text=True,
                check=True,
                env=self._environment,
            )
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found

    def rates(self, rounds: int) -> dict[str, Any]:
        """Time a loop and batches in turn, and compare their answers."""
        loops, batched = [], []
        for again in range(rounds):
            loops.append(self.part("loop", self.files, again=again))
            batched.append(self.part("batches", self.files, workers=self.workers, again=again))
        slow, fast = (median(each["seconds"] for each in runs) for runs in (loops, batched))
        pairs = list(zip(loops[0]["lines"], batched[0]["lines"], strict=True))
        return {
            "loop": {"seconds": slow, "a second": len(self.files) / slow, "all": _seconds(loops)},
            "batches": {"seconds": fast, "a second": len(self.files) / fast, "all": _seconds(batched)},
            "times": slow / fast,
            "memory": batched[0]["memory"],
            "memory of the loop": loops[0]["memory"],
            "first batch": batched[0]["first batch"],
            "same texts": sum(a["text"] == b["text"] for a, b in pairs),
            "largest difference of a score": max(abs(a["score"] - b["score"]) for a, b in pairs),
        }

    def table(self, most: int) -> list[dict[str, Any]]:
        """Measure rate and memory over the number of photographs and of processes that decode."""
        rows = []
        for count in (len(self.files) // 4, len(self.files)):
            for workers in range(most + 1):
                run = self.part("batches", self.files[:count], workers=workers)
                rows.append(
                    {
                        "photographs": count,
                        "workers": workers,
                        "a second": count / run["seconds"],
                        "most": run["memory"]["most"],
                        "range": run["memory"]["range"],
                    }
                )
        return rows

    def kills(self, folder: Path, count: int, draw: random.Random) -> dict[str, Any]:
        """Kill the command at random moments, let it go on each time, and compare the files.

        Broken files are added to the folder first, which the command must name and skip.
        """
        broken = photographs.add_broken(folder, Path(self.files[0]))
        with tempfile.TemporaryDirectory() as out:
            whole, part = Path(out) / "whole.jsonl", Path(out) / "part.jsonl"
            begun = time.monotonic()
            ended = self._command(folder, whole).communicate()[1]
            lasts = time.monotonic() - begun
            killed, finished, equal = 0, 0, []
            while killed < count:
                running = self._command(folder, part)
                try:
                    running.communicate(timeout=draw.uniform(0, lasts))
                except subprocess.TimeoutExpired:
                    os.killpg(running.pid, signal.SIGKILL)
                    running.communicate()
                    killed += 1
                    continue
                finished += 1
                equal.append(part.read_bytes() == whole.read_bytes())
                part.unlink()
            if part.exists():
                self._command(folder, part).communicate()
                finished += 1
                equal.append(part.read_bytes() == whole.read_bytes())
            skipped = [Path(line["file"]).name for line in read_lines(whole) if "error" in line]
        return {
            "kills": killed,
            "finished": finished,
            "the same bytes": sum(equal),
            "seconds of an undisturbed run": lasts,
            "broken": sorted(path.name for path in broken),
            "skipped": sorted(skipped),
            "named": sorted(path.name for path in broken if path.name in ended),
        }

    def _command(self, folder: Path, lines: Path) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "torchnle", "describe", str(folder), "--lines", str(lines)]
        words += ["--batch-size", str(self.batch_size), "--workers", str(self.workers)]
        return subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )


def _seconds(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    return [run["seconds"] for run in runs]
