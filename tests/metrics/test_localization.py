"""Localisation measures against slow oracles that loop over pixels."""

from __future__ import annotations

import math

import pytest
import torch

from torchnle.metrics import (
    best_iou,
    box_masks,
    chance_level,
    energy_inside,
    mean_over_classes,
    pointing_hits,
)

torch.manual_seed(0)


def oracle_pointing(saliency, mask, tolerance):
    top = saliency.max()
    points = [(r, c) for r in range(len(saliency)) for c in range(len(saliency[0])) if saliency[r, c] == top]
    objects = [(r, c) for r in range(len(mask)) for c in range(len(mask[0])) if mask[r, c]]

    def hit(r, c):
        return any((r, c) == (y, x) or (r - y) ** 2 + (c - x) ** 2 < tolerance**2 for y, x in objects)

    return sum(hit(*point) for point in points) / len(points)


def oracle_energy(saliency, mask):
    least = saliency.min().item()
    inside = total = 0.0
    for r in range(saliency.shape[0]):
        for c in range(saliency.shape[1]):
            total += saliency[r, c].item() - least
            inside += (saliency[r, c].item() - least) * bool(mask[r, c])
    return inside / total


def oracle_iou(saliency, mask):
    best = 0.0
    for threshold in saliency.unique():
        taken = saliency >= threshold
        best = max(best, (taken & mask).sum().item() / (taken | mask).sum().item())
    return best


def random_case(count=12, size=(9, 13), levels=None):
    maps = torch.randn(count, *size)
    if levels:
        maps = (maps * levels).round()
    masks = torch.rand(count, *size) < torch.linspace(0.05, 0.6, count)[:, None, None]
    masks[:, 0, 0] = True
    return maps, masks


@pytest.mark.parametrize("levels", [None, 1], ids=["distinct", "ties"])
@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3, 15])
def test_pointing_is_the_slow_pointing(tolerance, levels):
    maps, masks = random_case(levels=levels)
    masks &= torch.rand(masks.shape) < 0.2
    masks[:, -1, 0] = True
    expected = [oracle_pointing(m, k, tolerance) for m, k in zip(maps, masks, strict=True)]
    torch.testing.assert_close(pointing_hits(maps, masks, tolerance=tolerance), torch.tensor(expected))


def test_torchrays_disc_ends_before_fifteen_pixels():
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, 20, 5] = True
    maps = torch.zeros(2, 40, 40)
    maps[0, 20, 20] = maps[1, 20, 19] = 1.0
    assert pointing_hits(maps, mask.expand(2, -1, -1)).tolist() == [0.0, 1.0]
    diagonal = torch.zeros(2, 40, 40)
    diagonal[0, 29, 17] = diagonal[1, 28, 17] = 1.0  # 9 and 12: exactly 15; 8 and 12: 14.4
    assert pointing_hits(diagonal, mask.expand(2, -1, -1)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("levels", [None, 2], ids=["distinct", "ties"])
def test_energy_and_overlap_are_the_slow_ones(levels):
    maps, masks = random_case(levels=levels)
    pairs = list(zip(maps, masks, strict=True))
    torch.testing.assert_close(energy_inside(maps, masks), torch.tensor([oracle_energy(*p) for p in pairs]))
    torch.testing.assert_close(best_iou(maps, masks), torch.tensor([oracle_iou(*p) for p in pairs]))


@pytest.mark.parametrize("measure", [pointing_hits, energy_inside, best_iou])
def test_laws(measure):
    maps, masks = random_case()
    together = measure(maps, masks)
    one_by_one = torch.cat([measure(maps[i : i + 1], masks[i : i + 1]) for i in range(len(maps))])
    torch.testing.assert_close(together, one_by_one)
    order = torch.randperm(len(maps))
    torch.testing.assert_close(measure(maps[order], masks[order]), together[order])
    torch.testing.assert_close(measure(3.0 * maps - 100, masks), together, atol=1e-4, rtol=0)
    torch.testing.assert_close(measure(maps.flip(2), masks.flip(2)), together)
    assert measure(masks.float(), masks).tolist() == [1.0] * len(maps)
    assert measure(maps.bfloat16(), masks).dtype == torch.float32
    assert measure(maps[:0], masks[:0]).shape == (0,)


def test_constant_maps_score_their_chance_level():
    _, masks = random_case()
    flat = torch.full(masks.shape, -7.0)
    shares = masks.float().mean((1, 2))
    for measured in (energy_inside(flat, masks), best_iou(flat, masks), chance_level(masks)):
        torch.testing.assert_close(measured, shares)
    torch.testing.assert_close(pointing_hits(flat, masks, tolerance=2), chance_level(masks, tolerance=2))


def test_the_chance_level_of_a_box_counts_the_disc_around_it():
    box = box_masks([(30, 30, 70, 60)], (100, 100))
    near = sum(
        math.hypot(max(30 - x, 0, x - 69), max(30 - y, 0, y - 59)) < 15
        for y in range(100)
        for x in range(100)
    )
    assert chance_level(box, tolerance=15).item() == pytest.approx(near / 10_000)
    assert chance_level(box).item() == pytest.approx(0.12)


def test_pointing_at_random_has_the_chance_level():
    masks = box_masks([(4, 6, 14, 12)], (24, 32)).expand(4000, -1, -1)
    hits = pointing_hits(torch.rand(masks.shape), masks, tolerance=3)
    assert hits.mean().item() == pytest.approx(chance_level(masks[:1], tolerance=3).item(), abs=0.03)


def test_boxes_become_masks():
    masks = box_masks(torch.tensor([[0, 0, 1, 1], [1, 2, 4, 3]]), (3, 4))
    assert masks[0].nonzero().tolist() == [[0, 0]]
    assert masks[1].nonzero().tolist() == [[2, 1], [2, 2], [2, 3]]
    for bad in ((2, 0, 2, 1), (-1, 0, 1, 1), (0, 0, 5, 1), (0, 2, 1, 4)):
        with pytest.raises(ValueError, match="box 1 is"):
            box_masks([(0, 0, 1, 1), bad], (3, 4))


def test_rare_classes_count_as_much_as_frequent_ones():
    mean, each = mean_over_classes(torch.tensor([1.0, 0.0, 1.0, 1.0]), [7, 3, 7, 7])
    assert mean == 0.5
    assert each == {7: 1.0, 3: 0.0}
    with pytest.raises(ValueError, match="2 classes"):
        mean_over_classes(torch.ones(3), ["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        mean_over_classes(torch.ones(0), [])


@pytest.mark.parametrize("measure", [pointing_hits, energy_inside, best_iou])
def test_bad_input_is_named(measure):
    maps, masks = random_case(3)
    for wrong in ((maps[0], masks[0]), (maps[:, :4], masks), (maps, masks.float()), (maps.long(), masks)):
        with pytest.raises(ValueError, match="do not fit"):
            measure(*wrong)
    with pytest.raises(ValueError, match=r"map\(s\) \[1\] hold NaN"):
        measure(maps.index_fill(0, torch.tensor(1), math.nan), masks)
    with pytest.raises(ValueError, match=r"mask\(s\) \[0, 2\] are empty"):
        measure(maps, masks & torch.tensor([False, True, False])[:, None, None])


@pytest.mark.parametrize("tolerance", [-1, math.inf, math.nan])
def test_bad_tolerances_are_refused(tolerance):
    maps, masks = random_case(1)
    with pytest.raises(ValueError, match="tolerance="):
        pointing_hits(maps, masks, tolerance=tolerance)
