from __future__ import annotations

import pytest
import torch

from measurements.devil.evidence import SceneScores, _hits, _regression
from measurements.devil.repetition import counted
from torchnle.metrics import box_masks


@pytest.mark.parametrize(
    ("text", "phrase", "noun"),
    [
        ("a hen and the hen", 1, 1),
        ("a hen, an ox and a hen on grass", 1, 1),
        ("a red ball and a green ball", 0, 1),
        ("a hen on grass", 0, 0),
        ("a hand in sand and a band", 0, 0),
        ("", 0, 0),
    ],
)
def test_repetitions_are_counted_by_phrase_and_by_noun(text, phrase, noun):
    found = counted([text, "an owl"])
    assert (found["sentences"], found["phrase"], found["noun"]) == (2, phrase, noun)


def scene(log_prob, evidence):
    """One object with the text 0, at location 1 of a 1x2 grid, whose box is the right half."""
    masks = box_masks([(2, 0, 4, 2)], (2, 4))
    return SceneScores(torch.tensor(log_prob), torch.tensor(evidence), (1,), masks, (1, 2))


def test_the_weight_decides_which_score_counts():
    scored = [scene([[0.0, 0.0], [-3.0, -1.0]], [[0.0, 0.0], [1.0, 0.0]])]
    assert _hits(scored, 0.0) == {"first": 0.0, "in_box": 0.0}
    assert _hits(scored, 1.0)["first"] == 0.0
    assert _hits(scored, 4.0) == {"first": 1.0, "in_box": 1.0}
    assert _hits(scored, float("inf")) == {"first": 1.0, "in_box": 1.0}


def test_the_regression_finds_the_score_that_tells():
    source = torch.Generator().manual_seed(0)
    scored = []
    for _ in range(60):
        noise, told = torch.randn(2, 3, generator=source), torch.randn(2, 3, generator=source)
        told[1, 0] += 2.0
        scored.append(scene(noise.tolist(), told.tolist()))
    found = _regression(scored)
    assert found["evidence"] > 1.0
    assert abs(found["log_prob"]) < 0.5
