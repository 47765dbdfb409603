"""Kills processes at random moments and looks at what is left: nothing lost, nothing left over."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from measurements.kills.jobs import JOBS, Job
from torchnle.evaluation import record

#: After at most so many kills a run is let go to its end, and its answer compared.
_IN_A_ROW = 4
#: A run takes a second; one that takes so many waits for a lock or a pipe that nobody lets go.
_SECONDS = 60


@dataclass
class Outcome:
    """The kills of one job.

    Args:
        job: Its name.
        kills: How many processes were killed at work.
        finished: How many were done before.
        runs: How many runs went to their end after kills.
        losses: What was lost: an answer, steps, or a file that cannot be used.
        leftovers: What lay there after the next finished call, and does not after an undisturbed one.
    """

    job: str
    kills: int = 0
    finished: int = 0
    runs: int = 0
    losses: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)


def kill(name: str, count: int, seed: int) -> Outcome:
    """Kill a job so often, at moments drawn over its whole time.

    Args:
        name: One of `JOBS`.
        count: How often.
        seed: Of the moments.
    """
    make, draw, found = JOBS[name][0], random.Random(f"{seed}/{name}"), Outcome(name)
    with tempfile.TemporaryDirectory() as root:
        first = make(_fresh(root))
        expected = _in_time(first.work), first.files()
        while found.kills < count:
            lasts = _lasts(make(_fresh(root)), found)
            job = make(_fresh(root))
            _kills(job, min(draw.randint(1, _IN_A_ROW), count - found.kills), lasts, draw, found)
            _end(job, *expected, found)
    return found


def _lasts(job: Job, found: Outcome) -> float:
    """Time an undisturbed run, again and again: the first loads what others have, and machines get slower."""
    status, seconds = _forked(job, _SECONDS)
    if status:
        found.losses.append(f"an undisturbed run ended with status {status}")
    return seconds


def _fresh(root: str) -> Path:
    return Path(tempfile.mkdtemp(dir=root))


def _kills(job: Job, count: int, lasts: float, draw: random.Random, found: Outcome) -> None:
    """Start a process, kill it, look, and again; a process that was done before counts as finished."""
    for _ in range(4 * count):
        before = job.progress()
        status, _ = _forked(job, draw.uniform(0, 1.1 * lasts))
        found.kills += status == -signal.SIGKILL
        found.finished += status == 0
        if status not in (0, -signal.SIGKILL):
            found.losses.append(f"a run after a kill ended with status {status}")
        try:
            job.check()
        except (OSError, ValueError) as error:
            found.losses.append(f"after a kill: {type(error).__name__}: {error}"[:200])
        if job.progress() < before:
            found.losses.append(f"{before} steps before a kill, {job.progress()} after")
        count -= status == -signal.SIGKILL
        if not count:
            return


def _end(job: Job, expected: Any, files: set[str], found: Outcome) -> None:
    found.runs += 1
    try:
        answer = _in_time(job.work)
    except (OSError, ValueError, RuntimeError) as error:
        found.losses.append(f"the next call: {type(error).__name__}: {error}"[:200])
        return
    if answer != expected:
        found.losses.append("the next call ends with another answer than an undisturbed one")
    found.leftovers += sorted(job.files() - files)


def _in_time(work: Callable[[], Any]) -> Any:
    """Return what a call returns, or raise a TimeoutError where it hangs."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"a run took more than {_SECONDS} s; it waits for something")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_SECONDS)
    try:
        return work()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _forked(job: Job, delay: float) -> tuple[int, float]:
    """Work in a forked process on one thread, which is killed after so long.

    Returns:
        Its status, negative if it was killed, and its seconds, without those of the fork itself.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            tqdm.set_lock(threading.RLock())  # its own is shared: who is killed with it stops all others
            job.work()
            status = 0
        finally:
            os._exit(status)
    begun = time.monotonic()
    while time.monotonic() < begun + delay:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - begun
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - begun


def measure(names: Iterable[str], count: int, seed: int) -> list[Outcome]:
    """Kill every job, each its share of all kills.

    Args:
        names: Of `JOBS`.
        count: All kills together, shared as `JOBS` says.
        seed: Of the moments.
    """
    torch.set_num_threads(1)  # threads of a pool do not live on in a forked process
    chosen = list(names)
    total = sum(JOBS[name][1] for name in chosen)
    return [kill(name, max(1, round(count * JOBS[name][1] / total)), seed) for name in chosen]


def report(outcomes: list[Outcome], seed: int) -> tuple[dict[str, Any], str]:
    """Return what JSON keeps, and the page."""
    kills = sum(each.kills for each in outcomes)
    losses = [f"{each.job}: {loss}" for each in outcomes for loss in each.losses]
    left = [f"{each.job}: {name}" for each in outcomes for name in each.leftovers]
    rows = [[o.job, o.kills, o.finished, o.runs, len(o.losses), len(o.leftovers)] for o in outcomes]
    listed = "".join(f"- `{each}`\n" for each in [*losses, *left][:40]) or "none\n"
    page = (
        f"# {kills} kills at random moments, seed {seed}\n\n`python -m measurements kills`: {len(losses)} "
        f"losses, {len(left)} leftovers after the next call.\n\n"
        + record.table(["job", "kills", "done before", "runs to their end", "losses", "leftovers"], rows)
        + f"\n\nLosses and leftovers:\n\n{listed}"
    )
    data = {"setting": record.setting(), "seed": seed, "kills": kills, "losses": losses, "leftovers": left}
    return data | {"jobs": [asdict(each) for each in outcomes]}, page
