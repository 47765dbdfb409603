"""Test what a map is fitted to, and that a saved map gives the same answers."""

from dataclasses import replace

import pytest
import torch
from captioned_world import IMAGES, MODEL, NAMES, TEXTS, VOCABULARY, batches, features, same
from fakes import conv_net
from letter_encoder import LetterEncoder

from torchnle import LanguageAttribution, Translator
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading


class TestFits:
    def test_a_classifier_says_its_classes_from_names_alone(self, by_names):
        expected = [f"a {NAMES[i]}" for i in MODEL(IMAGES).argmax(1)]
        found = by_names.describe(IMAGES)
        likeliest = [d.phrases[0][0] for d in found]
        assert sum(a == b for a, b in zip(likeliest, expected, strict=True)) >= 33
        assert "head" in by_names.summary

    def test_captions_teach_every_layer(self, lang):
        wanted = [text for _, captions in batches() for text in captions]
        scores = lang.translator.score(
            rows_of(Features(MODEL[:4](IMAGES).mean((2, 3))[:, None], "norm")),
            [f"a {name}" for name in NAMES],
        )
        right = [f"a {NAMES[i]}" for i in scores.argmax(1)]
        commonest = max(wanted.count(text) for text in set(wanted))
        assert sum(a == b for a, b in zip(right, wanted, strict=True)) > commonest
        assert lang.translator.layers == ("stem", "norm")

    def test_a_fit_in_other_batches_is_the_same(self, lang):
        (images, wanted), (more, others) = batches()
        whole = [(torch.cat([images, more]), [*wanted, *others])]
        other = LanguageAttribution.from_captions(
            MODEL, ["stem", "norm"], whole, encoder=LetterEncoder(), vocabulary=VOCABULARY
        )
        same(other.describe(IMAGES[:5])[1], lang.describe(IMAGES[:5])[1])

    def test_captions_and_class_names(self):
        options = {"encoder": LetterEncoder(), "vocabulary": VOCABULARY}
        both = LanguageAttribution.from_captions(
            MODEL, ["stem", "norm"], batches(), class_names=NAMES, example=IMAGES[:2], **options
        )
        stem, norm = both.translator.maps
        assert (stem.classes, norm.classes) == (0, 5)
        pooled = MODEL[:4](IMAGES).mean((2, 3))
        shares = norm.head_logits(norm.whiten(pooled)).softmax(1)
        torch.testing.assert_close(shares, MODEL(IMAGES).softmax(1), atol=1e-3, rtol=1e-3)

    def test_adapt_takes_the_pictures_statistics(self):
        options = {"encoder": LetterEncoder(), "vocabulary": VOCABULARY}
        adapted = LanguageAttribution.from_classifier(MODEL, NAMES, example=IMAGES[:2], **options)
        (fitted,) = adapted.translator.maps
        adapted.describe(IMAGES[:2])
        pooled = MODEL[:4](IMAGES).mean((2, 3))
        before = adapted.translator.score(rows_of(Features(pooled[:, None], "norm")), ["a cat"])
        assert adapted.adapt(IMAGES.split(7)) is adapted
        torch.testing.assert_close(fitted.center, pooled.mean(0))
        assert fitted.pooled_norm.item() == pytest.approx(pooled.norm(dim=1).mean().item(), rel=1e-5)
        moved = adapted.translator.score(rows_of(Features(pooled[:, None], "norm")), ["a cat"]) - before
        torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-4, rtol=1e-3)

    def test_adapt_of_some_of_the_layers_under_other_names(self, lang, tmp_path, monkeypatch):
        monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *_: LetterEncoder())
        folder = lang.translator.save_pretrained(tmp_path / "saved")
        wrapped = torch.nn.Sequential()
        wrapped.add_module("inner", MODEL)
        part = LanguageAttribution.from_pretrained(wrapped, folder, "inner.norm")
        stem = part.translator.by_layer["stem"].center.clone()
        part.adapt(IMAGES + 1)
        assert torch.equal(part.translator.by_layer["stem"].center, stem)
        expected = MODEL[:4](IMAGES + 1).mean((0, 2, 3))
        torch.testing.assert_close(part.translator.by_layer["norm"].center, expected)

    def test_noise_and_constants_are_unsure(self, lang):
        source = torch.Generator().manual_seed(11)
        constant = torch.randn(4, 3, 1, 1, generator=source).expand(-1, -1, 8, 8)
        nothing = lang.translator.by_layer["norm"].nulls
        found = lang.translator.describe(rows_of(Features(nothing[:, None], "norm")))
        assert all(d.probability < 0.5 for d in found)
        assert len(lang.describe(constant)[1]) == 4


