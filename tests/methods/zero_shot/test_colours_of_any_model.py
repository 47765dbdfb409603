"""Colours with models of other number formats and inputs, after a change of the map, and in odd sentences."""

import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from test_colours import SHORT, as_tensor, plain, sees_colours
from tiny import tiny_lm
from torch import nn
from zero_shot_world import NAMES

from torchnle import LanguageAttribution
from torchnle.data.surfaces import rendered_surfaces
from torchnle.methods.zero_shot import colours
from torchnle.methods.zero_shot.colours import Colours, colour_words, with_colour
from torchnle.methods.zero_shot.evidence import weighted_mean
from torchnle.methods.zero_shot.explain import _colours_outside

OPTIONS = {"language_model": tiny_lm(), "search": SHORT, "colours": True}


class Scaled(nn.Module):
    """A classifier with a second argument; once `strict`, it cannot do without."""

    strict = False

    def __init__(self):
        super().__init__()
        self.net = conv_net()

    def forward(self, x, factor=None):
        assert factor is not None or not self.strict
        return self.net(x * (factor or 1.0))


@pytest.fixture(autouse=True)
def few_surfaces(monkeypatch):
    monkeypatch.setattr(colours, "rendered_surfaces", lambda: rendered_surfaces(2, size=32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_surfaces_are_read_in_the_number_format_of_the_weights(dtype):
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    model = conv_net().to(dtype)
    lang = LanguageAttribution.from_classifier(model, NAMES, example=x, encoder=LetterEncoder())
    lang.preprocess = as_tensor
    for why in lang.explain(x, **OPTIONS):
        assert len(why.colours) == 3


def test_colours_follow_an_adapted_map():
    lang = sees_colours()
    lang.explain([plain("red")], **OPTIONS)
    before = lang._colours[1]
    lang.adapt(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 0.3)
    lang.explain([plain("red")], **OPTIONS)
    assert lang._colours[1] is not before
    fresh = lang._colours[1]
    lang.explain([plain("blue")], **OPTIONS)
    assert lang._colours[1] is fresh


def test_surfaces_are_read_with_the_models_other_arguments():
    lang = LanguageAttribution.from_classifier(
        Scaled().eval(), NAMES, example=torch.rand(2, 3, 8, 8), encoder=LetterEncoder()
    )
    lang.preprocess, lang.forward_func.strict = as_tensor, True
    (why,) = lang.explain(torch.rand(1, 3, 8, 8), 2.0, **OPTIONS)
    assert len(why.colours) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_mean_of_locations_is_known_in_every_number_format(dtype):
    locations = torch.randn(200, 4, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights = torch.tensor([[1.0, 0, 0, 0]]).repeat(200, 1).to(dtype)
    found = weighted_mean(locations.mean(dim=1), locations, weights)
    assert torch.equal(found, locations[:, 0].float())
    others = weighted_mean(locations[:, 1], locations, weights)
    assert torch.equal(others, locations[:, 1].float())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a large", "a large"),
        ("the a", "the a"),
        ("asleep on an owl", "asleep on a white owl"),
        ("an old owl", "an old white owl"),
        ("an owl with an old owl", "a white owl with an old owl"),
    ],
)
def test_a_colour_stands_before_a_noun_behind_the_right_article(text, expected):
    assert with_colour(text, "white", {"owl"}) == expected


def test_a_sentence_that_names_a_colour_beyond_the_palette_gets_no_other():
    told = Colours(("red",), torch.zeros(2), torch.zeros(2, 1), 1.0)
    for title, named in (("a grey wolf", {"grey"}), ("a panda (red)", {"red"}), ("a hen", set())):
        assert colour_words() - _colours_outside(title, told) == named
    assert _colours_outside("a hen", None) == set()


def test_a_surface_may_be_one_pixel(recwarn):
    assert {each.image.size for each in rendered_surfaces(1, size=1)} == {(1, 1)}
    assert not [each for each in recwarn if each.category is RuntimeWarning]


def test_surfaces_go_to_the_device_of_the_weights():
    lang = sees_colours()
    lang.forward_func = conv_net().to("meta")
    assert lang._inputs([plain("red")]).is_meta
    lang.forward_func = nn.Identity()
    lang.taps = []
    assert not lang._inputs([plain("red")]).is_meta
