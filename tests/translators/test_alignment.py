from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from letter_encoder import LetterEncoder
from torch import nn

from torchnle import Features, LanguageAttribution
from torchnle.errors import TranslatorMismatchError
from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.alignment_fit import RECALL, _subset_mean, fit_captions, fit_class_names, fit_lens
from torchnle.translators.ridge import RidgeMap

WORDS = ["cat", "dog", "bird", "house", "tree", "ship"]
COLOURS = torch.randn(len(WORDS), 8, generator=torch.Generator().manual_seed(0))


def picture(*quadrants):
    """An image of four flat quadrants, each in the colour of a word."""
    rows = torch.stack([COLOURS[WORDS.index(word)] for word in quadrants]).view(2, 2, 8)
    return rows.permute(2, 0, 1).repeat_interleave(4, 1).repeat_interleave(4, 2)


def net():
    """Two layers that see one quadrant each: 'first' (12 channels) and 'second' (16)."""
    torch.manual_seed(1)
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(8, 12, 4, stride=4))
    model.add_module("act", nn.Tanh())
    model.add_module("second", nn.Conv2d(12, 16, 1))
    return model.eval()


def batches(count=24, size=6):
    words = [WORDS[i % len(WORDS)] for i in range(count)]
    for start in range(0, count, size):
        part = words[start : start + size]
        yield torch.stack([picture(word, word, word, word) for word in part]), part


@pytest.fixture(scope="module")
def fitted():
    with pytest.warns(UserWarning, match="channels"):
        return fit_captions(net(), ["first", "second"], batches(2), LetterEncoder(), phrases=WORDS)


@pytest.fixture(scope="module")
def translator():
    return fit_captions(net(), ["first", "second"], batches(), LetterEncoder(), phrases=WORDS)


def test_global_captions_carry_to_places(translator):
    lang = LanguageAttribution(net(), ["first", "second"], translator)
    image = picture("cat", "ship", "tree", "dog")[None]
    for grids in lang.describe(image, where="all"):
        assert [cell.text for cell in grids[0]] == ["cat", "ship", "tree", "dog"]
    (joint,) = lang.describe(image, where="all", joint=True)
    assert [cell.text for cell in joint] == ["cat", "ship", "tree", "dog"]
    assert joint[0, 0].layer == "first+second"


def test_scores_are_projections_on_the_texts_directions(translator):
    features = Features(torch.randn(2, 3, 12), "first")
    scores = translator.score(features, WORDS)
    fitted, encoder = translator.maps[0], translator.encoder
    for row, vector in enumerate(features.rows):
        for column, word in enumerate(WORDS):
            text = encoder.encode([word])[0] - translator.center
            away = (fitted(vector[None])[0] - fitted.bias) / translator.spread
            assert scores[row, column].item() == pytest.approx((away @ text / text.norm()).item(), abs=1e-5)


def test_layers_read_together_add_up(translator):
    one, two = Features(torch.randn(2, 3, 12), "first"), Features(torch.randn(2, 3, 16), "second")
    both = translator.score([one, two], WORDS, joint=True)
    alone = translator.score(one, WORDS) + translator.score(two, WORDS)
    torch.testing.assert_close(both, alone / 2)


def test_the_report_says_how_well_each_layer_maps(translator):
    reports = translator.card["maps"]
    assert set(reports) == {"first", "second"}
    assert all(report["loo_r2"] > 0.9 and report["samples"] == 48 for report in reports.values())


def test_few_samples_are_told_and_still_finite(fitted):
    assert fitted.score(Features(torch.randn(1, 1, 12), "first"), WORDS).isfinite().all()


def test_a_vector_that_nothing_fits_is_unsure(translator):
    far = AlignedTranslator(
        {"first": translator.maps[0]}, LetterEncoder(), phrases=["zzz"], spread=1.0, sure_above=0.5
    )
    assert far.describe(Features(torch.randn(1, 1, 12), "first"))[0].unsure
    image = picture("cat", "cat", "cat", "cat")[None]
    assert not LanguageAttribution(net(), "first", translator).describe(image)[0].unsure


