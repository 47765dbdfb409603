import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients
from fakes import conv_net
from letter_encoder import LetterEncoder
from map_world import drawn

from torchnle import LanguageAttribution, TextScore, Translator
from torchnle.errors import TranslatorMismatchError
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.probability import background
from torchnle.methods.aligned.probability.candidates import candidates
from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.probability.vocabulary import background_phrases
from torchnle.methods.aligned.sentences import Sentences
from torchnle.methods.aligned.text_choice import TextChoice
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading

NAMES = ["cat", "dog", "bird", "house", "tree"]
VOCABULARY = ["a zebra", "grass", "a red door"]
IMAGES = drawn(40, 3, 8, 8, seed=3)
TEXTS = ["a cat", "zebra", "a red door"]
WIDTHS = {"layer": 6, "norm": 6, "stem": 4}


def network():
    model = conv_net()
    model.head.weight.data *= 50
    with torch.no_grad():
        model.head.bias -= model(IMAGES).mean(0)  # so that every class is met
    return model


MODEL = network()


def batches(model=MODEL):
    """Every image is captioned with what the classifier takes it for."""
    wanted = [f"a {NAMES[i]}" for i in model(IMAGES).argmax(1)]
    return [(IMAGES[:20], wanted[:20]), (IMAGES[20:], wanted[20:])]


@pytest.fixture(scope="module")
def lang():
    return LanguageAttribution.from_captions(
        MODEL, ["stem", "norm"], batches(), encoder=LetterEncoder(), vocabulary=VOCABULARY
    )


@pytest.fixture(scope="module")
def by_names():
    return LanguageAttribution.from_classifier(
        MODEL, NAMES, example=IMAGES[:2], images=[IMAGES], encoder=LetterEncoder(), vocabulary=VOCABULARY
    )


def features(layer="norm", images=3, grid=(2, 3), seed=1, scale=2.0):
    return Features(scale * drawn(images, math.prod(grid), WIDTHS[layer], seed=seed), layer, grid)


def same(first, second):
    """Descriptions that say the same, up to rounding."""
    assert [(d.text, d.layer, d.location, d.unsure) for d in first] == [
        (d.text, d.layer, d.location, d.unsure) for d in second
    ]
    for name in ("score", "probability"):
        a, b = ([getattr(d, name) for d in each] for each in (first, second))
        assert a == pytest.approx(b, abs=1e-4)
    for a, b in zip(first, second, strict=True):
        assert dict(a.phrases) == pytest.approx(dict(b.phrases), abs=1e-4)


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


