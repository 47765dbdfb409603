"""Measures of unit labels against other libraries and slow forms; which of them notice spoiled labels."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from torchnle.metrics import units as measures
from torchnle.metrics.units.agreement import active_images


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def world(images=2000, units=60, seed=0):
    """Presence of each unit's concept in 3 % of images, and a unit that mostly follows it."""
    draws = torch.Generator().manual_seed(seed)
    presence = (torch.rand(images, units, generator=draws) < 0.03).float()
    return presence, 1.5 * presence + 0.5 * torch.randn(images, units, generator=draws)


def test_agreement_is_that_of_numpy_and_sklearn():
    presence, activations = (drawn(300, 5) > 1).float(), drawn(300, 5, seed=1)
    active = active_images(activations, 0.05).numpy()
    assert active.sum(0).tolist() == [15] * 5
    found = {
        "correlation": measures.correlation(presence, activations),
        "auprc": measures.auprc(drawn(300, 5, seed=2).round(), activations, 0.05),
        "auprc of presence": measures.auprc(presence, activations, 0.05),
        "f1": measures.f1_iou(presence, activations, 0.05)[0],
        "iou": measures.f1_iou(presence, activations, 0.05)[1],
    }
    for u in range(5):
        there, graded = presence[:, u].numpy(), drawn(300, 5, seed=2).round()[:, u].numpy()
        wanted = {
            "correlation": np.corrcoef(there, activations[:, u].numpy())[0, 1],
            "auprc": average_precision_score(active[:, u], graded),
            "auprc of presence": average_precision_score(active[:, u], there),
            "f1": f1_score(active[:, u], there > 0.5),
            "iou": jaccard_score(active[:, u], there > 0.5),
        }
        for name, value in wanted.items():
            assert found[name][u].item() == pytest.approx(value, abs=1e-5), name


def test_constant_labels_say_nothing():
    activations = drawn(100, 3)
    ones = torch.ones(100, 3)
    assert measures.correlation(ones, activations).tolist() == [0.0] * 3
    torch.testing.assert_close(measures.auprc(ones, activations, 0.1), torch.full((3,), 0.1))
    with pytest.raises(ValueError, match="two images"):
        measures.correlation(ones[:1], activations[:1])
    with pytest.raises(ValueError, match="share=0"):
        measures.auprc(ones, activations, 0.0)


def test_cosy_is_mann_whitney_and_a_difference_of_means():
    made, control = drawn(20, 4).round() + 1, drawn(90, 4, seed=1).round()
    for u in range(4):
        statistic = mannwhitneyu(made[:, u].numpy(), control[:, u].numpy()).statistic / (20 * 90)
        assert measures.cosy_auc(made, control)[u].item() == pytest.approx(statistic, abs=1e-6)
    wanted = (made.mean(0) - control.mean(0)) / control.std(0, unbiased=False)
    torch.testing.assert_close(measures.cosy_mad(made, control), wanted)
    assert measures.cosy_mad(made, torch.zeros(9, 4)).tolist() == [0.0] * 4


def test_correlation_passes_the_sanity_checks_and_a_blind_measure_does_not():
    presence, activations = world()
    for name in ("correlation", "cosine"):
        assert measures.sanity_checks(getattr(measures, name), presence, activations).passes, name
    recall = lambda p, a: (p * active_images(a, 0.01)).sum(0)  # noqa: E731
    blind = measures.sanity_checks(recall, presence, activations)  # more labels never hurt it
    assert blind.extra == 0
    assert not blind.passes
    with pytest.raises(ValueError, match="no label"):
        measures.sanity_checks(recall, torch.zeros(10, 2), drawn(10, 2))


def test_clarity_is_the_mean_cosine_of_pairs():
    points = drawn(4, 6, 5)
    for u in range(4):
        pairs = [
            torch.cosine_similarity(points[u, i], points[u, j], dim=0)
            for i in range(6)
            for j in range(6)
            if i != j
        ]
        torch.testing.assert_close(measures.clarity(points)[u], torch.stack(pairs).mean())
    with pytest.raises(ValueError, match="two or more"):
        measures.clarity(points[:, :1])


def test_redundant_units_have_a_neighbour():
    points = drawn(5, 8, 12)
    points[4] = 3 * points[1] + 0.01 * drawn(8, 12, seed=2)
    found = measures.redundancy(points)
    assert found[1] > 0.99
    assert found[4] > 0.99
    assert found[[0, 2, 3]].max() < 0.9


def test_polysemanticity_knows_two_meanings_from_one_broad_one():
    one = drawn(20, 12, 6) * torch.tensor([6.0, 1, 1, 1, 1, 1])
    two = drawn(20, 12, 6, seed=1) * 0.5
    two[:, :6, 0] += 5
    share, chance = measures.polysemanticity(torch.cat([one, two]), draws=60)
    assert (chance[20:] < 0.05).all()
    assert (chance[:20] < 0.05).float().mean() <= 0.2  # 5 % are due
    assert share[20:].min() > 0.7
    with pytest.raises(ValueError, match="four or more"):
        measures.polysemanticity(one[:, :3])


def test_labels_beside_each_other_and_beside_images():
    labels = drawn(40, 8)
    exemplars = labels[:, None] + 0.1 * drawn(40, 5, 8, seed=1)
    assert measures.image_label_similarity(exemplars, labels) > 0.9
    assert abs(measures.image_label_similarity(exemplars, labels[torch.randperm(40)])) < 0.25
    assert measures.label_agreement(labels, 2 * labels) == pytest.approx(1.0)
    assert abs(measures.label_agreement(labels, drawn(40, 8, seed=5))) < 0.3
    with pytest.raises(ValueError, match="three or more"):
        measures.image_label_similarity(exemplars[:2], labels[:2])
