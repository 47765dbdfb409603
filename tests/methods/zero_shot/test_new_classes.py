import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from torch import nn
from zero_shot_world import NAMES, pictures

from torchnle.methods.aligned.fit import class_phrase
from torchnle.methods.zero_shot.bottleneck import concept_bottleneck
from torchnle.methods.zero_shot.classifier import fit_classifier
from torchnle.methods.zero_shot.new_classes import (
    calibrate,
    extend_classifier,
    new_directions,
    synthetic_features,
)

BASIS = ["bee", "dog", "jam", "kiwi", "plum", "quartz", "vex", "whale", "oxbow", "fjord", "gyp", "hunt"]


def options(**more):
    return {"class_names": NAMES, "example": pictures(2), "encoder": LetterEncoder(), **more}


def extended(names=("owl", "sea"), **more):
    return extend_classifier(conv_net(), names, **options(**more))


def bottleneck(concepts=BASIS, **more):
    return concept_bottleneck(conv_net(), concepts, **options(**more))


def test_old_logits_stay_as_they_were():
    images = pictures(4)
    found = extended()(images)
    assert found.shape == (4, 7)
    assert torch.allclose(found[:, :5], conv_net()(images), atol=1e-5)


def test_new_rows_are_mapped_names_of_the_mean_length():
    model, found = conv_net(), extended()
    source = fit_classifier(model, NAMES, example=pictures(2), encoder=LetterEncoder())
    weight = model.head.weight.detach()
    direction = source.fitted.directions(LetterEncoder().encode([class_phrase("owl"), class_phrase("sea")]))
    norm = (weight - weight.mean(0)).norm(dim=1).mean()
    assert torch.allclose(found.weight[5:], weight.mean(0) + norm * direction, atol=1e-5)
    assert torch.allclose(found.bias[5:], model.head.bias.detach().mean() + found.offset)
    assert found.class_names == (*NAMES, "owl", "sea")


def test_a_class_under_a_new_name_is_found_again():
    source = fit_classifier(conv_net(), NAMES, example=pictures(2), encoder=LetterEncoder())
    for index, name in enumerate(NAMES):
        cosines = new_directions(source, [f"{name}s"]) @ source.fitted.targets.T
        assert int(cosines.argmax()) == index


def test_prompts_are_averaged():
    source = fit_classifier(conv_net(), NAMES, example=pictures(2), encoder=LetterEncoder())
    one, two = (new_directions(source, ["owl"], [p]) for p in ("{}", "a zzz {}"))
    both = new_directions(source, ["owl"], ["{}", "a zzz {}"])
    assert torch.allclose(both, nn.functional.normalize(one + two, dim=1), atol=1e-6)


@pytest.mark.parametrize("images", [None, [pictures(24, seed=4), pictures(8, seed=5)]])
def test_the_offset_is_the_best_of_those_around_it(images):
    """By a slow count of what would be told, over the same draws of classes that are treated as new."""
    source = fit_classifier(conv_net(), NAMES, example=pictures(2), images=images, encoder=LetterEncoder())
    generator = torch.Generator().manual_seed(0)
    rows = source.sample if images else synthetic_features(source, generator)
    weight, bias = conv_net().head.weight.detach(), conv_net().head.bias.detach()
    old = rows @ (weight - weight.mean(0)).T + bias
    truth, fitted = old.argmax(dim=1), source.fitted
    new = (
        rows @ (nn.functional.normalize(fitted.regression.left_out()) * fitted.class_norms.mean()).T
        + bias.mean()
    )
    classes = truth.unique()
    draws = [int(classes[torch.randperm(len(classes), generator=generator)[0]]) for _ in range(10)]

    def told(offset):
        total = 0.0
        for unseen in draws:
            logits = old.clone()
            logits[:, unseen] = new[:, unseen] + offset
            right = (logits.argmax(dim=1) == truth).double()
            seen, other = right[truth != unseen].mean(), right[truth == unseen].mean()
            total += float(2 * seen * other / (seen + other)) if seen + other > 0 else 0.0
        return total

    found = calibrate(source, 1)
    assert told(found) == pytest.approx(max(told(step / 4) for step in range(-20, 61)), abs=1e-4)


