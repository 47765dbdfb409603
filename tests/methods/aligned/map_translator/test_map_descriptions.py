"""Test what is said of locations, in phrases, and of whole images, in sentences."""

import pytest
import torch
import torch.nn.functional as F
from captioned_world import NAMES, VOCABULARY, features, same
from letter_encoder import LetterEncoder

from torchnle.methods.aligned.probability import background
from torchnle.methods.aligned.probability.candidates import candidates
from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.probability.vocabulary import background_phrases
from torchnle.methods.aligned.sentences import Sentences
from torchnle.methods.aligned.text_choice import TextChoice
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features


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
