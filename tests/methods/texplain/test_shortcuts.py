"""Audit and repair in a world whose shortcut is known: two classes, a context that goes with them in 95 %."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from torchnle.methods.texplain.audit.challenge import challenge, hide_objects
from torchnle.methods.texplain.audit.class_words import ClassWords
from torchnle.methods.texplain.audit.shortcuts import find_shortcuts
from torchnle.methods.texplain.repair.groups import balancing, cells, large_cells, shuffled
from torchnle.methods.texplain.repair.linear import Linear, fit_linear
from torchnle.methods.texplain.repair.masks import (
    finetune_on_masked,
    mask_images,
    pool_outside,
    top_regions,
)
from torchnle.methods.texplain.repair.outcome import outcome
from torchnle.methods.texplain.repair.refit import refit_last_layer
from torchnle.methods.texplain.words.sentences import Sentences
from torchnle.methods.texplain.words.table import WordTable
from torchnle.metrics.ranking import auroc

CLASSES = ClassWords(["land bird", "aquatic bird"])


def world(share, count=300, seed=0):
    """Features of a weak class and a strong context direction, labels, contexts, and words."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(2 * count) % 2
    own = torch.rand(2 * count, generator=generator) < share
    contexts = torch.where(own, labels, 1 - labels)
    noise = torch.randn(2 * count, 6, generator=generator)
    x = 0.6 * noise
    x[:, 0] += 1.0 * (2 * labels - 1)
    x[:, 1] += 2.0 * (2 * contexts - 1)
    lake = (0.5 + 0.3 * (2 * contexts - 1) + 0.08 * torch.randn(2 * count, generator=generator)).clamp(
        0.02, 0.98
    )
    texts = ("a lake", "a forest", "a bird", "a house")
    rows = [Sentences(texts, torch.tensor([w, 1 - w, 0.7, 0.2]), torch.zeros(4)) for w in lake.tolist()]
    return x, labels, contexts, WordTable.of(rows)


def audited(share):
    x, labels, contexts, table = world(share)
    plain = refit_last_layer(x, labels, 2).layer
    return x, labels, contexts, plain, find_shortcuts(table, labels, plain(x), CLASSES)


def test_a_shortcut_is_named_and_its_conflicting_images_are_found():
    _, labels, contexts, _, report = audited(0.95)
    assert {(name, word.word) for name, word in report.found} == {
        ("land bird", "forest"),
        ("aquatic bird", "lake"),
    }
    assert str(report) == "land bird: shortcut: forest\naquatic bird: shortcut: lake"
    assert auroc(report.conflict_scores[:, None], contexts != labels).item() > 0.97
    assert all(each.model_low > 0.638 and each.conflicting > 5 for each in report.classes)


def test_no_alarm_without_a_correlation():
    *_, report = audited(0.5)
    assert report.found == ()
    assert str(report) == "land bird: no shortcut found\naquatic bird: no shortcut found"


def test_a_biased_data_set_is_told_from_a_biased_model():
    x, labels, _, table = world(0.95)
    honest = torch.stack([-x[:, 0], x[:, 0]], dim=1)  # goes by the class alone
    report = find_shortcuts(table, labels, honest, CLASSES)
    assert all(each.words[0].in_data and not each.used_by_model for each in report.classes)
    assert report.found == ()
    assert "the model does not go by it" in str(report)


def test_without_a_conflicting_image_the_model_is_not_cleared():
    x, labels, _, table = world(1.0)
    honest = torch.stack([-x[:, 0], x[:, 0]], dim=1)
    report = find_shortcuts(table, labels, honest, CLASSES)
    assert [each.conflicting for each in report.classes] == [0, 0]
    assert "does not go by it" not in str(report)
    assert "cannot be told: 0 images" in str(report)


def test_the_repair_closes_most_of_the_gap_without_a_group_label_and_random_groups_do_not():
    x, labels, contexts, plain, report = audited(0.95)
    test_x, test_labels, test_contexts, _ = world(0.5, seed=1)
    pseudo = report.context_class
    refitted = {
        "words": refit_last_layer(x, labels, 2, groups=cells(labels, pseudo)).layer,
        "oracle": refit_last_layer(x, labels, 2, groups=cells(labels, contexts)).layer,
        "random": refit_last_layer(x, labels, 2, groups=cells(labels, shuffled(labels, pseudo, 0))).layer,
        "plain": plain,
    }
    groups = cells(test_labels, test_contexts)
    worst = {
        name: outcome(layer(test_x).argmax(1), test_labels, groups).worst for name, layer in refitted.items()
    }
    gap = worst["oracle"] - worst["plain"]
    assert gap > 0.1
    assert worst["words"] - worst["plain"] > 0.6 * gap
    assert worst["random"] - worst["plain"] < 0.3 * gap


