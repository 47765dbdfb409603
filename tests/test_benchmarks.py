"""The referee of the benchmarks: it times nothing that disagrees, and says when the machine was shared."""

from __future__ import annotations

import json
import time

import pytest
import torch
from benchmarks import common


def wait(seconds):
    """Hold the processor for a while."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return [[1, 2], [3]]


def job(peer, *, share=1.0, **options):
    return common.Job(
        name="waiting",
        ours=common.Contender("ours", lambda: wait(0.02)),
        peers=[common.Contender("theirs", peer, share)],
        agree=common.same_ids(1.0),
        **options,
    )


def test_ratios_are_of_processor_time_and_samples_count_as_the_whole(capsys):
    record = common.measure(
        job(lambda: wait(0.03), share=0.5, targets={"theirs": 2}), rounds=3, allow_busy=True
    )
    (ratio,) = record["ratios"]
    assert ratio["ratio"] == pytest.approx(3, rel=0.5)
    assert ratio["spread"][0] <= ratio["ratio"] <= ratio["spread"][1]
    assert "target 2: reached | 2 of 2 rows have the same tokens" in capsys.readouterr().out


def test_nothing_is_timed_where_outputs_differ(capsys):
    with pytest.raises(common.DisagreementError, match="only 1 of 2 rows"):
        common.measure(job(lambda: [[1, 2], [4]]), rounds=1, allow_busy=True)
    assert capsys.readouterr().out == ""


def test_a_shared_machine_is_refused_or_marked(capsys):
    def idle():
        time.sleep(0.3)
        return wait(0.01)

    asleep = common.Job("asleep", common.Contender("ours", idle), [], common.same_ids(1.0))
    with pytest.raises(common.BusyError, match=r"more than 1\.3 x processor time"):
        common.measure(asleep, rounds=1, allow_busy=False)
    assert capsys.readouterr().out == ""
    assert common.measure(asleep, rounds=1, allow_busy=True)["busy"]
    assert "machine shared" in capsys.readouterr().out


def test_losses_are_called_losses():
    lost = {"peer": "theirs", "ratio": 0.9, "target": 1.4}
    assert common.verdict(lost) == "against theirs, SLOWER, target 1.4: MISSED"
    assert common.verdict({**lost, "target": None}) == "against theirs, SLOWER"


def test_tensors_agree_within_the_tolerance_and_nan_never():
    compare = common.close(1e-3)
    assert "5.0e-04" in compare(torch.tensor([1.0]), torch.tensor([1.0005]))
    for other in (1.1, float("nan")):
        with pytest.raises(common.DisagreementError):
            compare(torch.tensor([1.0]), torch.tensor([other]))


def test_results_say_what_they_depend_on(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    saved = json.loads(common.save("waiting", []).read_text())["machine"]
    assert {"processor", "instruction_sets", "threads", "versions", "commit", "seed"} <= saved.keys()
