"""The sweep: one model at a time, each result written before the next starts."""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from measurements.architectures.bare import FAILURES, sentence
from measurements.architectures.catalogue import Case
from measurements.architectures.examination import UNUSUAL, examine

#: The largest weights of a model that is built, in bytes.
MEMORY = 3_000_000_000
#: Bytes of address space besides the weights: for the libraries (about 4e9) and for activations.
_HEADROOM = 9_000_000_000


def sweep(
    cases: Iterable[Case], finished: Path, *, memory: int = MEMORY, threads: int = 1
) -> Iterator[dict[str, Any]]:
    """Yield the record of every case that has not been found to work before.

    Every model runs in a forked process, so that its memory is freed completely and a crash is one more
    record.

    Args:
        cases: The cases; a repeated case is run once, and counts in both groups.
        finished: A file of JSON lines: those of earlier runs are read, and new ones appended.
        memory: The largest weights of a model, in bytes.
        threads: The threads of each model; more than one only if this process has used one itself.
    """
    records = load(finished)
    done = {key for key, record in records.items() if record["status"] == "works"}
    finished.parent.mkdir(parents=True, exist_ok=True)
    for case in cases:
        if case.key in done and case.group in records[case.key]["groups"]:
            continue
        fresh = case.key not in done
        record = _apart(case, memory, threads) if fresh else records[case.key]
        groups = records.get(case.key, record)["groups"]
        records[case.key] = record | {"groups": groups | record["groups"] | {case.group: case.note}}
        done.add(case.key)
        with finished.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(records[case.key]) + "\n")
        if fresh:
            yield records[case.key]


def load(finished: Path) -> dict[str, dict[str, Any]]:
    """Load the last record of every case in a file of JSON lines, by the case's key."""
    if not finished.is_file():
        return {}
    records = map(json.loads, finished.read_text(encoding="utf-8").splitlines())
    return {record["key"]: record for record in records}


def try_case(
    case: Case, memory: int = MEMORY, unusual: Sequence[tuple[int, int]] = UNUSUAL
) -> dict[str, Any]:
    """Build one model and examine it, with further sizes of its input."""
    record = _record(case, "works")
    started, worked = time.perf_counter(), time.process_time()
    try:
        if 4 * case.parameters > memory:
            size = 4 * case.parameters / 1e9
            return record | {
                "status": "not tried",
                "problems": [f"its weights take {size:.1f} GB; the limit was {memory / 1e9:.1f} GB."],
            }
        model, size = case.make()
        record |= examine(model, size, unusual=unusual).to_dict()
    except FAILURES as error:
        record["problems"] = [f"the model cannot be built: {sentence(error)}"]
    if record["problems"]:
        record["status"] = "fails"
    return record | {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
    }


def _record(case: Case, status: str) -> dict[str, Any]:
    return {"key": case.key, "groups": {case.group: case.note}, "status": status, "problems": []}


def _apart(case: Case, memory: int, threads: int) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, case, memory, threads))
    child.start()
    sender.close()
    try:
        record: dict[str, Any] = receiver.recv()
    except EOFError:
        child.join()
        problem = f"its process ended with exit code {child.exitcode}."
        record = _record(case, "fails") | {"problems": [problem]}
    child.join()
    return record


def _send(sender: Connection, case: Case, memory: int, threads: int) -> None:
    limit = memory + _HEADROOM
    resource.setrlimit(
        resource.RLIMIT_AS, (limit, limit)
    )  # a model that takes more fails without harm to the machine
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormal numbers of deep random models are a hundred times slower
    sender.send(try_case(case, memory))