def test_words_of_classes_backgrounds_and_the_rest():
    words = ClassWords(["dog", "qwert"], also={"qwert": ["wheel"]}, background=["curtain"])
    kinds = [words.kind(word, 0) for word in ("beagle", "wheel", "curtain", "lake", "spoon")]
    assert kinds == ["own", "other", "background", "background", "unrelated"]
    with pytest.raises(ValueError, match="cat"):
        ClassWords(["dog"], also={"cat": ["x"]})


def test_a_class_with_one_image_and_numbers_that_differ_are_refused():
    _, labels, _, table = world(0.9, count=5)
    logits = torch.zeros(10, 2)
    one = torch.zeros(10, dtype=torch.long)
    one[0] = 1
    with pytest.raises(ValueError, match="aquatic bird"):
        find_shortcuts(table, one, logits, CLASSES)
    with pytest.raises(ValueError, match="9 labels"):
        find_shortcuts(table, labels[:9], logits, CLASSES)
    birds = WordTable.of([Sentences(("a bird",), torch.ones(1), None)] * 10)
    with pytest.raises(ValueError, match="about the classes"):
        find_shortcuts(birds, labels, logits, CLASSES)


def test_the_linear_fit_is_the_minimum_and_scales_with_nothing():
    x, labels, _, _ = world(0.8, count=40)
    weights = torch.rand(80, generator=torch.Generator().manual_seed(1)) + 0.1
    layer = fit_linear(x, labels, 2, weights=weights, penalty=0.1)
    scaled = fit_linear(1000 * x + 7, labels, 2, weights=3 * weights, penalty=0.1)
    torch.testing.assert_close(layer(x).softmax(1), scaled(1000 * x + 7).softmax(1), atol=2e-3, rtol=0)
    z = (x.double() - x.double().mean(0)) / x.double().std(0)
    matrix = (layer.weight.double() * x.double().std(0)).requires_grad_()
    offset = (layer.bias.double() + layer.weight.double() @ x.double().mean(0)).requires_grad_()
    shares = weights.double() / weights.double().sum()
    losses = nn.functional.cross_entropy(z @ matrix.T + offset, labels, reduction="none")
    ((shares * losses).sum() + 0.05 * matrix.square().sum()).backward()
    assert matrix.grad.abs().max() < 1e-4
    assert offset.grad.abs().max() < 1e-4


def test_a_strong_anchor_keeps_the_layer():
    x, labels, _, _ = world(0.8, count=40)
    start = Linear(torch.randn(2, 6, generator=torch.Generator().manual_seed(2)), torch.tensor([0.3, -0.3]))
    near = fit_linear(x, labels, 2, penalty=1e6, start=start)
    torch.testing.assert_close(near.weight, start.weight, atol=1e-4, rtol=0)
    assert finetune_on_masked(start, x[labels == 0], labels[labels == 0]) is start


@pytest.mark.parametrize(
    ("labels", "penalty", "words"),
    [
        ([0, 1, 2], 1.0, "0 to 1"),
        ([0, 0, 0], 1.0, "no image"),
        ([0, 1], 1.0, "2 labels"),
        ([0, 1, 1], 0.0, "penalty=0"),
    ],
)
def test_bad_fits_are_refused(labels, penalty, words):
    with pytest.raises(ValueError, match=words):
        fit_linear(torch.randn(3, 2), torch.tensor(labels), 2, penalty=penalty)


def test_a_group_too_small_for_folds_is_named():
    x, labels, _, _ = world(0.8, count=10)
    groups = labels.clone()
    groups[0] = 2
    with pytest.raises(ValueError, match="group 2 has 1 image"):
        refit_last_layer(x, labels, 2, groups=groups)


def test_groups_weigh_the_same_and_random_ones_have_their_sizes():
    labels, attributes = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0])
    groups = cells(labels, attributes)
    weights = balancing(groups)
    assert weights.mean().item() == pytest.approx(1)
    assert [weights[groups == g].sum().item() for g in range(4)] == pytest.approx([1.25] * 4)
    dealt = cells(labels, shuffled(labels, attributes, 3))
    assert torch.bincount(dealt).tolist() == torch.bincount(groups).tolist()


def test_outcomes_skip_groups_without_images_and_weigh_by_training():
    predicted, labels = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
    found = outcome(predicted, labels, torch.tensor([0, 0, 3, 3]), torch.tensor([0, 0, 0, 3]))
    assert (found.by_group, found.worst, found.average, found.adjusted) == (
        {0: 1.0, 3: 0.5},
        0.5,
        0.75,
        0.875,
    )
    with pytest.raises(ValueError, match=r"\[1\]"):
        outcome(predicted, labels, torch.tensor([0, 0, 3, 3]), torch.tensor([0, 1]))


