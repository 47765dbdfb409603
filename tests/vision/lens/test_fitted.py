"""The fitted lens beside least squares by hand, its penalty beside errors that are left out one by one."""

import pytest
import torch
from torch import nn

from torchnle.vision.lens import Lens
from torchnle.vision.lens.base import smoothed
from torchnle.vision.lens.fitted import RidgeSums, fit_lens
from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import resolve

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def drawn(rows, width, wanted, noise, seed=0):
    source = torch.Generator().manual_seed(seed)
    given = torch.randn(rows, width, generator=source) + 3
    truth = torch.randn(width, wanted, generator=source)
    return given, given @ truth + 1 + noise * torch.randn(rows, wanted, generator=source), truth


def ridge_by_hand(given, wanted, penalty):
    """Centered ridge regression in double precision: weight and bias."""
    x, y = given.double(), wanted.double()
    a, b = x - x.mean(dim=0), y - y.mean(dim=0)
    gram = a.T @ a
    weight = torch.linalg.solve(gram + penalty * gram.diagonal().mean() * torch.eye(len(gram)), a.T @ b)
    return weight, y.mean(dim=0) - x.mean(dim=0) @ weight


def test_without_noise_the_linear_map_itself_is_found():
    given, wanted, truth = drawn(50, 6, 4, noise=0.0)
    sums = RidgeSums(6, 4)
    for part in ((0, 20), (20, 50)):
        sums.add(given[slice(*part)], wanted[slice(*part)])
    weight, bias = sums.solve()
    torch.testing.assert_close(weight, truth, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(given @ weight + bias, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("noise", "rows"), [(0.1, 200), (5.0, 12), (30.0, 9)])
def test_the_penalty_is_that_of_least_generalised_cross_validation_error(noise, rows):
    given, wanted, _ = drawn(rows, 6, 4, noise)
    sums = RidgeSums(6, 4)
    sums.add(given, wanted)

    def error(penalty):
        weight, bias = ridge_by_hand(given, wanted, penalty)
        a = given.double() - given.double().mean(dim=0)
        gram = a.T @ a
        ridge = gram + penalty * gram.diagonal().mean() * torch.eye(6)
        free = rows - 1 - torch.trace(torch.linalg.solve(ridge, gram))
        return ((given.double() @ weight + bias - wanted) ** 2).sum() / free**2

    best = min((10.0**power for power in range(-6, 2)), key=error)
    weight, bias = ridge_by_hand(given, wanted, best)
    found, offset = sums.solve()
    torch.testing.assert_close(found.double(), weight, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(offset.double(), bias, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_linear_upper_part_is_found_from_two_images():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.Conv2d(5, 7, 1), nn.Conv2d(7, 6, 1)).eval()
    exact = Lens(model, "0", "2", example=IMAGES, smooth=False)
    fitted = fit_lens(exact, [IMAGES[:1], IMAGES[1:2]])
    (features,) = read(model, resolve(model, "0"), IMAGES)
    for where in (None, "all", (1, 2)):
        torch.testing.assert_close(
            fitted.read(features, where).tokens, exact.read(features, where).tokens, atol=1e-3, rtol=1e-3
        )
    assert fitted.read(features, "all").grid == (4, 4)
    assert "2 images" in fitted.summary


@torch.no_grad()
def test_it_is_fitted_to_the_deeper_layer_at_the_place_of_each_location():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU(), nn.Conv2d(5, 7, 2, 2), nn.ReLU()).eval()
    exact = Lens(model, "1", "3", example=IMAGES)
    (features,) = read(model, resolve(model, "1"), IMAGES)
    rows = smoothed(features).rows
    deeper = model(IMAGES)
    wanted = [
        deeper[image, :, row // 2, column // 2]
        for image in range(4) for row in range(4) for column in range(4)
    ]  # fmt: skip
    sums = RidgeSums(5, 7)
    sums.add(rows, torch.stack(wanted))
    weight, bias = sums.solve()
    found = fit_lens(exact, IMAGES.split(3))
    torch.testing.assert_close(found.rows(rows), rows @ weight + bias, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_layer_that_is_not_read_as_a_mean_is_fitted_to_what_the_lens_gives():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU(), nn.Conv2d(5, 7, 1), nn.ReLU()).eval()

    def first(features, where):
        return features.select((0, 0) if where is None else where)

    exact = Lens(model, "1", "3", example=IMAGES, end_reading=Reading(pool=first))
    (features,) = read(model, resolve(model, "1"), IMAGES)
    rows = smoothed(features).rows
    sums = RidgeSums(5, 7)
    sums.add(rows, exact.rows(rows))
    weight, bias = sums.solve()
    found = fit_lens(exact, IMAGES.split(3))
    torch.testing.assert_close(found.rows(rows), rows @ weight + bias, atol=1e-4, rtol=1e-4)


def test_there_must_be_images_to_fit_to():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.Conv2d(5, 7, 1)).eval()
    with pytest.raises(ValueError, match="no images"):
        fit_lens(Lens(model, "0", "1", example=IMAGES), [])
