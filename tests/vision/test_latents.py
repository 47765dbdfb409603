"""Latents as a layer: the units that diffusers gives them, and describing them as any layer."""

from types import SimpleNamespace

import pytest
import torch
from map_world import WIDTH, captioned, prototypes
from torch import nn

from torchnle import LanguageAttribution
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.vision.latents import Latents


class Autoencoder(nn.Module):
    """As much of a diffusers autoencoder as states the units of its latents."""

    def __init__(self, **config):
        super().__init__()
        self.config = SimpleNamespace(**config)


Z = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"scaling_factor": 0.18215}, Z / 0.18215),
        ({"scaling_factor": 1.5305, "shift_factor": 0.0609}, Z / 1.5305 + 0.0609),
        (
            {"scaling_factor": 0.5, "latents_mean": [1.0, 2.0, 3.0], "latents_std": [1.0, 2.0, 4.0]},
            Z * torch.tensor([1.0, 2, 4]).view(1, 3, 1, 1) / 0.5 + torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1),
        ),
    ],
)
def test_units_are_those_in_which_diffusers_decodes(config, expected):
    torch.testing.assert_close(Latents.of(Autoencoder(**config))(Z), expected)
    assert Latents.of(Autoencoder(**config))(Z.double()).dtype == torch.float64


def test_a_configuration_that_is_a_mapping_is_read_too():
    made = Autoencoder()
    made.config = {"scaling_factor": 2.0}
    torch.testing.assert_close(Latents.of(made)(Z), Z / 2)


@pytest.mark.filterwarnings("ignore:the translator")
def test_latents_are_described_and_counted_as_a_layer_is():
    from letter_encoder import LetterEncoder

    encoder = LetterEncoder()
    fitted = TextMap.fit(encoder.encode, prototypes=prototypes())
    translator = MapTranslator(
        {"layer": fitted}, encoder, phrases=("a cat", "a dog", "grass", "a red door")
    ).eval()
    x, _ = captioned()
    maps = x[:6].view(1, 2, 3, WIDTH).permute(0, 3, 1, 2)
    lang = LanguageAttribution(Latents(), "latents", translator)
    last = lang.describe(maps, where=(1, 2))[0]
    vector = lang.describe(x[5:6])[0]  # a vector that no map holds is read as well
    assert (last.text, last.location, vector.location) == (vector.text, (1, 2), None)
    assert last.score == pytest.approx(vector.score, abs=1e-5)
    assert len(lang.words(maps)) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Latents(0.0), "not 0"),
        (lambda: Latents(float("nan")), "finite"),
        (lambda: Latents.of(nn.Linear(2, 2)), "no config.scaling_factor"),
        (lambda: Latents.of(Autoencoder(scaling_factor=1.0, latents_mean=[0.0])), "without the other"),
    ],
)
def test_unknown_units_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
