"""Pruning beside random pruning, and units for unseen classes."""

import pytest
import torch
from fakes import conv_net
from sklearn.metrics import roc_auc_score

from torchnle.evaluation.units.pruning import prune, prune_and_refit
from torchnle.evaluation.units.spurious import prune_concept, units_of
from torchnle.evaluation.units.unseen import unseen_class
from torchnle.methods.dissect.labels import Dissection, UnitLabel


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_pruning_what_the_head_does_not_read_costs_nothing():
    model, images = conv_net(), drawn(24, 3, 8, 8)
    with torch.no_grad():
        model.head.weight[:, [1, 4]] = 0
    truth = model(images).argmax(1)
    found = prune(model, "norm", [1, 4], 6, images, truth, draws=6)
    assert (found.before, found.after, found.units) == (1.0, 1.0, 2)
    assert len(found.random) == 6
    assert min(found.random) < 1.0
    assert found.above_random > 0
    with torch.no_grad():
        head = model.head.weight.clone()
        model.head.weight[:, [0, 2]] = 0
        slow = (model(images).argmax(1) == truth).float().mean().item()
        model.head.weight.copy_(head)
    assert prune(model, "norm", [0, 2], 6, images, truth, draws=1).after == pytest.approx(slow)
    with pytest.raises(ValueError, match="0 of 6"):
        prune(model, "norm", [], 6, images, truth)


def test_a_refitted_head_reads_what_is_left():
    truth = torch.arange(300) % 3
    signal = torch.eye(3)[truth]
    x = torch.cat([signal, signal, drawn(300, 6)], 1) + 0.1 * drawn(300, 12, seed=1)
    kept = prune_and_refit(x[:200], truth[:200], x[200:], truth[200:], [0, 1, 2], draws=4)
    gone = prune_and_refit(x[:200], truth[:200], x[200:], truth[200:], [0, 1, 2, 3, 4, 5], draws=4)
    assert kept.before == kept.after == 1.0
    assert gone.after < 0.6
    assert gone.above_random < -0.2


def test_units_for_unseen_classes_and_random_ones():
    truth = torch.arange(100) % 4 == 0
    activations = drawn(100, 30)
    activations[truth, 7] += 2
    labels = [UnitLabel(u, "a red car" if u in (7, 9) else f"thing {u}", 0.5) for u in range(30)]
    found = unseen_class(Dissection("layer", labels), "car", activations, truth)
    assert found.units == (7, 9)
    wanted = [roc_auc_score(truth.numpy(), activations[:, u].numpy()) for u in (7, 9)]
    assert found.auroc == pytest.approx(sum(wanted) / 2, abs=1e-5)
    assert abs(found.random - 0.5) < 0.1
    with pytest.raises(ValueError, match="label like"):
        unseen_class(Dissection("layer", labels), "boat", activations, truth)
    with pytest.raises(ValueError, match="0 of 100"):
        unseen_class(Dissection("layer", labels), "car", activations, torch.zeros(100, dtype=torch.bool))


def test_a_concept_that_a_class_lives_on_is_found_by_what_it_loses():
    model, images = conv_net(), drawn(60, 3, 8, 8)
    with torch.no_grad():
        model.head.weight[:, [2, 3]] = 0
    truth = model(images).argmax(1)
    words = ["a pink sky", "pink", "fishing", "a boat fishing", "sky", "sky"]
    named = Dissection("norm", [UnitLabel(u, text, 0.5) for u, text in enumerate(words)])
    assert units_of(named, ["Pink", "purple"]) == (0, 1)
    idle = prune_concept(model, "norm", named, ["fishing"], images, truth, draws=3)
    assert idle.units == (2, 3)
    assert idle.share == pytest.approx(1 / 3)
    assert idle.after == pytest.approx(idle.before, nan_ok=True)
    found = prune_concept(model, "norm", named, ["pink"], images, truth, draws=3, batch_size=7)
    with torch.no_grad():
        model.head.weight[:, [0, 1]] = 0
        predicted = model(images).argmax(1)
    for label in truth.unique().tolist():
        slow = (predicted == label)[truth == label].float().mean().item()
        assert found.after[label] == pytest.approx(slow)
        assert found.lost[label] == pytest.approx(found.random[label] - slow)
    with pytest.raises(ValueError, match=r"0 of 6 units.*shares_of"):
        prune_concept(model, "norm", named, ["car"], images, truth)
