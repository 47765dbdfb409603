from __future__ import annotations

import pytest
import torch
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder

from torchnle import LanguageAttribution

NAMES = ["cat", "dog", "bird", "house", "tree"]
IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(3))
pytestmark = pytest.mark.filterwarnings("ignore:.*channels")


def captioned(model):
    """Every image is called what the classifier takes it for."""
    return [(IMAGES, [NAMES[i] for i in model(IMAGES).argmax(1)])]


def fit(model, layers=None, **source):
    return LanguageAttribution.fit(model, layers, encoder=LetterEncoder(), decoder=None, **source)


def test_a_classifier_says_its_classes_from_names_alone():
    model = conv_net()
    model.head.weight.data *= 50
    lang = fit(model, class_names=NAMES, example=IMAGES[:2])
    expected = [f"a {NAMES[i]}" for i in model(IMAGES).argmax(1)]
    said = [d.text for d in lang.describe(IMAGES)]
    assert sum(a == b for a, b in zip(said, expected, strict=True)) >= 20
    assert "head" in lang.summary


def test_captions_teach_every_layer():
    model = conv_net()
    lang = fit(model, ["layer", "norm"], captions=captioned(model), phrases=NAMES)
    both = lang.describe(IMAGES)
    assert len(both) == 2
    wanted = captioned(model)[0][1]
    assert sum(d.text == w for d, w in zip(both[1], wanted, strict=True)) > sum(w == "cat" for w in wanted)


def test_a_lens_passes_words_on():
    model = conv_net()
    last = fit(model, "norm", captions=captioned(model), phrases=NAMES)
    lens = LanguageAttribution.fit(model, "layer", images=[IMAGES], through=last, decoder=None)
    # 'norm' is an affine function of 'layer', so the lens can say all that 'norm' says
    expected = [[cell.text for cell in grid] for grid in last.describe(IMAGES, where="all")]
    assert [[cell.text for cell in grid] for grid in lens.describe(IMAGES, where="all")] == expected


def test_captions_and_class_names_together():
    model = conv_net()
    model.head.weight.data *= 50
    alone = fit(model, ["layer", "norm"], captions=captioned(model), phrases=["a fish"])
    both = fit(
        model,
        ["layer", "norm"],
        captions=captioned(model),
        phrases=["a fish"],
        class_names=NAMES,
        example=IMAGES[:2],
        recall=None,
    )
    assert both.translator.phrases == ("a fish", *(f"a {name}" for name in NAMES))
    steps = [a.saliency(IMAGES, ["a cat"]) for a in (alone, both)]
    torch.testing.assert_close(steps[0][0], steps[1][0])  # what the head does not read is as it was
    assert not torch.allclose(steps[0][1], steps[1][1], atol=1e-2)


class TestRefusals:
    def test_two_sources(self):
        with pytest.raises(ValueError, match=r"\['class_names', 'images'\] given; pass exactly one"):
            fit(conv_net(), class_names=NAMES, images=[IMAGES])

    def test_no_source(self):
        with pytest.raises(ValueError, match="no source given"):
            fit(conv_net(), "layer")

    def test_captions_without_layers(self):
        with pytest.raises(ValueError, match="needs the layers"):
            fit(conv_net(), captions=[(IMAGES, NAMES)])

    def test_images_without_words(self):
        with pytest.raises(ValueError, match="needs through="):
            fit(conv_net(), "layer", images=[IMAGES])

    def test_class_names_for_another_layer(self):
        with pytest.raises(ValueError, match="leave layers out"):
            fit(conv_net(), "layer", class_names=NAMES)

    def test_a_lens_through_something_else(self):
        other = LanguageAttribution(conv_net(), "layer", LetterTranslator())
        with pytest.raises(TypeError, match="cannot pass words on"):
            fit(conv_net(), "layer", images=[IMAGES], through=other)
