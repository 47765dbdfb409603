"""What a model is given stays as it is, and images may have their channels last."""

import pytest
import torch
from fakes import LetterTranslator
from letter_encoder import LetterEncoder
from torch import nn

from torchnle import LanguageAttribution
from torchnle.vision.inputs import channels_last, spatial_size
from torchnle.vision.reading import read
from torchnle.vision.running import forward
from torchnle.vision.suggest import suggest_layers
from torchnle.vision.taps import resolve


class Normalising(nn.Module):
    """Writes into its input, as some models do to normalise it."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 4)

    def forward(self, x, shift=None):
        x.sub_(0.5)
        if shift is not None:
            shift.zero_()
        return self.head(self.conv(x).relu().mean((2, 3)))


class TestInputsAreNotChanged:
    def test_by_a_forward(self):
        x, shift = torch.rand(2, 3, 16, 16), torch.ones(2)
        before = x.clone()
        first, second = (forward(Normalising().eval(), x, shift) for _ in range(2))
        assert torch.equal(x, before)
        assert shift.tolist() == [1, 1]
        assert first.shape == second.shape

    def test_the_same_call_twice_is_the_same(self):
        x = torch.rand(2, 3, 16, 16)
        before, lang = x.clone(), LanguageAttribution(Normalising(), "conv", LetterTranslator())
        first, second = (lang.saliency(x, ["a cat", "sky"]) for _ in range(2))
        assert torch.equal(x, before)
        assert torch.equal(first, second)

    def test_a_classifier_keeps_its_places(self):
        x = torch.rand(2, 3, 16, 16)
        before = x.clone()
        lang = LanguageAttribution.from_classifier(
            Normalising().eval(), ["cat", "dog", "car", "tree"], example=x, encoder=LetterEncoder()
        )
        assert torch.equal(x, before)
        assert lang.saliency(x, ["a cat"]).shape == (2, 1, 16, 16)

    def test_gradients_reach_the_callers_tensor(self):
        x = torch.rand(2, 3, 16, 16, requires_grad=True)
        forward(Normalising().eval(), x).sum().backward()
        assert x.grad.abs().sum() > 0


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.tokens = nn.Conv2d(3, 6, 8, 8), nn.LayerNorm(6)

    def forward(self, x):
        maps = self.conv(x.movedim(-1, 1))
        return self.tokens(maps.flatten(2).transpose(1, 2)).mean(1)


class TestChannelsLast:
    IMAGES = torch.rand(1, 48, 64, 3)

    @pytest.mark.parametrize("layer", ["conv", "tokens"])
    def test_maps_lie_on_rows_and_columns(self, layer):
        lang = LanguageAttribution(ChannelsLast(), layer, LetterTranslator())
        assert lang.saliency(self.IMAGES, ["a cat", "sky"]).shape == (1, 2, 48, 64)
        attribution = lang.attribute(self.IMAGES, target="a cat")
        assert attribution.shape == self.IMAGES.shape
        assert torch.equal(attribution[..., 0], attribution[..., 2])
        torch.testing.assert_close(attribution[..., 0], lang.saliency(self.IMAGES, ["a cat"])[:, 0])

    def test_places_are_those_of_the_image(self):
        model, other = ChannelsLast().eval(), self.IMAGES.clone()
        other[:, 16:24, 40:48] = 0
        with torch.no_grad():
            (before,), (after,) = (read(model, resolve(model, "tokens"), x) for x in (self.IMAGES, other))
        assert before.grid == (6, 8)
        assert divmod(int((before.tokens - after.tokens).abs().sum(2).argmax()), 8) == (2, 5)

    def test_layers_are_suggested(self):
        assert [layer.grid for layer in suggest_layers(ChannelsLast(), self.IMAGES)][-1] == (6, 8)

    @pytest.mark.parametrize(
        ("shape", "last"),
        [
            ((1, 48, 64, 3), True),
            ((1, 28, 28, 1), True),
            ((1, 3, 48, 64), False),
            ((2, 1, 28, 28), False),
            ((2, 4, 8, 3), False),
            ((2, 64, 3, 3), False),
            ((1, 8, 3, 32, 32), False),
        ],
    )
    def test_the_last_axis_tells(self, shape, last):
        image = torch.zeros(shape)
        assert channels_last(image) == last
        expected = shape[1:3] if last else shape[2:]
        assert spatial_size(image) == (expected if len(shape) == 4 else None)