def test_class_names_alone_teach_the_map():
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(2))
    with pytest.warns(UserWarning, match="6 samples for 10 channels"):
        translator = fit_class_names(weight, WORDS, LetterEncoder(), layer="head", method="ridge")
    centred = weight - weight.mean(dim=0)
    said = translator.describe(Features(3 * centred[:, None], "head"))
    assert [d.text for d in said] == [f"a {word}" for word in WORDS]


def test_a_lens_says_what_the_mapped_layer_says(translator):
    images = (images for images, _ in batches())
    only_second = AlignedTranslator(
        {"second": translator.maps[1]}, translator.encoder, phrases=WORDS, spread=translator.spread
    )
    lens = fit_lens(net(), "first", images, only_second, "second")
    image = picture("bird", "house", "tree", "dog")[None]
    (grid,) = LanguageAttribution(net(), "first", lens).describe(image, where="all")
    assert [cell.text for cell in grid] == ["bird", "house", "tree", "dog"]


def test_subsets_keep_something_and_all_of_them_are_the_mean():
    features = Features(torch.randn(4, 6, 3), "l", (2, 3))
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(_subset_mean(features, 1.1, generator), features.tokens.mean(1))
    one = _subset_mean(features, 0.0, generator)
    assert all(
        any(torch.equal(row, token) for token in image)
        for row, image in zip(one, features.tokens, strict=True)
    )


class TestRefusals:
    def test_nothing_to_say_with(self):
        with pytest.raises(ValueError, match="without either nothing can be said"):
            AlignedTranslator({"l": RidgeMap(3, 26)}, LetterEncoder())

    def test_spaces_of_different_width(self):
        with pytest.raises(ValueError, match="must share one space"):
            AlignedTranslator({"l": RidgeMap(3, 5)}, LetterEncoder(), phrases=WORDS)

    def test_a_prior_of_cosines(self, translator):
        with pytest.raises(ValueError, match="no prior"):
            translator.score(Features(torch.randn(1, 1, 12), "first"), WORDS, prior=True)

    def test_a_decoder_that_is_not_there(self, translator):
        with pytest.raises(ValueError, match="has no decoder"):
            translator.score(Features(torch.randn(1, 1, 12), "first"), WORDS, through="decoder")

    def test_another_width(self, translator):
        with pytest.raises(TranslatorMismatchError):
            translator.describe(Features(torch.randn(1, 1, 7), "third"))

    def test_captions_that_do_not_pair(self):
        with pytest.raises(ValueError, match="1 captions came with 2 images"):
            fit_captions(net(), "first", [(torch.rand(2, 8, 8, 8), ["cat"])], LetterEncoder(), phrases=WORDS)


class Mumbler:
    """A decoder that says nonsense first and finds the word among its samples."""

    width, reference = 26, "mumbler"

    def decode(self, vectors, internal_batch_size=None):
        return SimpleNamespace(texts=["zzz"] * len(vectors))

    def sample(self, vectors, n, internal_batch_size=None):
        return SimpleNamespace(texts=[["qqq", "", "cat"][i % n] for _ in vectors for i in range(n)])


def test_of_several_ways_the_most_faithful_is_kept(translator):
    maps = {"first": translator.maps[0]}
    features = Features(maps["first"].mean[None, None] + 0.0, "first")
    image = picture("cat", "cat", "cat", "cat")[None]
    once = AlignedTranslator(maps, LetterEncoder(), Mumbler(), spread=translator.spread)
    assert once.describe(features)[0].text == "zzz"
    best = AlignedTranslator(maps, LetterEncoder(), Mumbler(), spread=translator.spread, best_of=4)
    (said,) = LanguageAttribution(net(), "first", best).describe(image)
    assert said.text == "cat"
    assert not said.unsure


class Hearer(Mumbler):
    """A decoder that remembers what it was to say."""

    def decode(self, vectors, internal_batch_size=None):
        self.heard = vectors
        return SimpleNamespace(texts=["cat"] * len(vectors))


