import pytest
import torch

from torchnle.metrics.ranking import auroc, auroc_error


def slow_area(values, positive):
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in values[positive].tolist()
        for n in values[~positive].tolist()
    ]
    return sum(pairs) / len(pairs)


def test_the_area_counts_pairs_with_ties():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(6, (40, 5), generator=generator).float()
    positive = torch.rand(40, generator=generator) < 0.3
    expected = [slow_area(values[:, column], positive) for column in range(5)]
    assert auroc(values, positive).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_error_is_that_of_repeated_draws():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(120, 3000, generator=generator)
    values[:40] += 1.0
    positive = torch.arange(120) < 40
    areas = auroc(values, positive)
    assert areas.std().item() == pytest.approx(auroc_error(areas.mean()[None], 40, 80).item(), rel=0.15)


def test_one_kind_alone_is_refused():
    with pytest.raises(ValueError, match="0 negative"):
        auroc(torch.rand(3, 1), torch.ones(3, dtype=torch.bool))
