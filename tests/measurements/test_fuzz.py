"""Two thousand drawn cases: nothing wrong, nothing that is no number, nothing raw, nothing that hangs."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from measurements.fuzz import outcome, run
from measurements.fuzz.outcome import WrongError, judge

CASES = 2000


def test_two_thousand_cases():
    found = run.fuzz(CASES, seed=0)
    assert [each for each in found if each.is_fault] == []
    kinds = Counter(each.kind for each in found)
    assert min(kinds["valid"], kinds["odd"], kinds["bad"]) > CASES / 10
    assert sum(each.result == "right" for each in found) > CASES / 4  # an oracle agreed
    assert {each.family for each in found} == set(run.FAMILIES)


def test_a_case_depends_on_its_number_alone():
    assert run.fuzz(30, seed=3) == run.fuzz(30, seed=3)[:30]
    assert run.fuzz(30, seed=3) != run.fuzz(30, seed=4)


def fail(error):
    def case():
        raise error

    return case


@pytest.mark.parametrize(
    ("kind", "case", "result"),
    [
        ("valid", lambda: True, "right"),
        ("valid", lambda: None, "accepted"),
        ("bad", lambda: True, "wrong"),
        ("valid", fail(WrongError("off")), "wrong"),
        ("odd", fail(WrongError("the answer is not finite")), "nan"),
        ("odd", fail(KeyError("a")), "raw"),
        ("bad", fail(ValueError("from somewhere else, in many words")), "raw"),
        ("odd", lambda: outcome.finite(run.importlib), "raw"),
    ],
)
def test_judgements(kind, case, result):
    assert judge("family", kind, "a case", case).result == result


def test_refusals_are_ours():
    from torchnle.public_calls import _TABLE

    draw = random.Random(0)
    assert judge("a", "bad", "k", lambda: _TABLE["k"]("k", draw.choice(["2", 0]))).result == "refused"
    assert judge("a", "valid", "k", lambda: _TABLE["k"]("k", 0)).result == "wrong"
