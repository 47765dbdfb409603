"""Loaded attributions answer as the saved ones, in shape and value."""

from __future__ import annotations

import pytest
import torch
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clip import VIT, hugging_face, open_clip_model
from torch import nn

from torchnle import Description, LanguageAttribution, Reading, Translator
from torchnle.backbones import Backbone, Preprocess
from torchnle.language.text_encoder import TextEncoder

NAMES = ["cat", "mug", "boat", "fern", "cliff"]
TEXTS = ["a cat", "grass"]
X = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Letters(LetterTranslator, kind="letters"):
    """A fake that is saved."""


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    letters = LetterEncoder()
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda reference: letters)
    return letters


def flat(found) -> list[Description]:
    return [found] if isinstance(found, Description) else [word for part in found for word in flat(part)]


def same(loaded: LanguageAttribution, saved: LanguageAttribution, images=X) -> None:
    assert loaded.summary == saved.summary
    for where in (None, "all"):
        after, before = flat(loaded.describe(images, where=where)), flat(saved.describe(images, where=where))
        assert [(d.text, d.layer, d.image, d.location, d.unsure) for d in after] == [
            (d.text, d.layer, d.image, d.location, d.unsure) for d in before
        ]
        assert [d.score for d in after] == pytest.approx([d.score for d in before], abs=1e-5)
    maps, before = loaded.saliency(images, TEXTS), saved.saliency(images, TEXTS)
    torch.testing.assert_close(maps, before)


def test_a_classifier(tmp_path, encoder):
    model = conv_net()
    saved = LanguageAttribution.from_classifier(model, NAMES, example=X, encoder=encoder)
    saved.save_pretrained(tmp_path / "t")
    loaded = LanguageAttribution.from_pretrained(model, str(tmp_path / "t"), example=X)
    assert loaded.summary
    same(loaded, saved)


def test_a_backbone_with_a_saved_translator_reads_as_the_saved_one(tmp_path, encoder):
    class Normed(nn.Module):  # the head reads the norm of the mean
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
            self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, len(NAMES))

        def forward(self, x):
            return self.head(self.norm(self.features(x).mean(dim=(2, 3))))

    backbone = Backbone.of(Normed(), Preprocess(size=8, mean=0.0, std=255.0), NAMES)
    saved = LanguageAttribution.from_classifier(backbone.model, NAMES, example=X, encoder=encoder)
    saved.save_pretrained(tmp_path / "t")
    loaded = LanguageAttribution.from_backbone(
        backbone, translator=Translator.from_pretrained(tmp_path / "t")
    )
    assert loaded.reading.pool is not Reading().pool
    torch.testing.assert_close(loaded.saliency(X, TEXTS), saved.saliency(X, TEXTS))
    assert [d.score for d in loaded.describe(X)] == pytest.approx(
        [d.score for d in saved.describe(X)], abs=1e-5
    )


def test_layers_below_the_heads(tmp_path, encoder):
    model = conv_net()
    saved = LanguageAttribution.from_classifier(model, NAMES, ["act", "norm"], example=X, encoder=encoder)
    saved.save_pretrained(tmp_path / "t")
    same(LanguageAttribution.from_pretrained(model, str(tmp_path / "t"), example=X), saved)


@pytest.mark.parametrize("layers", ["act", ["act", "norm"], ["layer", "act"], "act:input"])
def test_layers_through_a_fitted_lens(tmp_path, encoder, layers):
    model, fitted_on = conv_net(), torch.rand(4, 3, 8, 8)
    saved = LanguageAttribution.from_classifier(
        model, NAMES, layers, example=X, images=[fitted_on], encoder=encoder, lens="fitted"
    )
    saved.save_pretrained(tmp_path / "t")
    loaded = LanguageAttribution.from_pretrained(model, str(tmp_path / "t"), example=X)
    assert loaded.several == saved.several
    same(loaded, saved)
    again = loaded.save_pretrained(tmp_path / "again")  # what was loaded is saved as it was
    same(LanguageAttribution.from_pretrained(model, str(again), example=X), saved)


