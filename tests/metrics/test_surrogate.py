import pytest
import torch

from torchnle.metrics.surrogate import distance, linear_surrogate


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_the_mass_that_has_to_move():
    first, second = drawn(4, 5, seed=0).softmax(1), drawn(4, 5, seed=1).softmax(1)
    slow = [sum(max(0.0, float(a - b)) for a, b in zip(p, q, strict=True)) for p, q in zip(first, second)]  # noqa: B905
    assert distance(first, second).tolist() == pytest.approx(slow, abs=1e-6)


def test_ridge_regression_is_its_normal_equations():
    from torchnle.metrics.surrogate import _predict

    x, y, queries, penalty = drawn(20, 4, seed=2), drawn(20, 3, seed=3), drawn(6, 4, seed=4), 0.5
    centered, level = (x - x.mean(0)).double(), y.mean(0)
    scale = penalty * centered.square().sum(1).mean()
    weights = torch.linalg.solve(
        centered.T @ centered + scale * torch.eye(4, dtype=torch.float64), centered.T @ (y - level).double()
    )
    expected = ((queries - x.mean(0)).double() @ weights).float() + level
    torch.testing.assert_close(_predict(x, y, queries, penalty), expected, atol=1e-5, rtol=1e-5)


def test_what_says_all_beats_half_of_it_and_that_beats_shuffled_images():
    x = drawn(200, 12, seed=5)
    logits = 3 * x @ drawn(12, 6, seed=6)
    shuffled = x[torch.randperm(200, generator=torch.Generator().manual_seed(7))]
    whole, half, none = (
        linear_surrogate(each[:150], logits[:150], each[150:], logits[150:])
        for each in (x, x[:, :6], shuffled)
    )
    assert whole.distance < 0.05 < half.distance < none.distance - 0.1
    assert whole.agreement > 0.95 > half.agreement > none.agreement


def test_explanations_that_are_all_alike_give_the_mean():
    logits = drawn(30, 4, seed=8)
    found = linear_surrogate(torch.zeros(20, 1), logits[:20], torch.zeros(10, 1), logits[20:])
    expected = distance(logits[:20].mean(0).softmax(0).expand(10, -1), logits[20:].softmax(1)).mean()
    assert found.distance == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("fitted", "rows", "others"), [(4, 4, 2), (6, 6, 0), (6, 5, 2)])
def test_too_few_images_or_other_sizes_are_told(fitted, rows, others):
    with pytest.raises(ValueError, match=str(fitted)):
        linear_surrogate(
            torch.ones(fitted, 2), torch.ones(rows, 3), torch.ones(others, 2), torch.ones(others, 3)
        )
