"""The sweep: one model at a time, every result written down before the next begins."""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from torchnle.evaluation.architectures.catalogue import Case
from torchnle.evaluation.architectures.examination import FAILURES, examine, sentence

#: Bytes of weights up to which a model is built.
MEMORY = 3_000_000_000
#: Bytes of address space beside the weights: for the libraries (about 4e9) and for activations.
_HEADROOM = 9_000_000_000


def sweep(cases: Iterable[Case], finished: Path, *, memory: int = MEMORY) -> Iterator[dict[str, Any]]:
    """Try every case that has not been found to work before; gives each record as it is made.

    Every model lives in a forked process of its own, so that its memory is given back to the last byte and a
    crash is one more record.

    Args:
        cases: What to try; a case that comes twice is tried once.
        finished: A file of JSON lines: those of earlier runs are read, and new ones appended.
        memory: The most bytes of weights of a model that is tried.
    """
    done = {key for key, record in load(finished).items() if record["status"] == "works"}
    finished.parent.mkdir(parents=True, exist_ok=True)
    for case in cases:
        if case.key in done:
            continue
        done.add(case.key)
        record = _apart(case, memory)
        with finished.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")
        yield record


def load(finished: Path) -> dict[str, dict[str, Any]]:
    """The last record of every case in a file of JSON lines, by the case's key."""
    if not finished.is_file():
        return {}
    records = map(json.loads, finished.read_text(encoding="utf-8").splitlines())
    return {record["key"]: record for record in records}


def try_case(case: Case, memory: int = MEMORY) -> dict[str, Any]:
    """Build one model and examine it."""
    record: dict[str, Any] = {"key": case.key, "group": case.group, "note": case.note, "status": "works"}
    started = time.perf_counter()
    try:
        if 4 * case.parameters > memory:
            size = 4 * case.parameters / 1e9
            return record | {
                "status": "not tried",
                "problems": [f"its weights take {size:.1f} GB; the limit was {memory / 1e9:.1f} GB."],
            }
        model, size = case.make()
        record |= examine(model, size).to_dict()
    except FAILURES as error:
        record["problems"] = [f"the model cannot be built: {sentence(error)}"]
    if record["problems"]:
        record["status"] = "fails"
    return record | {"seconds": round(time.perf_counter() - started, 1)}


def _apart(case: Case, memory: int) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, case, memory))
    child.start()
    sender.close()
    try:
        record: dict[str, Any] = receiver.recv()
    except EOFError:
        child.join()
        problem = f"its process ended with exit code {child.exitcode}."
        record = {"key": case.key, "group": case.group, "note": case.note, "status": "fails"}
        record["problems"] = [problem]
    child.join()
    return record


def _send(sender: Connection, case: Case, memory: int) -> None:
    limit = memory + _HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # a model that takes more fails; the machine lives
    torch.set_num_threads(1)  # the threads of the process it was forked from are not there to be waited for
    torch.set_flush_denormal(True)  # deep models with small random weights live there, a hundred times slower
    sender.send(try_case(case, memory))