def test_masks_cover_what_they_should_and_nothing_of_another_size():
    saliency = torch.arange(16.0).view(1, 4, 4)
    region = top_regions(saliency, 0.25)
    assert region[0].sum() == 4
    assert region[0, 3].all()
    masked = mask_images(torch.ones(1, 3, 8, 8), region, fill=torch.tensor([5.0, 6.0, 7.0]))
    assert masked[0, :, 7, 0].tolist() == [5, 6, 7]
    assert masked[0, :, :6].eq(1).all()
    maps = torch.randn(1, 4, 4, 3)
    torch.testing.assert_close(pool_outside(maps, region), maps[:, :3].mean(dim=(1, 2)))
    for call, words in (
        (lambda: mask_images(torch.ones(1, 3, 8, 6), region), "4x4 for 1 images of 8x6"),
        (lambda: mask_images(torch.ones(2, 3, 8, 8), region), "1 masks"),
        (lambda: pool_outside(maps, region[:, :3]), "1, 3, 4"),
        (lambda: pool_outside(maps, torch.ones(1, 4, 4, dtype=torch.bool)), "whole map"),
        (lambda: top_regions(saliency, 1.0), "share=1.0"),
        (lambda: hide_objects(torch.ones(1, 3, 8, 8), region), "4, 4"),
        (lambda: hide_objects(torch.ones(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)), "empty"),
        (
            lambda: hide_objects(torch.ones(1, 3, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)),
            "fills its image",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_the_background_challenge_counts_what_is_left_without_the_object():
    """A model that looks at a corner does without the object; one that looks at the object does not."""
    images, masks = torch.zeros(4, 1, 6, 6), torch.zeros(4, 6, 6, dtype=torch.bool)
    masks[:, 3:5, 3:5] = True
    labels = torch.tensor([0, 1, 0, 1])
    images[:, 0, 3:5, 3:5] = labels[:, None, None].float() + 1
    images[:, 0, :2, 4:] = labels[:, None, None].float() + 1
    hidden = hide_objects(images, masks)
    assert torch.equal(hidden[:, :, :3], images[:, :, :3])

    def looking(row, column):
        return lambda x: torch.stack([1.5 - x[:, 0, row, column], x[:, 0, row, column] - 1.5], dim=1)

    corner, middle = (challenge(m(images), m(hidden), labels) for m in (looking(0, 5), looking(4, 4)))
    assert (corner.accuracy, corner.only_background, corner.same_answer) == (1.0, 1.0, 1.0)
    assert (middle.accuracy, middle.only_background, middle.same_answer) == (1.0, 0.5, 0.5)
    assert middle.top[1].sum(dim=1).tolist() == pytest.approx([1] * 4)


@pytest.mark.parametrize("contradicting", [1, 3, 4, 8])
def test_few_conflicting_images_are_no_evidence(contradicting):
    """One image that happens to be the least confident of its class convicts no model."""
    x, labels, contexts, table = world(1.0)
    flipped = torch.cat([(labels == c).nonzero()[:contradicting, 0] for c in (0, 1)])
    source = torch.cat([(labels == 1 - c).nonzero()[-contradicting:, 0] for c in (0, 1)])
    frequencies = table.frequencies.clone()
    frequencies[flipped] = table.frequencies[source]
    contexts = contexts.index_put((flipped,), 1 - contexts[flipped])
    by_context = torch.stack([1.0 - contexts, contexts * 1.0], dim=1) + 0.01 * x[:, :2]
    report = find_shortcuts(replace(table, frequencies=frequencies), labels, by_context, CLASSES)
    enough = contradicting >= 4
    assert [each.conflicting for each in report.classes] == [contradicting] * 2
    assert [each.tested for each in report.classes] == [enough] * 2
    assert ("cannot be told: " in str(report)) != enough
    assert ("until 4 or more" in str(report)) != enough


def test_small_groups_of_a_class_are_joined():
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (200,), generator=generator)
    attributes = (torch.rand(200, generator=generator) ** 4 * 12).long()
    found = large_cells(labels, attributes)
    assert set(found.tolist()) == set(range(int(found.max()) + 1))
    exact = cells(labels, attributes)
    for group in torch.unique(found):
        assert (found == group).sum() >= 4
        assert len(torch.unique(labels[found == group])) == 1
    for group in torch.unique(exact):
        rows = exact == group
        assert len(torch.unique(found[rows])) == 1  # none is divided
        if rows.sum() >= 4 and not (found == found[rows][0]).sum() > rows.sum():
            assert (found == found[rows][0]).equal(rows)
    large = torch.arange(40) % 2
    assert large_cells(large, torch.arange(40) % 4).tolist() == cells(large, torch.arange(40) % 4).tolist()
