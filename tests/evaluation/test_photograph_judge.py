"""The judge of photographs: its rule, its rates, and frozen figures of the script that judges outside."""

from __future__ import annotations

import pytest

from torchnle.backbones import imagenet_class_names
from torchnle.description import Description
from torchnle.evaluation.photographs import Answer, Judge, Verdict, rates

DOG = (["dog", "puppy"], ["pet"])


@pytest.mark.parametrize(
    ("text", "right", "useful"),
    [
        ("a dog", 1, 1),
        ("two dogs", 1, 1),
        ("a small brown puppy", 1, 1),
        ("a German shepherd", 1, 1),  # below
        ("a canine", 1, 1),  # above
        ("an animal", 1, 0),  # above, and too general
        ("a pet", 1, 1),  # listed
        ("a cat", 0, 0),
        ("a kennel", 0, 0),
        ("a dog house", 1, 1),  # two words of which one is exact
        ("a guide dog or a cat", 0.5, 0.5),
        ("a cat, a puppy and an animal", 2 / 3, 1 / 3),
        ("a dog on grass", 0, 0),  # judged by the last words alone
        ("", 0, 0),
        ("a qwert", 0, 0),
    ],
)
def test_texts_are_judged_by_their_head_nouns(text, right, useful):
    assert Judge()(text, *DOG) == Verdict(pytest.approx(right), pytest.approx(useful))


MORE = ("animal", "mammal", "vehicle", "artifact", "organism", "bird", "dogs", "boxes or llamas", "thing")


@pytest.mark.parametrize(
    ("exact", "general", "right", "useful", "counts", "auroc"),
    [
        (["dog", "puppy"], ["pet"], 0.094780220, 0.093781219, (1794, 1191, 65), 0.499134401),
        (["bird", "ducks"], ["animal"], 0.049450549, 0.048951049, (1906, 1270, 32), 0.508602221),
        (["car", "Truck"], ["machine"], 0.023476523, 0.022977023, (1971, 1318, 15), 0.450254497),
        (["furniture", "desks"], ["house"], 0.020313020, 0.019813520, (1977, 1320, 11), 0.595680324),
    ],
)
def test_figures_are_those_of_the_script_that_judges_outside(exact, general, right, useful, counts, auroc):
    """Frozen: what shared/photographs/judge.py printed of the same 2,002 texts with the same scores."""
    names = imagenet_class_names()
    texts = [
        *names,
        *(f"a {a.lower()} and two {b}s, on grass" for a, b in zip(names, names[7:], strict=False)),
    ]
    texts += [f"a {word}" for word in MORE]
    answers = [Answer(text, (i * 37 % 101) / 100, i % 3 == 0, {}) for i, text in enumerate(texts)]
    judge = Judge()
    found = rates(answers, [judge(text, exact, general) for text in texts])
    assert found["right"] == pytest.approx(right, abs=1e-8)
    assert found["useful"] == pytest.approx(useful, abs=1e-8)
    assert (found["wrong"], found["wrong_not_unsure"], found["right_unsure"]) == counts
    assert found["auroc"] == pytest.approx(auroc, abs=1e-8)


def test_rates_count_what_is_marked():
    answers = [
        Answer(str(i), score, unsure, {})
        for i, (score, unsure) in enumerate(
            [(0.9, False), (0.8, True), (0.8, False), (0.1, True), (0.4, False)]
        )
    ]
    verdicts = [Verdict(1, 1), Verdict(1, 0), Verdict(0.5, 0.5), Verdict(0, 0), Verdict(0, 0)]
    assert rates(answers, verdicts) == {
        "count": 5,
        "right": 0.5,
        "useful": 0.3,
        "wrong": 3,
        "wrong_not_unsure": 2,
        "right_unsure": 1,
        "auroc": pytest.approx(5.5 / 6),
    }
    assert rates([], [])["right"] == 0


def test_a_raw_score_stands_where_there_is_no_probability():
    assert Answer.of(Description("a cat", -1.5)).score == -1.5
    assert Answer.of(Description("a cat", -1.5, probability=0.0)).score == 0
