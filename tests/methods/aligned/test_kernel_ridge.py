import math

import pytest
import torch
import torch.nn.functional as F

from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge


def data(examples=12, text_width=5, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    texts = F.normalize(torch.randn(examples, text_width, generator=generator), dim=1)
    return texts, torch.randn(examples, width, generator=generator)


def slow_predict(texts, targets, query, scale, penalty):
    """The textbook formula with loops, in float64: k(q)^T (K + penalty I)^-1 Y."""
    texts, targets, query = texts.double(), targets.double(), query.double()

    def squared(a, b):
        return sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))

    n = len(texts)
    pairs = sorted(squared(texts[i], texts[j]) for i in range(n) for j in range(i))
    median = pairs[(len(pairs) - 1) // 2]
    kernel = torch.tensor([[math.exp(-scale * squared(a, b) / median) for a in texts] for b in texts])
    row = torch.tensor([math.exp(-scale * squared(query, b) / median) for b in texts])
    inverse = torch.linalg.inv(kernel.double() + penalty * torch.eye(n).double())
    return row.double() @ inverse @ targets


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_prediction_is_the_textbook_formula(scale, penalty):
    texts, targets = data()
    query = F.normalize(torch.tensor([0.3, -1.0, 0.2, 0.7, 0.1]), dim=0)
    fitted = KernelRidge.fit(texts, targets, scale=scale, penalties=[penalty])
    expected = slow_predict(texts, targets, query, scale, penalty)
    assert torch.allclose(fitted(query[None])[0].double(), expected, atol=1e-5)


def test_the_penalty_is_the_one_of_the_least_error_when_every_text_is_really_left_out():
    texts, targets = data(examples=15)
    targets = targets + 6 * texts[:, :4]
    penalties, scale = [1e-3, 0.03, 0.3, 3.0, 30.0], 2.0
    whole = KernelRidge.fit(texts, targets, scale=scale, penalties=[1.0])
    errors = []
    for penalty in penalties:
        error = 0.0
        for left_out in range(len(texts)):
            rest = [i for i in range(len(texts)) if i != left_out]
            squared = (2 - 2 * texts[rest].double() @ texts.double().T).clamp_min(0)
            kernel = torch.exp(-scale * squared / whole.median.double())
            system = kernel[:, rest] + penalty * torch.eye(len(rest)).double()
            predicted = kernel[:, left_out] @ torch.linalg.solve(system, targets[rest].double())
            error += (predicted - targets[left_out]).square().sum().item()
        errors.append(error)
    best = penalties[errors.index(min(errors))]
    assert best not in (penalties[0], penalties[-1])
    chosen = KernelRidge.fit(texts, targets, scale=scale, penalties=penalties)
    only = KernelRidge.fit(texts, targets, scale=scale, penalties=[best])
    assert torch.equal(chosen.coefficients, only.coefficients)


def test_texts_given_twice_share_a_prediction_between_their_targets():
    texts, targets = data()
    texts[1] = texts[0]
    fitted = KernelRidge.fit(texts, targets, penalties=[1e-4])
    assert torch.allclose(fitted(texts[:1])[0], (targets[0] + targets[1]) / 2, atol=1e-2)


def test_all_texts_alike_map_to_the_mean():
    texts = torch.ones(3, 1)
    fitted = KernelRidge.fit(texts, torch.tensor([[1.0], [2.0], [6.0]]), penalties=[1e-6])
    assert fitted(texts).flatten().tolist() == pytest.approx([3.0] * 3, abs=1e-4)


def test_texts_far_from_all_that_were_fitted_map_to_nearly_nothing():
    texts = F.normalize(torch.eye(6)[:3] + 0.1, dim=1)
    fitted = KernelRidge.fit(texts, torch.ones(3, 2), scale=20.0)
    assert fitted(-texts).norm() < 1e-3 * fitted(texts).norm()


def test_sizes_are_the_config():
    fitted = KernelRidge.fit(*data())
    again = KernelRidge(**fitted.config)
    again.load_state_dict(fitted.state_dict())
    assert fitted.config == {"examples": 12, "text_width": 5, "width": 4}
    assert torch.equal(again(data()[0]), fitted(data()[0]))


@pytest.mark.parametrize("penalty", [0.02, 1.0])
def test_left_out_is_the_prediction_of_a_fit_without_each_text(penalty):
    texts, targets = data()
    texts[1] = texts[0]  # two copies predict each other
    fitted = KernelRidge.fit(texts, targets, scale=2.0, penalties=[penalty])
    squared = (2 - 2 * texts.double() @ texts.double().T).clamp_min(0)
    kernel = torch.exp(-2.0 * squared / fitted.median.double())
    for index, predicted in enumerate(fitted.left_out()):
        rest = [i for i in range(len(texts)) if i != index]
        system = kernel[rest][:, rest] + penalty * torch.eye(len(rest)).double()
        expected = kernel[index, rest] @ torch.linalg.solve(system, targets[rest].double())
        torch.testing.assert_close(predicted.double(), expected, atol=1e-4, rtol=1e-4)


def test_a_fold_is_predicted_by_the_fit_without_it():
    texts, targets = data()
    fitted = KernelRidge.fit(texts, targets, scale=2.0, penalties=[0.5])
    folds = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])  # the last four texts stay in every fit
    squared = (2 - 2 * texts.double() @ texts.double().T).clamp_min(0)
    kernel = torch.exp(-2.0 * squared / fitted.median.double())
    found = fitted.left_out(folds)
    assert found.shape == (8, targets.shape[1])
    for index, predicted in enumerate(found):
        rest = [i for i in range(len(texts)) if i >= len(folds) or folds[i] != folds[index]]
        system = kernel[rest][:, rest] + 0.5 * torch.eye(len(rest)).double()
        expected = kernel[index, rest] @ torch.linalg.solve(system, targets[rest].double())
        torch.testing.assert_close(predicted.double(), expected, atol=1e-4, rtol=1e-4)


def test_the_chosen_penalty_is_saved():
    fitted = KernelRidge.fit(*data(), penalties=[0.3])
    again = KernelRidge(**fitted.config)
    again.load_state_dict(fitted.state_dict())
    assert again.penalty.item() == pytest.approx(0.3)
    assert torch.equal(again.left_out(), fitted.left_out())