def test_a_fitted_lens_needs_its_tensors(tmp_path, encoder):
    model = conv_net()
    saved = LanguageAttribution.from_classifier(
        model, NAMES, "act", example=X, images=[X], encoder=encoder, lens="fitted"
    )
    folder = saved.save_pretrained(tmp_path / "t")
    tensors = load_file(folder / "model.safetensors")
    assert {"reading/act/weight", "reading/act/bias"} < set(tensors)
    del tensors["reading/act/bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"lenses of \['act'\], and tensors \['act/weight'\]"):
        LanguageAttribution.from_pretrained(model, str(folder), example=X)


@pytest.mark.parametrize("kind", ["open_clip", "transformers"])
def test_a_clip(tmp_path, monkeypatch, kind):
    model, tokenizer = open_clip_model(VIT) if kind == "open_clip" else hugging_face("CLIP")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    saved = LanguageAttribution.from_clip(model, tokenizer, bank=[*TEXTS, "a red door"], reference="a clip")
    text_encoder = saved.translator.text_encoder
    monkeypatch.setattr(type(text_encoder), "from_pretrained", lambda reference, **_: text_encoder)
    folder = saved.save_pretrained(tmp_path / "t")
    loaded = LanguageAttribution.from_pretrained(model, str(folder))
    same(loaded, saved, images)
    with pytest.raises(TypeError, match="CLIP"):
        LanguageAttribution.from_pretrained(conv_net(), str(folder))


@pytest.mark.parametrize("layers", ["layer", ["layer"], ["layer", "norm"], "layer:input"])
def test_layers_as_they_were_read(tmp_path, layers):
    width = 4 if layers == "layer:input" else 6
    model, saved_translator = conv_net(), Letters(width)
    saved = LanguageAttribution(model, layers, saved_translator, reading=Reading(layout="NCHW"))
    saved.save_pretrained(tmp_path / "t")
    same(LanguageAttribution.from_pretrained(model, str(tmp_path / "t")), saved)


def test_a_grid_that_was_given(tmp_path):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.flat = nn.Conv2d(3, 6, 4, stride=2), nn.Flatten(2)

        def forward(self, x):
            return self.flat(self.conv(x))[..., :6].mean(-1)

    model = Tokens()
    reading = Reading(layout="NCHW")
    saved = LanguageAttribution(model, "conv", Letters(6), reading=reading)
    saved.save_pretrained(tmp_path / "t")
    loaded = LanguageAttribution.from_pretrained(model, str(tmp_path / "t"))
    assert loaded.reading == reading
    same(loaded, saved)


def test_another_model_is_refused(tmp_path, encoder):
    saved = LanguageAttribution.from_classifier(conv_net(), NAMES, example=X, encoder=encoder)
    saved.save_pretrained(tmp_path / "t")
    other = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    with pytest.raises(ValueError, match=r"saved for the layer \['norm'\] .* reads '0'"):
        LanguageAttribution.from_pretrained(other, str(tmp_path / "t"), example=X)


def test_a_function_cannot_be_saved(tmp_path):
    lang = LanguageAttribution(conv_net(), "layer", Letters(6), reading=Reading(select=lambda out: out))
    with pytest.raises(ValueError, match="holds a function"):
        lang.save_pretrained(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_constructors_take_a_backbone_and_then_its_files(tmp_path, encoder):
    backbone = Backbone.of(conv_net(), Preprocess(size=8, mean=0.0, std=255.0), NAMES)
    picture = Image.fromarray((X[0] * 255).byte().permute(1, 2, 0).numpy())
    x = backbone.preprocess(picture)[None]
    made = LanguageAttribution.from_classifier(backbone, encoder=encoder, vocabulary=["grass"])
    captioned = LanguageAttribution.from_captions(
        backbone, "norm", [(X, ["a cat", "grass", "a boat"])], encoder=encoder
    )
    made.save_pretrained(tmp_path / "t")
    loaded = LanguageAttribution.from_pretrained(backbone, str(tmp_path / "t"))
    chosen = LanguageAttribution.from_pretrained(backbone, str(tmp_path / "t"), "norm")
    assert made.translator.class_names == tuple(NAMES)
    for lang in (made, captioned, loaded, chosen):
        assert [d.text for d in lang.describe(picture)] == [d.text for d in lang.describe(x)]


def test_arguments_of_a_fit_are_refused_beside_a_translator(encoder):
    for given in ({"class_names": NAMES}, {"example": X}, {"encoder": encoder}):
        with pytest.raises(ValueError, match=next(iter(given))):
            LanguageAttribution(conv_net(), "norm", Letters(6), **given)
