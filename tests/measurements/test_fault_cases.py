"""Cases that once came out wrong: those that are quick are tried, and a case that fails is found."""

from __future__ import annotations

import pytest

from measurements.reliability import fault_cases
from measurements.reliability.cases.case import Topic, equal, near, refused, warned

#: Seconds of CPU each, or processes of their own: left to the command.
SLOW = {"eight_threads", "attention_heads", "detector_layers", "damaged_wheel", "two_builders", "batch_sizes"}
SLOW |= {"turned_channels", "own_checkpoints", "flags_and_statistics", "half_swapped", "many_classes"}
SLOW |= {"texts", "other_modes"}
QUICK = [case for topic in fault_cases.TOPICS for case in topic.cases if case.trial.__name__ not in SLOW]


@pytest.mark.filterwarnings("ignore:the translator")  # several attach one to layers of other names
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.trial.__name__)
def test_what_once_came_out_wrong_is_right(case):
    if case.lacking:
        pytest.skip(f"needs {case.lacking}")
    found, holds = case.trial()
    assert holds, found


def test_every_case_says_what_is_given_and_what_is_right():
    listed = [case for topic in fault_cases.TOPICS for case in topic.cases]
    assert len(listed) > 100
    assert all(case.name and case.given and case.right for case in listed)
    assert len({(case.topic, case.name) for case in listed}) == len(listed)


def test_rows_of_the_page(monkeypatch):
    topic = Topic("made up")

    @topic.case("1 + 1", "2")
    def right():
        """A sum."""
        return equal(1 + 1, 2)

    @topic.case("1 | 1", "2")
    def wrong():
        """A `bit`."""
        return equal(1 | 1, 2)

    @topic.case("nothing", "an answer")
    def raising():
        """An accident."""
        raise KeyError("x")

    @topic.case("a package", "an answer", "no_such_package")
    def skipped():
        """A package that is not there."""
        return equal(1, 1)

    monkeypatch.setattr(fault_cases, "TOPICS", (topic,))
    rows = list(fault_cases.measure())
    assert [row.holds for row in rows] == [True, False, False, None]
    data, page = fault_cases.report(rows)
    assert (data["hold"], data["fail"], data["skipped"]) == (1, 2, 1)
    assert "no_such_package is not installed" in data["cases"][3]["found"]
    assert r"| A \`bit\` | 1 \| 1 | 2 | 1 | **no** |" in page
    assert [row.case.name for row in fault_cases.measure(["accident"])] == ["An accident"]


def test_judgements():
    import torch

    assert refused(lambda: torch.zeros(2).view(3))[1] is False  # an error of PyTorch's own
    assert refused(lambda: 1) == ("answered: 1", False)
    assert refused(lambda: fault_cases.short(3))[1] is False
    assert near(torch.ones(2), torch.ones(2) * 1.1, 0.01)[1] is False
    assert near(torch.ones(2), torch.ones(3), 1.0)[1] is False
    assert warned(lambda: None, "a")[1] is False
