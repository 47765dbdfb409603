import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder

from torchnle.features import Features
from torchnle.methods.zero_shot import concepts, fit_zero_shot
from torchnle.taps import record
from torchnle.translators.class_weights import class_vectors

NAMES = ["cat", "mug", "boat", "fern", "cliff"]


def fit(names=NAMES, **options):
    torch.manual_seed(0)
    model = conv_net()
    return model, fit_zero_shot(model, names, torch.rand(2, 3, 8, 8), LetterEncoder(), **options)


def read(model, fitted, images):
    (activation,) = record(model, [fitted.head.tap], images)
    return Features.from_activation(activation, fitted.head.tap.name, batch_size=len(images), layout="NCHW")


def test_the_head_is_found_and_its_weights_are_learned_from():
    model, fitted = fit(penalties=[1e-4], prompt="{}")
    assert torch.equal(fitted.head.weight, model.head.weight)
    assert fitted.translator.layer == fitted.head.tap.name
    mapped = fitted.translator.embed(NAMES)
    assert torch.allclose(mapped, class_vectors(model.head.weight), atol=0.02)


def test_places_average_to_the_whole_image():
    """The head reads a mean over places: without lengths, the score of an image is the mean of theirs."""
    model, fitted = fit()
    features = read(model, fitted, torch.rand(2, 3, 8, 8))
    places = fitted.head.read(features, "all")
    whole = fitted.head.read(features, None)
    texts = ["cat", "a bee"]
    lengths = places.rows.norm(dim=1, keepdim=True)
    dots = (fitted.translator.score(places, texts) * lengths).view(2, -1, 2).mean(dim=1)
    expected = fitted.translator.score(whole, texts) * whole.rows.norm(dim=1, keepdim=True)
    assert torch.allclose(dots, expected, atol=1e-5)


def test_class_names_that_do_not_match_the_head():
    with pytest.raises(ValueError, match="5 classes, but 4 class names"):
        fit(NAMES[:-1])


def test_concepts_are_the_best_texts_of_score():
    model, fitted = fit()
    features = fitted.head.read(read(model, fitted, torch.rand(2, 3, 8, 8)), None)
    texts = ["cat", "a bee", "sea", "fern", "mud"]
    scores = fitted.translator.score(features, texts)
    for row, listed in zip(scores, concepts(fitted.translator, features, texts, count=3), strict=True):
        order = sorted(range(5), key=lambda i: -row[i].item())[:3]
        assert [text for text, _ in listed] == [texts[i] for i in order]
        assert [score for _, score in listed] == pytest.approx(row[order].tolist())
    assert len(concepts(fitted.translator, features, texts)[0]) == 5


def test_concepts_need_a_positive_count():
    model, fitted = fit()
    features = fitted.head.read(read(model, fitted, torch.rand(1, 3, 8, 8)), None)
    with pytest.raises(ValueError, match="count=0; pass a positive number"):
        concepts(fitted.translator, features, ["cat"], count=0)
