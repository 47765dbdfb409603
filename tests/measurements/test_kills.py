"""A handful of kills, and a job that loses what it did is found."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from tqdm import tqdm

from measurements.kills import run
from measurements.kills.jobs import JOBS, Job

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


@pytest.mark.parametrize("name", [name for name in JOBS if name != "hub"])
def test_a_few_kills_lose_nothing(name):
    found = run.kill(name, 2, seed=0)
    assert found.kills == 2
    assert (found.losses, found.leftovers) == ([], [])


class Careless(Job):
    """Writes in place."""

    def work(self):
        file = self.folder / "a"
        if file.exists() and file.read_text() != "whole":
            raise ValueError("half a file")
        file.write_text("ha")
        if os.getpid() != PARENT:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.1)  # the process is not killed before it kills itself
        file.write_text("whole")
        return "whole"


PARENT = os.getpid()


def test_losses_are_found(monkeypatch):
    monkeypatch.setitem(JOBS, "careless", (Careless, 1))
    found = run.kill("careless", 2, seed=0)
    assert any("half a file" in loss for loss in found.losses)


class Untidy(Job):
    """Leaves its scratch, under another name each time."""

    def work(self):
        (self.folder / f"{os.getpid()}.scratch").touch()
        time.sleep(0.2)
        (self.folder / f"{os.getpid()}.scratch").unlink()


def test_leftovers_are_what_an_undisturbed_run_does_not_leave(monkeypatch):
    monkeypatch.setitem(JOBS, "untidy", (Untidy, 1))
    found = run.kill("untidy", 3, seed=0)
    assert (len(found.leftovers) >= 1, found.losses) == (True, [])


class Waiting(Job):
    """Waits for a pipe that nobody closes, once a process was killed."""

    def work(self):
        mark = self.folder / "begun"
        if mark.exists() and os.getpid() == PARENT:
            os.read(os.pipe()[0], 1)
        mark.touch()
        time.sleep(0.1)
        return "done"


def test_a_call_that_hangs_is_found(monkeypatch):
    monkeypatch.setitem(JOBS, "waiting", (Waiting, 1))
    monkeypatch.setattr(run, "_SECONDS", 1)
    found = run.kill("waiting", 1, seed=0)
    assert any("TimeoutError" in loss for loss in found.losses)


class Warming(Job):
    """Slow at first, in the process that loads what all others have."""

    warm = False

    def work(self):
        time.sleep(0.3 if Warming.warm else 4)
        Warming.warm = True


def test_moments_are_drawn_over_the_time_of_a_later_run(monkeypatch):
    monkeypatch.setitem(JOBS, "warming", (Warming, 1))
    found = run.kill("warming", 8, seed=0)
    assert found.finished < 60  # of moments over the first run 117


class Shown(Job):
    """Shows a bar, and is killed in the middle of drawing it."""

    def work(self):
        with tqdm.get_lock():
            if os.getpid() != PARENT:
                os.kill(os.getpid(), signal.SIGKILL)
        for _ in tqdm(range(2), file=io.StringIO()):
            pass


def test_a_bar_that_is_killed_stops_nobody_else(monkeypatch):
    """Bars of forked processes share a lock, which a killed one never lets go."""
    monkeypatch.setitem(JOBS, "shown", (Shown, 1))
    monkeypatch.setattr(run, "_SECONDS", 5)
    found = run.kill("shown", 2, seed=0)
    assert not [loss for loss in found.losses if "next call" in loss]