class TestSaving:
    @pytest.fixture(autouse=True)
    def letters(self, monkeypatch):
        monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *_: LetterEncoder())

    @pytest.mark.parametrize("source", ["lang", "by_names"])
    def test_what_is_loaded_gives_the_same_answers(self, source, request, tmp_path):
        saved = request.getfixturevalue(source).translator
        loaded = Translator.from_pretrained(saved.save_pretrained(tmp_path / "saved"))
        given = [features(), features().select(None)]
        assert type(loaded) is MapTranslator
        assert loaded.config == saved.config
        assert torch.equal(loaded.score(rows_of(given), TEXTS), saved.score(rows_of(given), TEXTS))
        now, before = loaded.describe(rows_of(given)), saved.describe(rows_of(given))
        assert [each.score for each in now] == pytest.approx([each.score for each in before], rel=1e-6)
        assert [replace(each, score=0) for each in now] == [replace(each, score=0) for each in before]
        assert loaded.card == saved.card

    @pytest.mark.parametrize("source", ["lang", "by_names"])
    def test_stored_in_half_precision_it_is_close(self, source, request, tmp_path):
        saved = request.getfixturevalue(source).translator
        folder = saved.save_pretrained(tmp_path / "saved", dtype=torch.float16)
        loaded = Translator.from_pretrained(folder)
        given = [features(), features().select(None)]
        known = [*TEXTS, *(f"a {name}" for name in NAMES)]
        torch.testing.assert_close(
            loaded.score(rows_of(given), known), saved.score(rows_of(given), known), atol=0.03, rtol=0.02
        )
        torch.testing.assert_close(
            loaded.probabilities(rows_of(given)), saved.probabilities(rows_of(given)), atol=0.03, rtol=0.0
        )

    def test_an_encoder_without_a_reference_cannot_be_saved(self, lang):
        old, encoder = lang.translator, LetterEncoder()
        encoder.reference = ""
        with pytest.raises(ValueError, match="the sentence encoder has no reference"):
            _ = MapTranslator(old.by_layer, encoder, phrases=old.phrases).config

    def test_a_contrast_does_not_depend_on_the_scale_of_the_features(self):
        made, example = [], torch.rand(2, 3, 8, 8)
        for scale in (1.0, 10.0):
            model = conv_net()
            with torch.no_grad():
                model.norm.weight.mul_(scale)
                model.norm.bias.mul_(scale)
                model.head.weight.div_(scale)
            given = {"example": example, "encoder": LetterEncoder()}
            found = LanguageAttribution.from_classifier(model, NAMES, **given)
            made.append(found.saliency(example, "a cat", contrast=["a dog"]))
        torch.testing.assert_close(made[0], made[1], atol=1e-3, rtol=1e-3)

    def test_moving_forgets_what_was_computed(self, lang):
        translator = lang.translator
        translator.describe(rows_of(features()))
        translator.score(rows_of(features()), TEXTS)
        kept = translator.text_directions
        assert kept is translator.text_directions
        translator.to("cpu")
        assert translator.text_directions is not kept

    def test_other_weights_are_not_answered_by_old_directions(self, lang, tmp_path):
        loaded = Translator.from_pretrained(lang.translator.save_pretrained(tmp_path / "saved"))
        before = loaded.score(rows_of(features()), TEXTS), loaded.probabilities(rows_of(features()))
        changed = {
            name: -value if name.endswith(("coefficients", "targets")) else value
            for name, value in loaded.state_dict().items()
        }
        loaded.load_state_dict(changed)
        torch.testing.assert_close(loaded.score(rows_of(features()), TEXTS), -before[0])
        assert not torch.allclose(loaded.probabilities(rows_of(features())), before[1], atol=1e-2)


def test_a_reading_of_ones_own_is_used(lang):
    """The map of 'norm' is fitted to what the reading's pooling gives."""

    def maximum(given, where):
        return given.select(where) if where is not None else given._pooled(given.tokens.amax(1, True))

    found = LanguageAttribution.from_captions(
        MODEL,
        "norm",
        batches(),
        encoder=LetterEncoder(),
        vocabulary=VOCABULARY,
        reading=Reading(pool=maximum),
    )
    (fitted,) = found.translator.maps
    torch.testing.assert_close(fitted.center, MODEL[:4](IMAGES).amax((2, 3)).mean(0))
