"""LanguageAttribution: what is read, where, and in which order it comes back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from torchnle import DescriptionGrid, LanguageAttribution, NeuronLanguageAttribution, TextScore


def layer_map(model, x):
    with torch.no_grad():
        return model.layer(model.act(model.stem(x)))


def test_saliency_is_the_score_at_every_place(lang, model, translator, x):
    texts = ["a cat", "grass"]
    out = lang.saliency(x, texts, interpolate_mode=None)
    local = layer_map(model, x)
    vectors = translator.embed(texts)
    for n in range(3):
        for r in range(4):
            for c in range(4):
                expected = F.cosine_similarity(vectors, local[n, :, r, c], dim=-1)
                torch.testing.assert_close(out[n, :, r, c], expected)


def test_saliency_on_the_input_is_the_layer_map_interpolated(lang, x):
    small = lang.saliency(x, ["a cat", "grass"], interpolate_mode=None)
    expected = F.interpolate(small, (8, 8), mode="bicubic")
    torch.testing.assert_close(lang.saliency(x, ["a cat", "grass"]), expected)


def test_attribute_repeats_the_map_over_channels(lang, x):
    heat = lang.attribute(x, target="a cat")
    expected = lang.saliency(x, "a cat").expand(3, 3, 8, 8)
    torch.testing.assert_close(heat, expected)


def test_a_list_target_gives_each_image_its_own_text(lang, x):
    heat = lang.attribute(x, target=["a cat", "a dog", "a cat"])
    for image, text in enumerate(["a cat", "a dog", "a cat"]):
        torch.testing.assert_close(
            heat[image : image + 1], lang.attribute(x[image : image + 1], target=text), atol=1e-5, rtol=0
        )


def test_no_target_attributes_to_the_description(lang, x):
    words = [d.text for d in lang.describe(x)]
    torch.testing.assert_close(lang.attribute(x), lang.attribute(x, target=words))


def test_a_batch_is_its_images_one_by_one(lang, x):
    together = lang.saliency(x, ["a cat", "sky"])
    alone = torch.cat([lang.saliency(image[None], ["a cat", "sky"]) for image in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_permuted_batch_permutes(lang, x):
    order = [2, 0, 1]
    torch.testing.assert_close(
        lang.saliency(x[order], ["sky"]), lang.saliency(x, ["sky"])[order], atol=1e-6, rtol=0
    )
    assert [d.text for d in lang.describe(x[order])] == [lang.describe(x)[i].text for i in order]


def test_describe_everywhere_gives_grids_in_row_major_order(lang, x):
    grids = lang.describe(x, where="all")
    assert len(grids) == 3
    assert all(isinstance(g, DescriptionGrid) and g.grid == (4, 4) for g in grids)
    for row, column in ((0, 0), (1, 3), (3, 2)):
        cell = grids[1][row, column]
        alone = lang.describe(x, where=(row, column))[1]
        assert cell.location == (row, column) == alone.location
        assert cell.text == alone.text
        assert cell.image == alone.image == 1


def test_a_mask_of_ones_is_the_whole_image(lang, x):
    whole, masked = lang.describe(x), lang.describe(x, where=torch.ones(8, 8))
    assert [d.text for d in whole] == [d.text for d in masked]
    assert [d.score for d in whole] == pytest.approx([d.score for d in masked], abs=1e-5)


def test_lists_of_layers_are_described_layer_by_layer(model, translator, x):
    lang = LanguageAttribution(model, ["norm", "layer"], translator)
    per_layer = lang.describe(x)
    assert [[d.layer for d in words] for words in per_layer] == [["norm"] * 3, ["layer"] * 3]
    alone = LanguageAttribution(model, "layer", translator).describe(x)
    assert [d.text for d in per_layer[1]] == [d.text for d in alone]


class TwoScales(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fine = torch.nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.coarse = torch.nn.Conv2d(6, 6, 3, stride=2, padding=1)

    def forward(self, x):
        return self.coarse(self.fine(x))


def test_joint_reading_uses_the_finest_grid(translator, x):
    torch.manual_seed(0)
    net = TwoScales()
    lang = LanguageAttribution(net, ["fine", "coarse"], translator)
    grids = lang.describe(x, where="all", joint=True)
    assert [g.grid for g in grids] == [(4, 4)] * 3
    assert grids[0][0, 0].layer == "fine+coarse"
    with torch.no_grad():
        fine = net.fine(x)
        coarse = F.interpolate(net.coarse(fine), (4, 4), mode="bilinear")
    mean = (fine + coarse) / 2
    expected = F.cosine_similarity(mean, translator.embed(["sky"])[0][None, :, None, None], dim=1)
    torch.testing.assert_close(lang.saliency(x, "sky", joint=True, interpolate_mode=None)[:, 0], expected)
    assert len(lang.describe(x, joint=True)) == 3


def test_text_score_reads_the_pooled_layer(model, translator, x):
    score = TextScore(model, "layer", translator, ["a cat", "grass"])
    pooled = layer_map(model, x).mean(dim=(2, 3))
    expected = F.normalize(pooled, dim=-1) @ translator.embed(["a cat", "grass"]).T
    torch.testing.assert_close(score(x), expected)
    at_location = TextScore(model, "layer", translator, ["a cat"], where=(1, 2))(x)
    local = layer_map(model, x)[:, :, 1, 2]
    torch.testing.assert_close(at_location, F.normalize(local, dim=-1) @ translator.embed(["a cat"]).T)


def test_text_score_is_differentiable(model, translator, x):
    score = TextScore(model, "layer", translator, ["a cat"]).double()
    assert torch.autograd.gradcheck(score, x[:1].double().requires_grad_())


def test_options_reach_the_translator(lang, x):
    plain, less = lang.saliency(x, "sky"), lang.saliency(x, "sky", prior=True, internal_batch_size=7)
    torch.testing.assert_close(plain - 1, less)
    assert lang.translator.calls[-1] == (48, 7)


def test_attribute_to_layer_input_reads_what_enters(model, translator, x):
    enters = LanguageAttribution(model, "norm", translator)
    leaves = LanguageAttribution(model, "layer", translator)
    torch.testing.assert_close(
        enters.attribute(x, target="sky", attribute_to_layer_input=True), leaves.attribute(x, target="sky")
    )


def test_training_mode_and_running_statistics_survive(model, translator, x):
    model.train()
    model.act.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    LanguageAttribution(model, "norm", translator).saliency(x, "sky")
    assert model.training
    assert not model.act.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class TestNeuron:
    def test_attribute_is_the_units_activation(self, model, translator, x):
        out = NeuronLanguageAttribution(model, "layer", translator).attribute(x, 2)
        expected = F.interpolate(layer_map(model, x)[:, 2:3], (8, 8), mode="bicubic").expand(3, 3, 8, 8)
        torch.testing.assert_close(out, expected)

    def test_description_pools_where_the_unit_responds(self, model, translator, x):
        unit = NeuronLanguageAttribution(model, "layer", translator)
        word = unit.describe(x, 2)
        vectors = []
        for image in layer_map(model, x):
            weight = image[2].clamp(min=0)
            if weight.sum() > 0:
                vectors.append((weight * image).sum(dim=(1, 2)) / weight.sum())
        vector = torch.stack(vectors).mean(0)
        scores = F.normalize(vector, dim=0) @ translator.embed(translator.vocabulary).T
        assert word.text == translator.vocabulary[scores.argmax()]
        assert word.score == pytest.approx(scores.max().item(), abs=1e-5)

    def test_a_function_selects_a_direction(self, model, translator, x):
        unit = NeuronLanguageAttribution(model, "layer", translator)
        torch.testing.assert_close(unit.attribute(x, lambda tokens: tokens[..., 2]), unit.attribute(x, 2))

    def test_a_silent_unit_says_so(self, model, translator, x):
        with torch.no_grad():
            model.layer.weight[1] = 0
            model.layer.bias[1] = -1
        with pytest.raises(ValueError, match="silent on all 3 images"):
            NeuronLanguageAttribution(model, "layer", translator).describe(x, 1)

    def test_a_unit_that_does_not_exist(self, model, translator, x):
        with pytest.raises(ValueError, match="has 6 units; 6 is not one"):
            NeuronLanguageAttribution(model, "layer", translator).attribute(x, 6)


class TestBadInput:
    def test_a_number_as_target_points_to_text_score(self, lang, x):
        with pytest.raises(TypeError, match="TextScore"):
            lang.attribute(x, target=3)

    def test_too_few_targets(self, lang, x):
        with pytest.raises(ValueError, match="2 target texts were given for 3 images"):
            lang.attribute(x, target=["a cat", "a dog"])

    @pytest.mark.parametrize("texts", ["", "  ", ["a cat", "\n"], []])
    def test_empty_and_blank_texts(self, lang, x, texts):
        with pytest.raises(ValueError, match=r"blank|at least one"):
            lang.saliency(x, texts)

    def test_an_absurdly_long_text(self, lang, x):
        with pytest.raises(ValueError, match="10001 characters"):
            lang.saliency(x, "a" * 10_001)

    def test_a_text_that_is_none(self, lang, x):
        with pytest.raises(TypeError, match=r"texts\[1\] is None"):
            lang.saliency(x, ["a cat", None])

    def test_duplicate_texts_get_equal_maps(self, lang, x):
        out = lang.saliency(x, ["sky", "a cat", "sky"])
        assert torch.equal(out[:, 0], out[:, 2])

    def test_a_vector_as_input(self, lang):
        with pytest.raises(ValueError, match=r"inputs\[0\] has shape \(3, 10\)"):
            lang.attribute(torch.rand(3, 10), target="a cat")

    def test_nan_in_a_feature_names_the_layer(self, lang, model, x):
        with torch.no_grad():
            model.layer.weight[0] = float("nan")
        with pytest.raises(ValueError, match="layer 'layer' gave NaN"):
            lang.attribute(x, target="a cat")

    def test_places_of_a_vector_layer(self, model, translator, x):
        with pytest.raises(ValueError, match="no spatial grid"):
            LanguageAttribution(model, "flat", translator).attribute(x, target="a cat")
