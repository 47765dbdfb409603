"""Unfinished files stay while they are written; those of killed processes go at the next call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torchnle.hub import filelock, leftovers, tether

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")


def dead_name():
    """A name as a process gives it that is gone."""
    return leftovers.mine().replace(f"-{os.getpid()}-", "-999999999-") + "a"


@linux
def test_of_the_living_nothing_goes(tmp_path):
    with leftovers.unfinished_folder(tmp_path) as (folder, _):
        assert leftovers.sweep(tmp_path, older_than=-1) == []
        assert folder.is_dir()
    (tmp_path / dead_name()).write_text("half")
    assert [path.name for path in leftovers.sweep(tmp_path)] == [dead_name()]


@linux
def test_another_process_of_the_same_number_is_not_the_owner(tmp_path):
    pid, began, rest = leftovers.mine().removeprefix(leftovers.PREFIX).split("-", 2)
    (tmp_path / f"{leftovers.PREFIX}{pid}-{int(began) + 1}-{rest}a").touch()
    (tmp_path / f"{leftovers.mine()}b").touch()
    leftovers.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{leftovers.mine()}b"]


def test_names_of_others_are_left_to_the_hour(tmp_path):
    (tmp_path / ".unfinished-by-hand").touch()
    assert leftovers.sweep(tmp_path) == []
    assert [path.name for path in leftovers.sweep(tmp_path, older_than=-1)] == [".unfinished-by-hand"]


@linux
def test_the_sweep_waits_for_a_child_that_still_writes(tmp_path):
    folder = tmp_path / dead_name()
    folder.mkdir()
    held = filelock.try_lock(folder)
    code = f"import time; time.sleep(0.5); open({str(folder / 'late')!r}, 'w').close()"
    child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[held])
    os.close(held)
    leftovers.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert child.wait() == 0  # it had written


def test_replacing_is_whole_or_nothing(tmp_path):
    file = tmp_path / "new" / "a.txt"
    with leftovers.replacing(file) as scratch:
        scratch.write_text("first")
        assert not file.exists()
    assert file.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(IsADirectoryError), leftovers.replacing(file) as scratch:
        scratch.parent.write_text("second")
    assert file.read_text() == "first"
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@linux
def test_replacing_removes_what_a_killed_process_left_and_nothing_else(tmp_path):
    (tmp_path / dead_name()).touch()
    old = tmp_path / ".unfinished-symphony"
    old.touch()
    os.utime(old, (0, 0))
    with leftovers.replacing(tmp_path / "a") as scratch:
        scratch.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unfinished-symphony", "a"]


class TestTether:
    def test_runs_a_module_and_returns_what_it_says(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "json.py").write_text("raise SystemExit('code of the working folder')")
        found = tether.run("json.tool", ["--help"])
        assert (found.returncode, "usage" in found.stdout) == (0, True)
        assert tether.run("no_such_module", []).returncode != 0

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
    def test_a_child_ends_with_a_killed_parent(self, tmp_path, monkeypatch):
        (tmp_path / "slowly.py").write_text(
            f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        parent = os.fork()
        if parent == 0:
            try:
                tether.run("slowly", [])
            finally:
                os._exit(0)
        child = self.until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        self.until(lambda: not self.lives(int(child)))

    def until(self, found):
        ends = time.monotonic() + 30
        while not (answer := found()):
            assert time.monotonic() < ends
            time.sleep(0.02)
        return answer

    def lives(self, pid):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return Path("/proc/self").exists() is False and self.signalled(pid)
        return state not in "ZX"

    def signalled(self, pid):
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