def test_what_is_said_is_the_mean_of_the_phrases_that_are_recalled(translator):
    options = {"phrases": ["cat", "dog", "ship"], "spread": translator.spread, "recall": 0.3}
    hearer = Hearer()
    recalling = AlignedTranslator({"first": translator.maps[0]}, LetterEncoder(), hearer, **options)
    features = Features(torch.randn(2, 2, 12), "first")
    recalling.describe(features)
    center, phrases = recalling.center, LetterEncoder().encode(options["phrases"])
    steps = phrases - center
    covariance = sum(torch.outer(step, step) for step in steps) / 3
    metric = torch.linalg.inv(covariance / covariance.trace() * 26 + 3 * torch.eye(26))
    for vector, heard in zip(translator.maps[0](features.rows), hearer.heard, strict=True):
        v = vector - center
        lengths = [(p @ metric @ p * (v @ metric @ v)) ** 0.5 for p in steps]
        away = [v @ metric @ p / length / 0.3 for p, length in zip(steps, lengths, strict=True)]
        weights = [torch.exp(a) / sum(map(torch.exp, away)) for a in away]
        mean = sum(w * (p - center) for w, p in zip(weights, phrases, strict=True))
        torch.testing.assert_close(heard, center + translator.spread * mean / mean.norm())
    silent = AlignedTranslator({"first": translator.maps[0]}, LetterEncoder(), hearer, spread=0.7)
    silent.describe(features)
    assert silent.memory is None
    torch.testing.assert_close((hearer.heard - center).norm(dim=1), torch.full((4,), 0.7))


def test_phrases_are_encoded_once_and_whitened_anew_when_loaded(translator, monkeypatch):
    encoded, encode = [], LetterEncoder.encode
    monkeypatch.setattr(
        LetterEncoder, "encode", lambda self, texts: encoded.append(texts) or encode(self, texts)
    )
    options = {"phrases": WORDS, "recall": 0.1}
    recalling = AlignedTranslator({"first": translator.maps[0]}, LetterEncoder(), Hearer(), **options)
    vectors = recalling.center + torch.randn(3, 26)
    before = recalling.recalled(vectors)
    recalling._nearest(vectors)
    assert encoded == [recalling.phrases]
    elsewhere = {name: tensor + 1 for name, tensor in recalling.state_dict().items()}
    recalling.load_state_dict(elsewhere)
    fresh = AlignedTranslator({"first": recalling.maps[0]}, LetterEncoder(), Hearer(), **options)
    torch.testing.assert_close(recalling.recalled(vectors), fresh.recalled(vectors))
    assert not torch.allclose(recalling.recalled(vectors), before)


def test_a_fit_to_captions_recalls_its_phrases_and_a_lens_too(translator):
    assert translator.recall == RECALL
    one = AlignedTranslator(
        {"first": translator.maps[0]}, LetterEncoder(), phrases=WORDS, recall=translator.recall
    )
    assert fit_lens(net(), "second", (x for x, _ in batches()), one, "first").recall == RECALL
    assert fit_captions(net(), "first", batches(), LetterEncoder(), phrases=WORDS, recall=None).memory is None


@pytest.mark.parametrize(("recall", "phrases"), [(0.0, WORDS), (-1.0, WORDS), (0.1, [])])
def test_nothing_to_recall(translator, recall, phrases):
    with pytest.raises(ValueError, match="pass a positive temperature and phrases"):
        AlignedTranslator(
            {"first": translator.maps[0]}, LetterEncoder(), Mumbler(), phrases=phrases, recall=recall
        )


def test_a_decoder_without_a_reference_is_not_saved(translator, tmp_path):
    mumbler = Mumbler()
    mumbler.reference = ""
    nameless = AlignedTranslator({"first": translator.maps[0]}, LetterEncoder(), mumbler)
    with pytest.raises(ValueError, match="save it with"):
        nameless.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_best_of_none(translator):
    with pytest.raises(ValueError, match="best_of=0"):
        AlignedTranslator({"first": translator.maps[0]}, LetterEncoder(), phrases=WORDS, best_of=0)