class TestLaws:
    @pytest.mark.parametrize("layer", ["stem", "norm"])
    def test_a_batch_is_its_images_one_by_one(self, lang, layer):
        translator, whole = lang.translator, features(layer)
        apart = [Features(whole.tokens[i : i + 1], layer, whole.grid) for i in range(3)]
        scores = torch.cat([translator.score(rows_of(each), TEXTS) for each in apart])
        torch.testing.assert_close(translator.score(rows_of(whole), TEXTS), scores, atol=1e-5, rtol=1e-4)
        same(
            translator.describe(rows_of(whole)),
            [d for each in apart for d in translator.describe(rows_of(each))],
        )

    def test_a_permuted_batch_permutes(self, lang):
        whole, order = features(), [2, 0, 1]
        permuted = Features(whole.tokens[order], "norm", whole.grid)
        descriptions = lang.translator.describe(rows_of(whole))
        expected = [descriptions[6 * image + location] for image in order for location in range(6)]
        same(lang.translator.describe(rows_of(permuted)), expected)

    def test_alone_is_beside_others(self, lang):
        first, second = features("norm"), features("stem", images=1, grid=(1, 2), seed=2)
        beside = lang.translator.describe(rows_of([first, second]))
        same(beside, lang.translator.describe(rows_of(first)) + lang.translator.describe(rows_of(second)))
        scores = lang.translator.score(rows_of([first, second]), TEXTS)
        apart = [lang.translator.score(rows_of(each), TEXTS) for each in (first, second)]
        torch.testing.assert_close(scores, torch.cat(apart))
        alone = torch.cat([lang.translator.score(rows_of(first), [text]) for text in TEXTS], dim=1)
        torch.testing.assert_close(scores[:18], alone, atol=1e-5, rtol=1e-4)

    def test_pooled_rows_and_locations_in_one_call(self, lang):
        local, pooled = features("norm"), features("norm", seed=4).select(None)
        beside = lang.translator.describe(rows_of([local, pooled]))
        same(beside, lang.translator.describe(rows_of(local)) + lang.translator.describe(rows_of(pooled)))

    @pytest.mark.parametrize("size", [1, 4, 7, 100])
    def test_parts_make_the_whole(self, lang, size):
        both = [features("norm"), features("stem", seed=2)]
        kept = lang.translator.describe(rows_of(both))
        same(lang.translator.describe(rows_of(both), internal_batch_size=size), kept)
        torch.testing.assert_close(
            lang.translator.score(rows_of(both), TEXTS, internal_batch_size=size),
            lang.translator.score(rows_of(both), TEXTS),
        )
        torch.testing.assert_close(
            lang.translator.probabilities(rows_of(both), internal_batch_size=size),
            lang.translator.probabilities(rows_of(both)),
        )

    def test_layers_read_together_are_averaged(self, lang):
        both = [features("norm"), features("stem", seed=2)]
        scores = torch.stack([lang.translator.score(rows_of(each), TEXTS) for each in both]).mean(0)
        torch.testing.assert_close(lang.translator.score(rows_of(both, joint=True), TEXTS), scores)
        shares = torch.stack([lang.translator.probabilities(rows_of(each)) for each in both]).mean(0)
        torch.testing.assert_close(lang.translator.probabilities(rows_of(both, joint=True)), shares)
        found = lang.translator.describe(rows_of(both, joint=True))
        assert len(found) == 18

    def test_descriptions_say_what_score_and_probabilities_say(self, lang):
        given = features()
        shares = lang.translator.probabilities(rows_of(given))
        for index, found in enumerate(lang.translator.describe(rows_of(given))):
            row = Features(given.rows[index : index + 1, None], "norm")
            assert found.score == pytest.approx(
                lang.translator.score(rows_of(row), [found.text]).item(), abs=1e-4
            )
            known = dict(zip(lang.translator.vocabulary.phrases, shares[index].tolist(), strict=True))
            listed = [share for _, share in found.phrases]
            assert listed == pytest.approx([known[phrase] for phrase, _ in found.phrases], abs=1e-5)
            assert listed == pytest.approx(sorted(known.values(), reverse=True)[:6], abs=1e-5)
            assert 0 <= found.probability <= 1
            assert found.unsure == (found.probability < 0.22)

    def test_probabilities_of_texts_handicap_those_that_were_fitted(self, lang):
        given, texts = features(), ["sky", "a cat", "zebra"]
        fitted = lang.translator.map_for("norm", WIDTHS["norm"])
        white = F.normalize(fitted.whiten(fitted.scaled(given.rows)), dim=1)
        known = torch.tensor([text in lang.translator.phrases for text in texts])
        assert known.any()
        assert not known.all()
        cosines = white @ lang.translator.directions("norm", texts).T - fitted.offset * known
        nulls = white @ F.normalize(fitted.whiten(fitted.nulls), dim=1).T
        expected = (fitted.temperature * torch.cat([cosines, nulls], dim=1)).softmax(1)[:, :3]
        torch.testing.assert_close(lang.translator.probabilities(rows_of(given), texts), expected)
        with pytest.raises(TypeError, match="string"):
            lang.translator.probabilities(rows_of(given), "a cat")


