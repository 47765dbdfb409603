import pytest
import torch
import torch.nn.functional as F
from torch import nn

from torchnle.evaluation.concept_faithfulness import (
    PROMPT,
    concept_agreement,
    control_concepts,
    decision_lost,
)

NAMES = ["hen", "cat", "tub"]
CONCEPTS = ["comb", "fur", "soap", "wheel"]
#: Class vectors, with one direction that all share.
TARGETS = torch.eye(3, 4)


def encode(texts):
    """The name's own axis weakly, its concepts' axes strongly, and one axis for the words of the prompt."""
    found = torch.zeros(len(texts), 8)
    for row, text in zip(found, texts, strict=True):
        row[7] = 1.0
        for index, word in enumerate([*NAMES, *CONCEPTS]):
            row[index] += (0.2 if index < 3 else 1.0) * (word in text)
    return F.normalize(found, dim=1)


class Regression(nn.Module):
    """Names and concepts to class vectors: a name alone is a little wrong, a class with its concept right."""

    def forward(self, texts):
        names, concepts = texts[:, :3], texts[:, 3:6]
        found = names.roll(1, dims=1) * 0.1 + names * concepts * 5
        return torch.cat([found, torch.full((len(texts), 1), 0.3)], dim=1)


def test_concepts_of_an_image_decide_where_names_do_not():
    white, classes = TARGETS, torch.tensor([0, 1, 2])
    own = [["comb"], ["fur"], ["soap"]]
    agreement = concept_agreement(Regression(), encode, white, classes, NAMES, own)
    assert agreement == 1.0
    assert concept_agreement(Regression(), encode, white, classes, NAMES, [[]] * 3) == 0.0
    wrong = [["fur"], ["soap"], ["comb"]]
    assert concept_agreement(Regression(), encode, white, classes, NAMES, wrong) < agreement


def test_the_agreement_is_its_definition():
    generator = torch.Generator().manual_seed(0)
    regression = nn.Linear(8, 5, bias=False).requires_grad_(False)
    white, classes = torch.randn(6, 5, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])
    concepts = [CONCEPTS[i % 4 : i % 4 + 2] for i in range(6)]
    hits = 0
    for row, own, listed in zip(white, classes, concepts, strict=True):
        scores = []
        for name in NAMES:
            texts = [PROMPT.replace("{}", f"{name}, {concept}") for concept in listed]
            mean = F.normalize(encode(texts).mean(dim=0), dim=0)
            scores.append(float(F.cosine_similarity(regression(mean), row, dim=0)))
        hits += scores.index(max(scores)) == int(own)
    assert concept_agreement(regression, encode, white, classes, NAMES, concepts) == hits / 6


def test_what_is_lost_is_what_projections_take_away():
    draw = torch.Generator().manual_seed(5)
    white, along = (torch.randn(4, 9, generator=draw) for _ in range(2))
    concepts = torch.randn(4, 3, 9, generator=draw)
    for x, d, rows, lost in zip(white, along, concepts, decision_lost(white, along, concepts), strict=True):
        left = x - rows.T @ torch.linalg.lstsq(rows.T, x[:, None]).solution[:, 0]
        assert float(lost) == pytest.approx(float(1 - left @ d / (x @ d)), rel=1e-3)


def test_controls_are_of_other_images_and_as_many():
    concepts = [("comb", "fur"), ("soap", "wheel"), ("fur", "wheel"), ("comb", "soap")]
    classes = [0, 0, 1, 2]
    found = control_concepts(concepts, classes, CONCEPTS, seed=3)
    assert found["same class"] == [concepts[1], concepts[0], concepts[2], concepts[3]]
    for own, other in enumerate(found["wrong image"]):
        assert classes[concepts.index(other)] != classes[own]
    assert all(len(set(each)) == 2 and set(each) <= set(CONCEPTS) for each in found["random"])
    assert control_concepts(concepts, classes, CONCEPTS, seed=3) == found


def test_bad_input():
    with pytest.raises(ValueError, match="one class"):
        control_concepts([("a",), ("b",)], [1, 1], CONCEPTS)
    with pytest.raises(ValueError, match="2 features"):
        concept_agreement(Regression(), encode, torch.ones(2, 3), torch.tensor([0]), NAMES, [[]])
