from __future__ import annotations

import pytest
import torch

from torchnle.training.dropout import Draws, keep, pool
from torchnle.training.randomness import generator

LOCATIONS = {"a": 9, "b": 4, "c": 1}


def draw(step=0, batch=4000, layer=0.5, location=(0.5, 0.5), location_counts=LOCATIONS):
    return Draws.of_step(7, step, batch, location_counts, layer_dropout=layer, location_dropout=location)


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.9])
def test_the_law_is_bernoulli_given_that_something_remains(probability):
    """Against the definition: of all 8 subsets of 3 parts but the empty one, in proportion."""
    count, rows = 3, 40_000
    kept = keep(torch.full((rows, 1), probability), count, generator("law"))
    codes = (kept * torch.tensor([1, 2, 4])).sum(dim=1)
    found = codes.bincount(minlength=8) / rows
    sizes = torch.tensor([bin(code).count("1") for code in range(8)])
    expected = probability**sizes * (1 - probability) ** (count - sizes)
    expected[0] = 0
    torch.testing.assert_close(found, expected / expected.sum(), atol=0.01, rtol=0)


def test_nothing_dropped_keeps_all():
    draws = draw(layer=0.0, location=(0.0, 0.0))
    assert all(kept.all() for kept in (*draws.layers.values(), *draws.locations.values()))


def test_each_step_and_layer_draws_its_own():
    first, again, other = draw(0), draw(0), draw(1)
    assert torch.equal(first.locations["a"], again.locations["a"])
    assert not torch.equal(first.locations["a"], other.locations["a"])
    layers = torch.stack(list(first.layers.values()), dim=1).float()
    correlation = torch.corrcoef(layers.T)
    assert correlation.fill_diagonal_(0).abs().max() < 0.25  # only by the ban on dropping all three


def test_rows_of_a_draw_do_not_depend_on_how_it_is_cut():
    whole = draw(batch=8)
    for rows in (slice(0, 4), slice(4, 8)):
        part = whole[rows]
        assert torch.equal(part.captions, whole.captions[rows])
        assert torch.equal(part.layers["b"], whole.layers["b"][rows])
        assert torch.equal(part.locations["a"], whole.locations["a"][rows])


def test_a_range_is_drawn_for_each_image_and_layer():
    kept = draw(location=(0.0, 0.9)).locations["a"].float().mean(dim=1)
    assert kept.mean() == pytest.approx(0.55, abs=0.02)
    assert kept.std() > 0.25  # a single 0.45 would give sqrt(0.55 * 0.45 / 9) = 0.17


def test_pooling_is_the_mean_over_what_is_kept():
    x = torch.randn(3, 4, 2, generator=generator("pool"))
    kept = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    pooled = pool({"a": x}, {"a": kept})["a"]
    slow = torch.stack([x[row][kept[row]].mean(dim=0) for row in range(3)])[:, None]
    torch.testing.assert_close(pooled, slow)
    torch.testing.assert_close(pool({"a": x})["a"], pool({"a": x}, {"a": kept | True})["a"])


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, float("nan")])
def test_a_probability_that_keeps_nothing(probability):
    with pytest.raises(ValueError, match="below 1, so that something can remain"):
        keep(torch.full((2, 1), probability), 3, generator(0))
