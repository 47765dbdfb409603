"""A handful of kills, and a job that loses what it did is found."""

from __future__ import annotations

import os
import signal
import time

import pytest

from measurements.kills import run
from measurements.kills.jobs import JOBS, Job

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


@pytest.mark.parametrize("name", [name for name in JOBS if name != "hub"])
def test_a_few_kills_lose_nothing(name):
    found = run.kill(name, 2, seed=0)
    assert found.kills == 2
    assert (found.losses, found.leftovers) == ([], [])


class Careless(Job):
    """Writes in place, and leaves its scratch."""

    def work(self):
        (self.folder / "a.unfinished").touch()
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


def test_losses_and_leftovers_are_found(monkeypatch):
    monkeypatch.setitem(JOBS, "careless", (Careless, 1))
    found = run.kill("careless", 2, seed=0)
    assert any("half a file" in loss for loss in found.losses)
