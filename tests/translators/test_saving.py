"""A save that fails or is killed leaves the old translator or the new one, and the next one tidies up."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from tiny_translators import Doubler

from torchnle.translators import saving

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def killed(work, *, after=None):
    """Run in a forked process that kills itself, or is killed after some seconds."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(after)
    if after is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def die_before(step):
    """Save; die before the renaming of that number, which is done through `Path.rename`."""

    def work(folder):
        rename, count = Path.rename, 0

        def counting(self, target):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        Path.rename = counting
        Doubler(width=9).save_pretrained(folder)

    return work


@fork
class TestKilled:
    def test_ten_kills_at_random_moments(self, tmp_path):
        folder = Doubler(width=4).save_pretrained(tmp_path / "it")
        moments = random.Random(0)

        def save_for_ever():
            while True:
                for width in (4, 5):
                    Doubler(width).save_pretrained(folder)

        left = 0
        for _ in range(10):
            killed(save_for_ever, after=moments.uniform(0.005, 0.05))
            left += len(names(tmp_path)) > 1
            assert Doubler.from_pretrained(folder).width in (4, 5)
            Doubler(width=4).save_pretrained(folder)
            assert names(tmp_path) == ["it"]
        assert left > 0  # or else nothing was tried

    @pytest.mark.parametrize(("step", "width"), [(1, 3), (2, 9), (3, 9)])
    @pytest.mark.parametrize("next_call", ["load", "save beside", "save"])
    def test_killed_before_each_renaming(self, tmp_path, step, width, next_call):
        """Before the old one is taken away it stays; from then on the new one is there."""
        folder = Doubler(width=3).save_pretrained(tmp_path / "it")
        killed(lambda: die_before(step)(folder))
        assert folder.exists() == (step != 2)
        if next_call == "load":
            assert Doubler.from_pretrained(folder).width == width
        Doubler(width=2).save_pretrained(folder if next_call == "save" else tmp_path / "other")
        assert Doubler.from_pretrained(folder).width == (2 if next_call == "save" else width)
        assert [name for name in names(tmp_path) if name.startswith(".")] == []

    def test_killed_before_there_ever_was_one(self, tmp_path):
        killed(lambda: die_before(1)(tmp_path / "it"))
        assert len(names(tmp_path)) == 1
        with pytest.raises(FileNotFoundError):
            Doubler.from_pretrained(tmp_path / "it")
        Doubler().save_pretrained(tmp_path / "it")
        assert names(tmp_path) == ["it"]

    def test_a_link_to_the_folder_is_followed(self, tmp_path):
        (tmp_path / "real").mkdir()
        Doubler(width=3).save_pretrained(tmp_path / "real" / "it")
        (tmp_path / "link").symlink_to(tmp_path / "real" / "it")
        killed(lambda: die_before(2)(tmp_path / "link"))
        assert Doubler.from_pretrained(tmp_path / "link").width == 9


def test_an_interrupt_between_the_renamings_leaves_one(tmp_path, monkeypatch):
    folder = Doubler(width=3).save_pretrained(tmp_path / "it")
    rename = Path.rename

    def interrupted(self, target):
        rename(self, target)
        if Path(target).name == "old":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Doubler(width=9).save_pretrained(folder)
    monkeypatch.undo()
    assert Doubler.from_pretrained(folder).width == 9
    assert names(tmp_path) == ["it"]


def test_many_savers_at_once_leave_one_whole_translator(tmp_path):
    failures = []

    def save(width):
        try:
            for _ in range(5):
                Doubler(width).save_pretrained(tmp_path / "it")
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(width,)) for width in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert 2 <= Doubler.from_pretrained(tmp_path / "it").width < 8
    assert names(tmp_path) == ["it"]


def test_a_living_save_is_not_swept(tmp_path, monkeypatch):
    """Another save into the same parent waits until the first is done."""
    inside, go_on = threading.Event(), threading.Event()
    fill = saving._swap

    def slow(target, scratch):
        if target.name == "slow":
            inside.set()
            assert go_on.wait(20)
        fill(target, scratch)

    monkeypatch.setattr(saving, "_swap", slow)
    first = threading.Thread(target=lambda: Doubler(width=4).save_pretrained(tmp_path / "slow"))
    second = threading.Thread(target=lambda: Doubler(width=5).save_pretrained(tmp_path / "quick"))
    first.start()
    assert inside.wait(20)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go_on.set()
    first.join()
    second.join()
    assert names(tmp_path) == ["quick", "slow"]
    assert Doubler.from_pretrained(tmp_path / "slow").width == 4


def test_where_nothing_can_be_locked_saving_still_works(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "_flock", lambda *_: False)
    folder = Doubler(width=3).save_pretrained(tmp_path / "it")
    assert Doubler.from_pretrained(Doubler(width=4).save_pretrained(folder)).width == 4
    assert names(tmp_path) == ["it"]


def test_hidden_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / ".it-old").mkdir()
    (tmp_path / ".torchnle-saving-x").mkdir()
    Doubler().save_pretrained(tmp_path / "it")
    assert names(tmp_path) == [".it-old", ".torchnle-saving-x", "it"]


# Failures to write.


@pytest.fixture
def small_files():
    """No file may grow beyond 5,000 bytes: what a full disk looks like to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("big", "file"),
    [({"width": 5_000}, "model.safetensors"), ({"note": "x" * 10_000}, "config.json")],
)
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, small_files, big, file):
    folder = Doubler(width=3).save_pretrained(tmp_path / "it")
    with pytest.raises(OSError, match=r"could not be saved: File too large") as caught:
        Doubler(**big).save_pretrained(folder)
    assert caught.value.filename == str(folder / file)
    assert caught.value.errno == errno.EFBIG
    assert Doubler.from_pretrained(folder).width == 3
    assert names(tmp_path) == ["it"]


def test_a_full_disk_leaves_nothing_where_nothing_was(tmp_path, small_files):
    with pytest.raises(OSError, match="could not be saved"):
        Doubler(width=5_000).save_pretrained(tmp_path / "it")
    assert names(tmp_path) == []


@pytest.fixture
def closed():
    """A folder that may be read and not written, by a user without rights: root may write anywhere."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        os.seteuid(65534 if root else os.geteuid())
        yield Path(folder)
        os.seteuid(0 if root else os.geteuid())


@pytest.mark.parametrize("where", ["it", "deep/er/it"])
def test_no_permission_names_the_folder(closed, where):
    with pytest.raises(PermissionError, match="could not be saved: Permission denied") as caught:
        Doubler().save_pretrained(closed / where)
    assert caught.value.filename == str(closed / where)
    assert names(closed) == []


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not be saved") as caught:
        Doubler().save_pretrained(tmp_path / "file" / "it")
    assert caught.value.filename == str(tmp_path / "file" / "it")


def test_a_failing_storage_without_a_number_is_named(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("the drive is gone")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match=r"it/model\.safetensors could not be saved: the drive is gone"):
        Doubler().save_pretrained(tmp_path / "it")
    assert torch.equal(Doubler().weight, torch.arange(3.0))
    assert names(tmp_path) == []
