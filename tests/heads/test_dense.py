"""Models that score every location: the head is found, checked, and read at each location."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from letter_encoder import LetterEncoder
from torch import nn

from torchnle import LanguageAttribution
from torchnle.heads.classifier_head import find_head
from torchnle.vision.reading import read

NAMES = ["cat", "dog", "car", "tree", "sky"]
X = torch.rand(2, 3, 36, 44, generator=torch.Generator().manual_seed(0))
WAYS = {
    "as it is": lambda y, x: y,
    "bilinear": lambda y, x: F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False),
    "corners": lambda y, x: F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True),
    "nearest": lambda y, x: F.interpolate(y, scale_factor=4),
    "to another size": lambda y, x: F.interpolate(y, (50, 31), mode="bicubic", align_corners=False),
    "in a dict": lambda y, x: {"aux": y[:, :3], "out": F.interpolate(y, x.shape[2:], mode="bilinear")},
}


class Segmenter(nn.Module):
    def __init__(self, way, head=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.classifier = nn.Conv2d(12, len(NAMES), 1) if head is None else head
        self.way = way

    def forward(self, x):
        return self.way(self.classifier(self.stem(x)), x)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_scores_of_every_location_are_the_models(way):
    model = Segmenter(way).eval()
    head = find_head(model, X, len(NAMES))
    (features,) = read(model, [head.tap], X, None, head.reading)
    rows = head.read(features, "all").tokens
    scores = features.fold(F.linear(rows, head.weight, head.bias)).movedim(-1, 1)
    torch.testing.assert_close(scores, model.classifier(model.stem(X)))
    output = model(X)
    whole = output["out"] if isinstance(output, dict) else output
    torch.testing.assert_close(head.logits(features), whole.mean((2, 3)), atol=1e-5, rtol=1e-4)


def test_words_at_locations():
    model = Segmenter(WAYS["bilinear"]).eval()
    lang = LanguageAttribution.from_classifier(
        model, NAMES, encoder=LetterEncoder(), vocabulary=(), example=X
    )
    assert lang.saliency(X, ["cat", "sky"]).shape == (2, 2, 36, 44)
    assert lang.describe(X, where="all")[0].grid == (9, 11)
    assert "classifier" in lang.summary


@pytest.mark.parametrize(
    "head",
    [
        nn.Conv2d(12, 5, 3, padding=1),
        nn.Sequential(nn.Conv2d(12, 5, 1), nn.Softmax(1)),
        nn.ConvTranspose2d(12, 5, 4, 4),
    ],
)
def test_other_heads_are_refused(head):
    with pytest.raises(ValueError, match="1x1 convolution"):
        find_head(Segmenter(WAYS["bilinear"], head).eval(), X, len(NAMES))


def test_deeplab():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    ).eval()
    with pytest.raises(ValueError, match="1x1 convolution"):  # a sum of two convolutions
        find_head(model, X, 5)
    model = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=5
    ).eval()
    head = find_head(model, torch.rand(1, 3, 64, 64), 5)
    assert head.head_name == "classifier.4"