def test_the_head_is_as_sure_of_a_stand_in_as_of_pictures():
    source = fit_classifier(conv_net(), NAMES, example=pictures(2), encoder=LetterEncoder())
    rows = synthetic_features(source, torch.Generator().manual_seed(0))
    assert rows.shape == source.fitted.targets.shape
    distances = (rows - source.fitted.center).norm(dim=1)
    assert bool((distances <= 2 * source.distance).all())


def test_gradients_and_parameters_reach_the_model():
    module = extended()
    images = pictures(1).requires_grad_()
    module(images)[0, 5].backward()
    assert images.grad.abs().sum() > 0
    assert any(name.startswith("model.") for name in module.state_dict())


@pytest.mark.parametrize(
    ("names", "more", "kind", "match"),
    [
        (["cat"], {}, ValueError, "already"),
        (["owl", "owl"], {}, ValueError, "twice"),
        ([" "], {}, ValueError, "blank"),
        (["owl"], {"prompts": ["a photo"]}, ValueError, "prompts"),
        (["owl"], {"class_names": NAMES[:-1]}, ValueError, "4 class names"),
        (["owl"], {"class_names": None}, ValueError, "class_names="),
    ],
)
def test_names_that_cannot_be_added(names, more, kind, match):
    with pytest.raises(kind, match=match):
        extend_classifier(conv_net(), names, **options(**more))


def test_a_model_without_a_linear_head_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softplus())
    with pytest.raises(ValueError, match="linear"):
        extend_classifier(model, ["owl"], **options())


def test_logits_are_the_sum_of_the_contributions():
    images, module = pictures(3), bottleneck()
    logits = module(images)
    rows = module.activations(images)
    for c in range(5):
        parts = module.contributions(images, c)
        assert parts.shape == (3, len(module.concepts))
        assert torch.allclose(parts, rows * module.coefficients[c])
    differences = torch.stack(
        [module.contributions(images, c).sum(1) + module.bias[c] for c in range(5)], dim=1
    )
    shift = logits - differences
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-4)  # the same for every class


def test_with_enough_concepts_the_logits_are_the_models():
    images = pictures(16, seed=3)
    module = bottleneck()
    assert len(module.concepts) > module.directions.shape[1]
    assert module.agreement([images[:8], images[8:]]) >= 0.9
    assert float((module(images) - conv_net()(images)).detach().abs().max()) < 0.2


def test_a_concept_taken_out_moves_the_logits_by_what_it_added():
    images, module = pictures(2), bottleneck()
    added = module.contributions(images, 1)[:, module.concepts.index("dog")]
    moved = module(images)[:, 1] - module.without("dog")(images)[:, 1]
    assert torch.allclose(moved, added, atol=1e-5)
    assert float(module.activations(images)[:, module.concepts.index("dog")].detach().abs().max()) > 0
    twice = module.without("dog").without("bee")
    assert int((twice.kept == 0).sum()) == 2
    assert bool((module.kept == 1).all())


def test_class_names_are_no_concepts():
    assert not set(bottleneck([*BASIS, "a cat", "mugs"]).concepts) & {"a cat", "mugs"}
    with pytest.raises(ValueError, match="nothing but class names"):
        bottleneck(["cat", "a mug"])


def test_concepts_and_classes_that_are_not_there():
    with pytest.raises(ValueError, match="'owl' is none"):
        bottleneck().without("owl")
    with pytest.raises(ValueError, match="target=5"):
        bottleneck().contributions(pictures(1), 5)
    with pytest.raises(ValueError, match="no images"):
        bottleneck().agreement([])
