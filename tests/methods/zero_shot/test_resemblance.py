import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_lm
from zero_shot_world import classifier, pictures

from torchnle.methods.zero_shot import Explanation
from torchnle.methods.zero_shot.classes import class_directions
from torchnle.methods.zero_shot.concepts import BankDirections
from torchnle.methods.zero_shot.resemblance import resemblances, without_class
from torchnle.methods.zero_shot.sentences.beams import Search

TEXTS = ("a bird", "a hen", "a key", "a tower")
SHORT = Search(beams=2, proposals=12, encoded=6, most_words=4, least_words=2)


@pytest.fixture(scope="module")
def bank():
    draw = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(len(TEXTS), 200, generator=draw), dim=1)
    return BankDirections(TEXTS, directions, torch.ones(len(TEXTS)))


def test_what_is_left_without_the_class_does_not_change_its_logit():
    (fitted,) = classifier().translator.by_layer.values()
    white = torch.randn(6, fitted.width, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 1, 2, 3, 4, 0])
    left = without_class(fitted, white, classes)
    own = class_directions(fitted)[classes]
    assert (left * own).sum(dim=1).abs().max() < 1e-5
    unit = F.normalize(white, dim=1)
    removed = unit - left
    assert F.cosine_similarity(removed, own).abs().min() > 0.999


def test_a_planted_phrase_is_found_first_with_its_cosine(bank):
    noise = torch.randn(1, 200, generator=torch.Generator().manual_seed(2)) / 200**0.5
    feature = bank.directions[2:3] + 0.5 * noise
    ((first, *_),) = resemblances(bank, feature, ["a hair clip"])
    assert first[0] == "a key"
    assert first[1] == pytest.approx(float(F.cosine_similarity(feature, bank.directions[2:3])), abs=1e-5)


def test_random_features_resemble_something_in_a_twentieth_of_cases(bank):
    features = torch.randn(400, 200, generator=torch.Generator().manual_seed(3))
    found = resemblances(bank, features, ["a hair clip"] * 400)
    assert sum(bool(each) for each in found) / 400 < 0.09


def test_what_is_related_to_the_class_or_the_sentence_is_no_resemblance(bank):
    feature = F.normalize(bank.directions[1:2] + 0.9 * bank.directions[2:3], dim=1)
    ((first, *_),) = resemblances(bank, feature, ["a hair clip"])
    assert first[0] == "a hen"
    ((second, *others),) = resemblances(bank, feature, ["a hair clip a large bird"])
    assert second[0] == "a key"
    assert "a hen" not in [text for text, _ in others]


def test_unwanted_words_resemble_nothing(bank):
    ((first, *_),) = resemblances(bank, bank.directions[2:3], ["a hair clip"], count=1)
    assert first[0] == "a key"
    (found,) = resemblances(bank, bank.directions[2:3], ["a hair clip"], {"key"})
    assert "a key" not in [text for text, _ in found]


def test_no_more_than_asked_for_are_listed(bank):
    feature = F.normalize(bank.directions.sum(dim=0, keepdim=True), dim=1)
    (found,) = resemblances(bank, feature, ["nothing"], count=2)
    assert len(found) == 2
    assert found[0][1] >= found[1][1]


def test_an_explanation_lists_and_names_them():
    lang = classifier()
    found = lang.explain(pictures(6), language_model=tiny_lm(), search=SHORT)
    for why in found:
        assert ("resembles" in why.sentence) == bool(why.resembles)
        assert all(text not in why.text for text, _ in why.resembles)
    why = Explanation(
        "ox", "a cow", rather_than="moose", is_wrong=True, location=(1, 2), resembles=(("a rock", 0.2),)
    )
    assert why.sentence == (
        "prediction: ox rather than moose because it shows a cow, and resembles a rock; it is moose: "
        "look at location (1, 2)"
    )