class TestLocations:
    def test_a_location_is_brought_to_the_pooled_norm_and_a_pooled_row_is_not(self, by_names):
        given, translator = features(), by_names.translator
        (fitted,) = translator.maps
        rows = given.rows
        local, _ = posterior(fitted, rows, candidates(translator, fitted), local=True)
        whole, _ = posterior(fitted, rows, candidates(translator, fitted), local=False)
        torch.testing.assert_close(translator.probabilities(rows_of(given)), local)
        one = given.select((1, 2))
        torch.testing.assert_close(translator.probabilities(rows_of(one)), local[5::6])
        pooled = Features(rows[:, None], "norm")
        torch.testing.assert_close(translator.probabilities(rows_of(pooled)), whole)
        assert not torch.allclose(local, whole, atol=1e-2)
        longer = Features(given.tokens * 7, "norm", given.grid)
        torch.testing.assert_close(translator.probabilities(rows_of(longer)), local)

    def test_background_words_stand_at_short_unlikely_locations_only(self, lang):
        translator = lang.translator
        fitted = translator.by_layer["norm"]
        given = features(scale=fitted.location_norm.item() / 2)
        translator.sure_above_at_location = 0.4
        try:
            found = translator.describe(rows_of(given))
        finally:
            translator.sure_above_at_location = 0.22
        plain = translator.describe(
            rows_of(Features(given.tokens, "norm", given.grid))
        )  # at the usual threshold
        short = given.rows.norm(dim=1) < fitted.location_norm
        words = background_phrases()
        directions = fitted.directions(LetterEncoder().encode(words))
        replaced = 0
        for index, (description, before) in enumerate(zip(found, plain, strict=True)):
            if not short[index] or before.probability >= 0.4:
                assert description.text == before.text
                continue
            white = fitted.whiten(fitted.scaled(given.rows[index : index + 1]))
            shares = (fitted.temperature * F.normalize(white, dim=1) @ directions.T).softmax(dim=1)[0]
            best = int(shares.argmax())
            assert description.text in (words[best], before.text)
            if description.text == words[best]:
                replaced += 1
                assert description.probability <= shares[best].item() + 1e-6
        assert replaced

    def test_of_layers_read_together_all_must_be_short(self, lang):
        translator, choices = lang.translator, [TextChoice("a cat", 0.1)] * 2
        rows = {
            "norm": torch.stack([torch.full((1, 6), 1e-3), torch.full((1, 6), 1e-3)]),
            "stem": torch.stack([torch.full((1, 4), 1e3), torch.full((1, 4), 1e-3)]),
        }
        from torchnle.translators.rows import Rows

        found = background.with_background(translator, Rows(rows, pooled=False), choices)
        assert found[0] == choices[0]
        assert found[1].text in background_phrases()


class FakeDecoder:
    reference, device = "fake", torch.device("cpu")

    def __init__(self, texts):
        self.texts = texts

    def decode(self, vectors):
        self.vectors = vectors
        return self

    def to(self, device):
        return self


class TestSentences:
    def sentences(self, lang, texts):
        old = lang.translator
        translator = MapTranslator(
            old.by_layer, old.encoder, FakeDecoder(texts), phrases=old.phrases, vocabulary=VOCABULARY
        )
        return translator.eval()

    @pytest.mark.parametrize("seed", range(4))
    def test_a_sentence_is_kept_only_if_it_scores_as_well_as_the_best_phrase(self, lang, seed):
        pooled = features(images=3, seed=seed).select(None)
        texts = ["a cat on grass", "a zebra with a tree", "a dog in front of a house"]
        spoken = self.sentences(lang, texts).describe(rows_of(pooled))
        plain = lang.translator.describe(rows_of(pooled))
        shares = lang.translator.probabilities(rows_of(pooled))
        for index, (found, phrase) in enumerate(zip(spoken, plain, strict=True)):
            row = Features(pooled.tokens[index : index + 1], "norm")
            best = lang.translator.vocabulary.phrases[int(shares[index].argmax())]
            sentence, least = lang.translator.score(rows_of(row), [texts[index], best])[0].tolist()
            assert found.text == (texts[index] if sentence >= least else phrase.text)
            assert 0 <= found.probability <= 1

    def test_both_happen(self, lang):
        kept = set()
        for seed in range(6):
            pooled = features(images=1, seed=seed).select(None)
            for text in (*(f"the {name}" for name in NAMES), "a jug"):
                kept.add(self.sentences(lang, [text]).describe(rows_of(pooled))[0].text == text)
        assert kept == {True, False}

    @pytest.mark.parametrize("text", ["a cat, a cat and a cat", "a cat on a cat", "", "a dog, a dog"])
    def test_no_list_that_repeats_itself_and_no_blank(self, lang, text):
        pooled = features(images=1).select(None)
        assert self.sentences(lang, [text]).describe(rows_of(pooled))[0].text != text

    def test_single_locations_are_said_in_phrases(self, lang):
        given = features()
        same(
            self.sentences(lang, ["a cat on grass"] * 18).describe(rows_of(given)),
            lang.translator.describe(rows_of(given)),
        )

    def test_the_decoder_is_given_a_point_at_a_phrases_distance_from_the_mean(self, lang):
        translator = self.sentences(lang, ["x"])
        sentences = Sentences(translator)
        share = torch.zeros(1, len(translator.vocabulary))
        share[0, 2] = 1
        sentences.decode(share)
        step = translator.vectors[2] - translator.vectors.mean(0)
        spread = (translator.vectors - translator.vectors.mean(0)).norm(dim=1).mean()
        expected = translator.vectors.mean(0) + spread * step / step.norm()
        torch.testing.assert_close(translator.decoder.vectors[0], expected)


