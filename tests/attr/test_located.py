import pytest
import torch
from fakes import conv_net
from tiny_translators import WIDTH, features, tiny_language_model

from torchnle import LanguageAttribution
from torchnle.attr.layer_reader import assign_locations
from torchnle.description import Description, DescriptionGrid
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.translators.prefix import PrefixTranslator


def words(count):
    return [Description(str(number), float(number)) for number in range(count)]


def test_descriptions_know_their_layer_image_and_location():
    fine, pooled = features("layer3"), features("layer4", grid=None)
    grids, whole = assign_locations(words(10), [fine, pooled], "cosine", joint=False)
    assert [(type(grid), grid.grid) for grid in grids] == [(DescriptionGrid, (2, 2))] * 2
    cells = [cell for grid in grids for cell in grid]
    assert [(d.text, d.layer, d.image, d.location) for d in [*cells, *whole]] == [
        *(
            (str(4 * i + 2 * r + c), "layer3", i, (r, c))
            for i in range(2)
            for r in range(2)
            for c in range(2)
        ),
        *((str(8 + i), "layer4", i, None) for i in range(2)),
    ]
    assert {d.score_kind for d in cells} == {"cosine"}


def test_layers_together_are_named_together():
    given = [features("layer3", grid=None), features("layer4", grid=None)]
    (found,) = assign_locations(words(2), given, "log_prob", joint=True)
    assert [(d.layer, d.image) for d in found] == [("layer3+layer4", 0), ("layer3+layer4", 1)]


def test_another_number_of_descriptions_is_refused():
    with pytest.raises(ValueError, match="7 descriptions for 8 rows"):
        assign_locations(words(7), [features("layer3")], "cosine", joint=False)


class TestATranslatorOfWholeImages:
    @pytest.fixture
    def lang(self):
        torch.manual_seed(0)
        network = TExplainNetwork({"layer": 6}, WIDTH, tokens=16)
        return LanguageAttribution(
            conv_net(), "layer", PrefixTranslator(network, tiny_language_model()).eval()
        )

    def test_one_description_an_image(self, lang):
        x = torch.rand(3, 3, 8, 8)
        found = lang.describe(x)
        assert [(d.image, d.location, d.layer) for d in found] == [(i, None, "layer") for i in range(3)]
        alone = [lang.describe(image[None])[0] for image in x]
        assert [d.text for d in found] == [d.text for d in alone]
        assert [d.score for d in found] == pytest.approx([d.score for d in alone], abs=1e-4)

    @pytest.mark.parametrize("where", ["all", (0, 0), torch.ones(8, 8)])
    def test_locations_are_refused(self, lang, where):
        with pytest.raises(ValueError, match=r"reads all 16 tokens .* where=None"):
            lang.describe(torch.rand(1, 3, 8, 8), where=where)
