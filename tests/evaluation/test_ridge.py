from __future__ import annotations

import warnings

import pytest
import torch

from torchnle.evaluation.scenes.ridge import PENALTIES, RidgeSums


def data(n=60, d=5, k=3, noise=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator).double() * torch.arange(1, d + 1) + 2
    y = x @ torch.randn(d, k, generator=generator).double()
    return x, y + noise * torch.randn(n, k, generator=generator).double()


def slow_ridge(x, y, penalty):
    """The definition, by one linear system on the centred, standardised rows."""
    mean, y_mean, std = x.mean(0), y.mean(0), x.std(0, correction=0)
    z = (x - mean) / std
    weight = torch.linalg.solve(z.T @ z + penalty * torch.eye(x.shape[1]).double(), z.T @ (y - y_mean))
    return lambda rows: ((rows - mean) / std) @ weight + y_mean


def slow_loo(x, y, penalty):
    """Refit without each row; standardisation is part of the preprocessing and stays, the mean does not."""
    mean, std = x.mean(0), x.std(0, correction=0)
    z = (x - mean) / std
    errors = []
    for i in range(len(x)):
        kept = [j for j in range(len(x)) if j != i]
        design = torch.cat([z[kept], torch.ones(len(kept), 1).double()], dim=1)
        shrink = penalty * torch.eye(design.shape[1]).double()
        shrink[-1, -1] = 0
        beta = torch.linalg.solve(design.T @ design + shrink, design.T @ y[kept])
        errors.append((y[i] - torch.cat([z[i], torch.ones(1).double()]) @ beta).square().sum())
    return torch.stack(errors).mean().item()


def fit(x, y, parts=4, **options):
    sums = RidgeSums(x.shape[1], y.shape[1], **options)
    for rows, targets in zip(x.chunk(parts), y.chunk(parts), strict=True):
        sums.add(rows, targets)
    return sums


def test_the_map_is_ridge_regression():
    x, y = data()
    fitted, report = fit(x, y).solve()
    expected = slow_ridge(x, y, report["penalty"] * len(x))
    torch.testing.assert_close(fitted(x.float()).double(), expected(x), atol=1e-4, rtol=1e-4)


def test_the_leave_one_out_error_is_that_of_refitting():
    x, y = data(n=25)
    for penalty in (1e-3, 0.1, 1.0):
        _, report = fit(x, y).solve([penalty])
        assert report["loo_error"] == pytest.approx(slow_loo(x, y, penalty * 25), rel=1e-6)


def test_the_penalty_with_the_least_error_is_chosen():
    x, y = data(n=30, d=20, noise=3.0)
    _, best = fit(x, y).solve()
    errors = {penalty: fit(x, y).solve([penalty])[1]["loo_error"] for penalty in PENALTIES}
    assert best["penalty"] == min(errors, key=errors.get)
    assert 0 < PENALTIES.index(best["penalty"]) < len(PENALTIES) - 1


def test_batches_do_not_matter():
    x, y = data()
    one, many = fit(x, y, parts=1).solve()[0], fit(x, y, parts=13).solve()[0]
    torch.testing.assert_close(one.weight, many.weight)


def test_a_sample_estimates_the_error_of_all():
    x, y = data(n=4000)
    _, exact = fit(x, y, sample=4000).solve([0.1])
    _, sampled = fit(x, y, sample=1000).solve([0.1])
    assert sampled["loo_error"] == pytest.approx(exact["loo_error"], rel=0.1)


def test_noise_alone_explains_nothing():
    x, _ = data(n=200)
    y = torch.randn(200, 3, generator=torch.Generator().manual_seed(9)).double()
    assert fit(x, y).solve()[1]["loo_r2"] < 0.05


def test_fewer_samples_than_channels_and_constant_channels_are_told():
    x, y = data(n=4, d=6)
    x[:, 2] = 1.0
    with pytest.warns(UserWarning, match="channels") as told:
        fitted, _ = fit(x, y, parts=1).solve()
    assert [str(w.message).split(";")[0].split(":")[0] for w in told] == [
        "1 of 6 channels are constant",
        "4 samples for 6 channels",
    ]
    assert fitted.scale[2] == 0
    assert fitted(x.float()).isfinite().all()


def test_duplicate_rows_are_weights():
    x, y = data(n=20)
    doubled, _ = fit(torch.cat([x, x]), torch.cat([y, y])).solve([0.1])
    once, _ = fit(x, y).solve([0.1])
    torch.testing.assert_close(doubled.weight, once.weight)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(3, 3), "do not fit"),
        (torch.zeros(3, 5), torch.zeros(2, 3), "do not fit"),
        (torch.full((3, 5), float("nan")), torch.zeros(3, 3), "NaN"),
    ],
)
def test_bad_batches(x, y, message):
    with pytest.raises(ValueError, match=message):
        RidgeSums(5, 3).add(x, y)


def test_one_sample_is_no_regression():
    sums = RidgeSums(5, 3)
    sums.add(torch.zeros(1, 5), torch.zeros(1, 3))
    with warnings.catch_warnings(), pytest.raises(ValueError, match="at least two"):
        sums.solve()
