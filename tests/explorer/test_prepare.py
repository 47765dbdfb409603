import torch
from torch import nn

from torchnle.explorer.prepare import fit_to_lens
from torchnle.vision.lens.base import smoothed
from torchnle.vision.lens.fitted import RidgeSums
from torchnle.vision.lens.lens import Lens
from torchnle.vision.reading import read
from torchnle.vision.taps import resolve

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_a_linear_map_is_fitted_to_the_lens_at_so_many_locations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU(), nn.Conv2d(5, 7, 1), nn.ReLU()).eval()
    exact = Lens(model, "1", "3", example=IMAGES)
    (features,) = read(model, resolve(model, "1"), IMAGES)
    rows = smoothed(features).rows
    sums = RidgeSums(5, 7)
    sums.add(rows, exact.rows(rows))
    weight, bias = sums.solve()
    every = fit_to_lens(exact, IMAGES, locations=10_000)
    torch.testing.assert_close(every.rows(rows), rows @ weight + bias, atol=1e-4, rtol=1e-4)
    few = fit_to_lens(exact, IMAGES, locations=40)
    assert "40 locations of 4 photographs" in few.summary
    assert torch.equal(few.weight, fit_to_lens(exact, IMAGES, locations=40).weight)
    assert not torch.allclose(few.weight, every.weight, atol=1e-3)


@torch.no_grad()
def test_a_linear_upper_part_is_found_from_a_few_locations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.Conv2d(5, 7, 1), nn.Conv2d(7, 6, 1)).eval()
    exact = Lens(model, "0", "2", example=IMAGES)
    fitted = fit_to_lens(exact, IMAGES[:1], locations=12)
    (features,) = read(model, resolve(model, "0"), IMAGES)
    for where in (None, "all", (1, 2)):
        torch.testing.assert_close(
            fitted.read(features, where).tokens, exact.read(features, where).tokens, atol=1e-3, rtol=1e-3
        )
