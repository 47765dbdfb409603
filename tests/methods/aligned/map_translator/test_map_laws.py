"""Scores and probabilities obey the laws of every translator, are differentiable, and encode a text once."""

import pytest
import torch
import torch.nn.functional as F
from captioned_world import IMAGES, MODEL, TEXTS, WIDTHS, features, same
from captum.attr import IntegratedGradients
from map_world import drawn

from torchnle import TextScore
from torchnle.errors import TranslatorMismatchError
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features


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