class TestGradients:
    def test_score_is_differentiable_in_the_features(self, lang):
        tokens = drawn(1, 2, 6).requires_grad_()
        scores = lang.translator.score(rows_of(Features(tokens, "norm")), TEXTS)
        (gradient,) = torch.autograd.grad(scores[0, 1], tokens)
        fitted = lang.translator.by_layer["norm"]
        expected = fitted.matrix @ lang.translator.directions("norm", TEXTS)[1]
        torch.testing.assert_close(gradient[0, 0], expected)
        assert (gradient[0, 1] == 0).all()

    def test_integrated_gradients_add_up_to_the_score(self, lang):
        score = TextScore(MODEL, "norm", lang.translator, TEXTS)
        images = IMAGES[:2]
        attributions = IntegratedGradients(score).attribute(images, target=1, n_steps=64)
        difference = score(images)[:, 1] - score(torch.zeros_like(images))[:, 1]
        torch.testing.assert_close(attributions.sum((1, 2, 3)).float(), difference, atol=2e-2, rtol=2e-2)

    def test_texts_first_mapped_in_inference_mode_serve_gradients_later(self, lang):
        lang.translator.forget()
        with torch.inference_mode():
            lang.translator.score(rows_of(features()), ["a cat", "dune"])
        tokens = drawn(1, 1, 6).requires_grad_()
        lang.translator.score(rows_of(Features(tokens, "norm")), ["a cat", "dune"]).sum().backward()
        assert tokens.grad.abs().sum() > 0


class TestTexts:
    def test_the_same_texts_are_encoded_once(self, lang):
        translator = lang.translator
        translator.describe(rows_of(features()))
        translator.score(rows_of(features()), ["zebra", "dog"])
        before = len(translator.encoder.calls)
        translator.score(rows_of(features(seed=5)), ["zebra", "dog"])
        assert len(translator.encoder.calls) == before
        swapped = translator.score(rows_of(features()), ["dog", "zebra"])
        assert torch.equal(swapped.flip(1), translator.score(rows_of(features()), ["zebra", "dog"]))

    def test_texts_given_twice_score_the_same_twice(self, lang):
        scores = lang.translator.score(rows_of(features()), ["cat", "dog", "cat"])
        assert torch.equal(scores[:, 0], scores[:, 2])

    def test_half_precision_features_are_scored_in_float32(self, lang):
        given = features()
        scores = lang.translator.score(rows_of(Features(given.tokens.bfloat16(), "norm", given.grid)), TEXTS)
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, lang.translator.score(rows_of(given), TEXTS), atol=0.1, rtol=0.05)

    def test_what_is_refused(self, lang):
        translator, given = lang.translator, features()
        with pytest.raises(ValueError, match="prior=True subtracts"):
            translator.score(rows_of(given), ["cat"], prior=True)
        with pytest.raises(TypeError, match="texts is one string"):
            translator.score(rows_of(given), "cat")
        with pytest.raises(ValueError, match="texts is empty"):
            translator.score(rows_of(given), [])
        with pytest.raises(ValueError, match="blank"):
            translator.score(rows_of(given), ["cat", " "])
        with pytest.raises(ValueError, match="NaN or infinite"):
            translator.score(rows_of(Features(torch.full((1, 1, 6), torch.nan), "norm")), ["cat"])
        with pytest.raises(ValueError, match="internal_batch_size=0"):
            translator.describe(rows_of(given), internal_batch_size=0)
        with pytest.raises(TranslatorMismatchError, match="expects width 6 from 'norm'"):
            translator.describe(rows_of(Features(torch.zeros(1, 1, 5), "norm")))


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
