"""What a vector reminds of, against the formulas written out."""

from __future__ import annotations

import pytest
import torch

from torchnle.translators.recall import PhraseMemory, whitening

PHRASES = torch.tensor([[2.0, 0.0, 0.1], [2.0, 0.3, 0.0], [-1.0, 0.0, 0.4], [0.5, -0.2, 0.0]])
CENTER = torch.tensor([0.5, 0.0, 0.1])


def by_hand(vector, by, temperature):
    steps = PHRASES - CENTER
    covariance = sum(torch.outer(step, step) for step in steps) / 4
    metric = torch.linalg.inv(covariance / (covariance.trace() / 3) + 3 * torch.eye(3))
    lengths = [(step @ metric @ step).sqrt() for step in steps]
    away = vector - CENTER
    own = (away @ metric @ away).sqrt() if by == "cosine" else sum(lengths) / 4
    logits = [
        away @ metric @ step / length / own / temperature for step, length in zip(steps, lengths, strict=True)
    ]
    weights = torch.stack(logits).softmax(0)
    mean = sum(weight * step for weight, step in zip(weights, steps, strict=True))
    return CENTER + 0.7 * mean / mean.norm()


@pytest.mark.parametrize("by", ["cosine", "projection"])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_recall_by_hand(by, temperature):
    vectors = torch.tensor([[1.0, 0.4, 0.3], [0.4, -0.1, 0.2]])
    found = PhraseMemory(PHRASES, CENTER).recall(vectors, spread=0.7, temperature=temperature, by=by)
    torch.testing.assert_close(found, torch.stack([by_hand(vector, by, temperature) for vector in vectors]))


def test_only_projections_know_how_far_a_vector_lies():
    near = CENTER + torch.tensor([[0.05, 0.02, 0.01]])
    far = CENTER + 10 * (near - CENTER)
    memory, options = PhraseMemory(PHRASES, CENTER), {"spread": 1.0, "temperature": 0.1}
    torch.testing.assert_close(memory.recall(near, **options), memory.recall(far, **options))
    told = [memory.recall(v, **options, by="projection") for v in (near, far)]
    assert (told[0] - told[1]).norm() > 0.02


def test_what_all_phrases_share_does_not_outweigh_what_tells_them_apart():
    """Seen from their mean both lie where the wide direction is; the narrow one names the second phrase."""
    wide = torch.tensor([[4.0, 0.5], [4.0, -0.5], [-4.0, 0.5], [-4.0, -0.5]])
    vector = torch.tensor([[2.0, -0.45]])
    found = PhraseMemory(wide, torch.zeros(2)).recall(vector, spread=1.0, temperature=0.01)
    torch.testing.assert_close(found, torch.nn.functional.normalize(wide[1:2], dim=-1), atol=1e-3, rtol=0)


def test_phrases_that_are_all_alike_do_no_harm():
    same = torch.ones(3, 2)
    assert torch.isfinite(whitening(same - 1)).all()
    vectors = torch.randn(2, 2)
    memory = PhraseMemory(same, torch.zeros(2))
    assert torch.isfinite(memory.recall(vectors, spread=1.0, temperature=0.1)).all()


def test_the_vectors_own_type_is_kept():
    vectors = torch.randn(2, 3).bfloat16()
    found = PhraseMemory(PHRASES.bfloat16(), CENTER.bfloat16()).recall(vectors, spread=1.0, temperature=0.1)
    assert found.dtype == torch.bfloat16
