"""Several processes share a run, and leave the file that one leaves."""

import os
import signal
from itertools import islice

import pytest
import torch

from torchnle.attr.dataset import decoding, describe_dataset
from torchnle.attr.dataset.decoding import suitable_workers, threads_beside
from torchnle.attr.dataset.run import Options, Work, run
from torchnle.attr.dataset.share import Share


def plain(lang, files, journal, **options):
    """Run without a model: each picture's answer is its mean."""
    work = Work("means", lambda x: (({"mean": float(each.mean())}, None) for each in x))
    return run(lang, files, work, Options(batch_size=2, journal=journal, **options))


@pytest.mark.parametrize("processes", [2, 3, 7])
@pytest.mark.parametrize("begun", [0, 150, 600])
def test_the_same_lines_and_bytes_as_one_process(lang, folder, tmp_path, processes, begun):
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    lines = list(plain(lang, folder, one))
    if begun:
        many.write_bytes(one.read_bytes()[:begun])  # one process began
    found = {}
    for process in reversed(range(processes)):  # the first joins
        mine = plain(lang, folder, many, process=process, processes=processes)
        found[process] = list(mine)
        assert len(found[process]) == mine.total
    assert many.read_bytes() == one.read_bytes()
    assert sorted(line["file"] for mine in found.values() for line in mine) == [
        line["file"] for line in lines
    ]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl*")) == ["many.jsonl", "one.jsonl"]
    for process in range(processes):  # and again: nothing is left to do
        assert list(plain(lang, folder, many, process=process, processes=processes)) == found[process]
    assert many.read_bytes() == one.read_bytes()


def test_killed_processes_go_on(lang, folder, tmp_path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    list(plain(lang, folder, one))
    for process in (1, 0):
        for kept in (0, 1, 3):
            child = os.fork()
            if child == 0:
                list(islice(plain(lang, folder, two, process=process, processes=2), kept))
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
        list(plain(lang, folder, two, process=process, processes=2))
    assert two.read_bytes() == one.read_bytes()


def test_torchruns_variables_are_read(lang, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    files = [line["file"][-6:-4] for line in plain(lang, folder, None)]
    assert files == ["02", "03", "06", "07", "10"]
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ValueError, match="RANK or WORLD_SIZE"):
        plain(lang, folder, None)


def test_another_number_of_processes_is_told(lang, folder, tmp_path):
    file = tmp_path / "a.jsonl"
    list(plain(lang, folder, file, process=1, processes=2))
    for processes in (1, 3):
        with pytest.raises(ValueError, match=r"parts of a run on 2 process.*Go on with 2"):
            list(plain(lang, folder, file, process=0, processes=processes))
    assert len(list(plain(lang, folder, file, process=0, processes=2))) == 6


def test_a_process_that_never_comes_is_not_waited_for(lang, folder, tmp_path):
    with pytest.raises(TimeoutError, match=r"process\(es\) \[1\] wrote nothing"):
        list(plain(lang, folder, tmp_path / "a.jsonl", process=0, processes=2, patience=0.3))


def test_describe_takes_a_share(lang, folder):
    shares = [list(describe_dataset(lang, folder, batch_size=3, process=p, processes=2)) for p in (0, 1)]
    whole = list(describe_dataset(lang, folder, batch_size=3))
    assert sorted(shares[0] + shares[1], key=lambda line: line["file"]) == whole


@pytest.mark.parametrize("count", range(1, 5))
def test_shares_are_all_batches_once(count):
    for first in range(6):
        shares = [Share(process, count).of(9, first) for process in range(count)]
        assert sorted(batch for share in shares for batch in share) == list(range(first, 9))


def test_a_worker_that_is_killed_is_told(lang, folder):
    lang.preprocess = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(OSError, match="fewer workers"):
        list(plain(lang, folder, None, workers=1))


def test_few_pictures_need_no_processes():
    assert suitable_workers(2) == 0
    assert 1 <= suitable_workers(10_000) <= 8


def test_a_model_beside_workers_takes_the_processors_that_they_leave_over(monkeypatch):
    monkeypatch.setattr(decoding, "_processors", lambda: 8)
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        for workers, threads in [(0, 6), (1, 6), (3, 5), (7, 1), (9, 1)]:
            with threads_beside(workers):
                assert torch.get_num_threads() == threads
            assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)
