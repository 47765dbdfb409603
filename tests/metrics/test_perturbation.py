"""Insertion and deletion against one image and one step at a time, and on a model whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from torchnle.metrics import Curves, deletion, insertion
from torchnle.metrics.perturbation import blur


def case(images=3, size=(6, 5), classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(classes))
    x = torch.randn(images, 2, *size, generator=generator)
    model(x)
    maps = torch.randn(images, *size, generator=generator)
    return model.eval(), x, maps, torch.tensor([1, 0, 3])


def oracle(model, start, end, saliency, target, steps):
    """Pixels change one after another, from the most salient on, and the model is run at each step."""
    height, width = saliency.shape
    pixels = [(-saliency[r, c].item(), r * width + c) for r in range(height) for c in range(width)]
    order = [index for _, index in sorted(pixels)]
    values, shares = [], []
    for step in range(steps + 1):
        count = round(step * len(order) / steps)
        image = start.clone()
        for index in order[:count]:
            image[:, index // width, index % width] = end[:, index // width, index % width]
        with torch.no_grad():
            values.append(torch.softmax(model(image[None])[0], dim=0)[target].item())
        shares.append(count / len(order))
    area = sum((values[i] + values[i + 1]) / 2 * (shares[i + 1] - shares[i]) for i in range(steps))
    return values, shares, area


@pytest.mark.parametrize("steps", [1, 4, 30])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_are_the_slow_curves(steps, batch_size):
    model, x, maps, targets = case()
    maps[1] = (maps[1] * 2).round()  # with ties
    removed = deletion(model, x, maps, targets, steps=steps, batch_size=batch_size)
    put = insertion(model, x, maps, targets, steps=steps, batch_size=batch_size)
    for curves, start, end in ((removed, x, torch.zeros_like(x)), (put, blur(x), x)):
        for i in range(len(x)):
            values, shares, area = oracle(model, start[i], end[i], maps[i], targets[i], steps)
            assert curves.values[i].tolist() == pytest.approx(values, abs=1e-6)
            assert curves.shares.tolist() == pytest.approx(shares)
            assert curves.areas[i].item() == pytest.approx(area, abs=1e-6)


def test_the_blur_is_the_slow_blur():
    image = torch.randn(1, 2, 14, 13, generator=torch.Generator().manual_seed(1))
    weights = [math.exp(-(d**2) / 50) for d in range(-5, 6)]
    total = sum(weights)
    expected = torch.zeros_like(image)
    for r in range(14):
        for c in range(13):
            for dr in range(-5, 6):
                for dc in range(-5, 6):
                    if 0 <= r + dr < 14 and 0 <= c + dc < 13:
                        share = weights[dr + 5] * weights[dc + 5] / total**2
                        expected[:, :, r, c] += share * image[:, :, r + dr, c + dc]
    torch.testing.assert_close(blur(image), expected)


class CountsPixels(nn.Module):
    """Its log odds are how many of the first row's pixels are lit."""

    def forward(self, images):
        lit = images[:, 0, 0].sum(dim=1)
        return torch.stack([lit, torch.zeros_like(lit)], dim=1)


def test_a_model_whose_answer_is_known():
    images = torch.ones(2, 1, 4, 4)
    right = torch.zeros(4, 4)
    right[0] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    maps = torch.stack([right, -right])
    targets = torch.tensor([0, 0])
    sigmoid = [1 / (1 + math.exp(-n)) for n in range(5)]
    options = {"steps": 16, "substrate": torch.zeros_like}
    removed = deletion(CountsPixels(), images, maps, targets, **options)
    put = insertion(CountsPixels(), images, maps, targets, **options)
    assert removed.values[0].tolist() == pytest.approx([*sigmoid[::-1], *[0.5] * 12])
    assert removed.values[1].tolist() == pytest.approx([*[sigmoid[4]] * 12, *sigmoid[::-1]])
    assert put.values[0].tolist() == pytest.approx([*sigmoid, *[sigmoid[4]] * 12])
    assert put.values[1].tolist() == pytest.approx([*[0.5] * 12, *sigmoid])
    assert removed.areas[0] < removed.areas[1]
    assert put.areas[0] > put.areas[1]


def test_laws():
    model, x, maps, targets = case()
    order = torch.tensor([2, 0, 1])
    for curve in (deletion, insertion):
        found = curve(model, x, maps, targets, steps=5)
        turned = curve(model, x[order], maps[order], targets[order], steps=5)
        torch.testing.assert_close(turned.values, found.values[order])
        torch.testing.assert_close(curve(model, x, maps.exp() * 3, targets, steps=5).values, found.values)
        torch.testing.assert_close(found.mean, found.values.sum(dim=0) / 3)
    removed, put = (
        c(model, x, maps, targets, steps=5, substrate=torch.zeros_like) for c in (deletion, insertion)
    )
    torch.testing.assert_close(removed.values[:, 0], put.values[:, -1])
    torch.testing.assert_close(removed.values[:, -1], put.values[:, 0])
    reverse = deletion(model, x, -maps, targets, steps=5, substrate=torch.zeros_like)
    torch.testing.assert_close(reverse.values.flip(1), put.values)


def test_the_model_is_left_as_it_was():
    model, x, maps, targets = case()
    model.train()
    assert not deletion(model, x, maps, targets, steps=2).values.requires_grad
    assert model.training


def test_areas_of_lines():
    curves = Curves(torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]]), torch.tensor([0.0, 0.5, 1.0]))
    assert curves.areas.tolist() == [0.5, 1.0]
    assert curves.mean.tolist() == [0.5, 0.75, 1.0]


@pytest.mark.parametrize("curve", [deletion, insertion])
def test_bad_inputs_are_refused(curve):
    model, x, maps, targets = case()
    for bad in (
        (x[0], maps, targets),
        (x, maps[:, None], targets),
        (x, maps[:, :3], targets),
        (x, maps, targets[:2]),
        (x, maps, targets.float()),
        (x[:0], maps[:0], targets[:0]),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            curve(model, *bad)
    for options in {"steps": 0}, {"batch_size": 0}:
        with pytest.raises(ValueError, match="positive"):
            curve(model, x, maps, targets, **options)
    with pytest.raises(ValueError, match="NaN"):
        curve(model, x, maps / 0, targets)
