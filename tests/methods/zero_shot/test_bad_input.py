import pytest
import torch
import torch.nn.functional as F
from fakes import conv_net
from letter_encoder import LetterEncoder
from torch import nn
from zero_shot_world import NAMES, classifier, pictures

from torchnle import LanguageAttribution
from torchnle.methods.aligned.embeddings import BLOCK
from torchnle.methods.zero_shot.new_classes import extend_classifier


class Scaled(nn.Module):
    """A classifier whose logits are multiplied by a temperature."""

    def __init__(self):
        super().__init__()
        self.net = conv_net()

    def forward(self, x):
        return 3 * self.net(x)


class CosineHead(nn.Module):
    """A head that normalises features and weights."""

    def __init__(self):
        super().__init__()
        self.body = conv_net()[:-1]
        self.weight = nn.Parameter(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return 20 * F.normalize(self.body(x), dim=1) @ F.normalize(self.weight, dim=1).T


def attach(model, names=NAMES, **more):
    return LanguageAttribution.from_classifier(
        model, names, example=pictures(2), encoder=LetterEncoder(), **more
    )


def test_a_scaled_head_decides_as_it_does_itself():
    images = pictures(6, seed=4)
    predictions = Scaled()(images).argmax(dim=1)
    found = attach(Scaled()).concepts(images, ["a cat", "mud"])
    assert [c.prediction for c in found] == [NAMES[i] for i in predictions]


def test_a_cosine_head_decides_as_it_does_itself():
    images = pictures(6, seed=4)
    predictions = CosineHead()(images).argmax(dim=1)
    found = attach(CosineHead()).concepts(images, ["a cat", "mud"])
    assert [c.prediction for c in found] == [NAMES[i] for i in predictions]


def test_several_labels_are_explained_one_at_a_time():
    images = pictures(1)
    each = [classifier().concepts(images, ["a cat", "mud"], target=name)[0].prediction for name in NAMES]
    assert each == NAMES


def test_one_class_is_no_classifier():
    model = nn.Sequential(*list(conv_net().children())[:-1], nn.Linear(6, 1)).eval()
    with pytest.raises(ValueError, match="at least two"):
        attach(model, ["cat"])


def test_a_long_bank_is_encoded_block_by_block():
    lang = classifier()
    bank = [f"thing {chr(97 + i % 26)}{i}" for i in range(BLOCK + 10)]
    lang.translator.encoder.calls.clear()
    lang.concepts(pictures(1), bank, count=3)
    assert max(len(call) for call in lang.translator.encoder.calls) <= BLOCK
    assert sum(len(call) for call in lang.translator.encoder.calls) == len(bank)


def test_a_text_is_no_list_of_names():
    with pytest.raises(TypeError):
        extend_classifier(conv_net(), "owl", class_names=NAMES, example=pictures(2), encoder=LetterEncoder())


def test_nan_features_name_the_layer():
    images = torch.full((1, 3, 8, 8), float("nan"))
    with pytest.raises(ValueError, match=r"NaN|finite"):
        classifier().concepts(images, ["a cat"])
