import pytest
import torch
from map_world import WIDTH, drawn, fitted, head

from torchnle.methods.zero_shot.classes import class_directions, predicted
from torchnle.methods.zero_shot.evidence import evidence, location_contributions

ROWS = drawn(6, WIDTH, seed=3)


def logits(rows):
    classes = head()
    return rows @ classes.weight.T + classes.bias


@pytest.mark.parametrize("captions", [False, True])
def test_the_decision_is_the_logit_against_the_mean_class_from_the_center(captions):
    fit = fitted(captions=captions)
    classes = torch.tensor([0, 1, 2, 2, 1, 0])
    weight = head().weight
    expected = [
        float((row - fit.center) @ (weight[c] - weight.mean(0))) for row, c in zip(ROWS, classes, strict=True)
    ]
    assert evidence(fit, ROWS, classes).decision.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("captions", [False, True])
def test_against_another_class_it_is_the_difference_of_the_logits(captions):
    fit = fitted(captions=captions)
    one, other = torch.zeros(6, dtype=torch.long), torch.full((6,), 2)
    moved = logits(ROWS) - logits(fit.center[None])
    found = evidence(fit, ROWS, one, other).decision
    assert torch.allclose(found, moved[:, 0] - moved[:, 2], atol=1e-4)


def test_kept_channels_are_those_that_contribute_most():
    fit = fitted(captions=False)
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    found = evidence(fit, ROWS, classes, kept=3 / WIDTH)
    for row, c, vector, share in zip(ROWS, classes, found.vector, found.share, strict=True):
        white = row - fit.center
        parts = white * class_directions(fit)[c]
        best = sorted(range(WIDTH), key=lambda d: -parts[d].item())[:3]
        kept = [d for d in best if parts[d] > 0]
        assert vector.nonzero().flatten().tolist() == sorted(kept)
        assert vector[kept].tolist() == pytest.approx(white[kept].tolist())
        assert share.item() == pytest.approx((parts[kept].sum() / parts.sum()).item(), rel=1e-4)


def test_all_channels_without_negative_ones_carry_at_least_the_whole():
    fit = fitted(captions=False)
    found = evidence(fit, ROWS, predicted(fit, ROWS), kept=1.0)
    assert bool((found.share[found.decision > 0] >= 1 - 1e-5).all())


@pytest.mark.parametrize("captions", [False, True])
def test_locations_add_up_to_the_decision(captions):
    fit = fitted(captions=captions)
    locations, classes = drawn(2, 9, WIDTH, seed=4), torch.tensor([1, 2])
    parts = location_contributions(fit, locations, classes)
    whole = evidence(fit, locations.mean(dim=1), classes).decision
    assert parts.shape == (2, 9)
    assert torch.allclose(parts.sum(dim=1), whole, atol=1e-4)


def test_locations_count_by_how_much_they_raise_the_logit():
    fit = fitted(captions=False)
    locations, classes = drawn(2, 5, WIDTH, seed=8), torch.tensor([1, 2])
    found = evidence(fit, locations.mean(dim=1), classes, locations=locations, kept=1.0).vector
    assert bool(location_contributions(fit, locations, classes)[1].max() < 0)
    for image, c in enumerate(classes):
        direction = class_directions(fit)[c]
        raised = [max(0.0, float((f - fit.center) @ direction)) ** 2 for f in locations[image]]
        weights = raised if sum(raised) else [1.0] * 5  # where no location raises it, all are read alike
        mean = sum(w * (f - fit.center) for w, f in zip(weights, locations[image], strict=True)) / sum(
            weights
        )
        expected = torch.where(mean * direction > 0, mean, 0.0)
        torch.testing.assert_close(found[image], expected, atol=1e-5, rtol=1e-4)


def test_what_stands_elsewhere_is_no_evidence():
    fit = fitted(captions=False)
    one, other = class_directions(fit)[:2] + fit.center
    locations = torch.stack([one, other, other])[None]
    found = evidence(fit, locations.mean(dim=1), torch.tensor([0]), locations=locations, kept=1.0).vector
    pooled = evidence(fit, locations.mean(dim=1), torch.tensor([0]), kept=1.0).vector
    cosines = torch.cosine_similarity(torch.cat([found, pooled]), class_directions(fit)[:1])
    assert float(cosines[0]) > float(cosines[1])
    assert float(cosines[0]) == pytest.approx(1.0, abs=1e-4)


def test_a_row_that_is_not_the_mean_of_its_locations_stays():
    fit, locations, classes = fitted(captions=False), drawn(6, 4, WIDTH, seed=2), torch.zeros(6).long()
    found = evidence(fit, ROWS, classes, locations=locations)
    torch.testing.assert_close(found.vector, evidence(fit, ROWS, classes).vector)


def test_predicted_is_the_classifiers_own_class():
    for captions in (False, True):
        assert predicted(fitted(captions=captions), ROWS).tolist() == logits(ROWS).argmax(1).tolist()


@pytest.mark.parametrize("kept", [0.0, -0.5, 1.5])
def test_a_share_is_above_zero_and_at_most_one(kept):
    with pytest.raises(ValueError, match="kept="):
        evidence(fitted(), ROWS, torch.zeros(6, dtype=torch.long), kept=kept)
