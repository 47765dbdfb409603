"""Dominant words: counted right, unbiased under both ways of drawing, and gone with the features."""

import pytest
import torch
from fakes import LetterTranslator
from map_world import WIDTH, captioned, prototypes
from tiny_translators import features, tiny_language_model, tiny_translator

from torchnle.language.english.content_words import content_words, words_and_kinds
from torchnle.methods.aligned.text_features.statistics import Domain
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.texplain.words import sentences, word_counts
from torchnle.methods.texplain.words.compare import agreement, compare
from torchnle.methods.texplain.words.sentences import Sampling, Sentences
from torchnle.methods.texplain.words.table import WordTable
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features


def words_of(translator, features, *options, **named):
    (rows,) = rows_of(features, tokens_per_row=translator.tokens_per_row)
    return word_counts.words_of(translator, rows, *options, **named)


def sentences_of(translator, features, sampling):
    return sentences.sentences_of(translator, rows_of(features)[0], sampling)


def sentences_with(*texts, weights=None):
    given = torch.full((len(texts),), 1 / len(texts)) if weights is None else torch.tensor(weights)
    return Sentences(tuple(texts), given, None)


def test_lemmas_tags_and_words_of_the_picture_itself():
    assert content_words("A close-up photo of two women and three geese near the trees") == (
        "woman",
        "goose",
        "tree",
    )
    assert content_words("in the background there is a red bus", ("noun", "modifier")) == ("red", "bus")
    with pytest.raises(ValueError, match="adverb"):
        content_words("a hen", ("adverb",))


def test_kinds_of_words_gather_what_sentences_scatter():
    """Three birds that no two sentences share are dominated by the bird; nothing is above everything."""
    rows = [sentences_with("a robin", "a sparrow on a sofa", "an owl")]
    plain, kinds = WordTable.of(rows), WordTable.of(rows, split=words_and_kinds)
    assert plain.top(1)[0].frequency == pytest.approx(1 / 3)
    assert (kinds.top(1)[0].text, kinds.top(1)[0].frequency) == ("bird", pytest.approx(1))
    assert kinds.frequency("sparrow").tolist() == pytest.approx([1 / 3])
    assert not {"object", "entity", "animal"} & set(kinds.words)
    assert all(" " not in word for word in kinds.words)
    assert words_and_kinds("a qwert") == content_words("a qwert")


def test_a_word_counts_once_a_sentence():
    table = WordTable.of([sentences_with("a hen and a hen", "two hens on grass", "a lake", "a hen")])
    hen, *others = table.top(3)
    assert (hen.text, hen.frequency, hen.count, hen.documents) == ("hen", 0.75, 3, 1.0)
    assert {word.text: word.frequency for word in others} == {"grass": 0.25, "lake": 0.25}
    assert hen.low == pytest.approx(0.75 - 1.96 * (0.75 * 0.25 / 4) ** 0.5)


def test_the_language_models_favourites_are_subtracted():
    rows = [sentences_with("a man at a lake", "a man"), sentences_with("a man", "a man at a lake")]
    plain = WordTable.of(rows)
    less = WordTable.of(rows, sentences_with("a man", "a man", "a man", "a hen"))
    assert plain.first() == ["man", "man"]
    assert less.first() == ["lake", "lake"]
    assert less.top(1)[0].without_image == 0.0
    assert "hen" not in less.words


def test_first_words_among_some_and_a_word_nobody_says():
    table = WordTable.of([sentences_with("a hen on grass"), sentences_with("a lake")])
    assert table.first(["grass", "lake"]) == ["grass", "lake"]
    assert table.frequency("owl").tolist() == [0, 0]
    with pytest.raises(ValueError, match="owl"):
        table.first(["owl"])


def test_intervals_over_images_hold_the_true_frequency_as_often_as_they_say():
    """100 classes of 30 images, whose frequencies of one word are drawn with mean 0.4."""
    hits, generator = 0, torch.Generator().manual_seed(0)
    for seed in range(100):
        shares = (0.8 * torch.rand(30, generator=generator)).tolist()
        table = WordTable.of([sentences_with("a hen", "a lake", weights=[p, 1 - p]) for p in shares])
        word = next(word for word in table.top(2, seed=seed) if word.text == "hen")
        hits += word.low <= 0.4 <= word.high
    assert 86 <= hits <= 100


def test_shifts_between_groups_are_sure_only_where_they_are_there():
    generator = torch.Generator().manual_seed(1)

    def rows(water, count):
        noise = 0.2 * torch.rand(count, 2, generator=generator)
        return [
            sentences_with("a lake", "a hen", "grass", weights=[water + a, 0.3 + b, 0.2])
            for a, b in noise.tolist()
        ]

    table = WordTable.of([*rows(0.6, 20), *rows(0.2, 20)])
    shifts = {shift.text: shift for shift in compare(table[:20], table[20:])}
    assert shifts["lake"].sure
    assert shifts["lake"].difference == pytest.approx(0.4, abs=0.07)
    assert shifts["lake"].low < shifts["lake"].difference < shifts["lake"].high
    assert not shifts["hen"].sure
    assert not shifts["grass"].sure
    with pytest.raises(ValueError, match="1 and 20"):
        compare(table[:1], table[20:])
    with pytest.raises(ValueError, match="other words"):
        compare(table, WordTable.of([sentences_with("an owl"), sentences_with("an owl")]))


def test_agreement_of_the_same_words_and_of_none():
    hens, lakes = WordTable.of([sentences_with("a hen")]), WordTable.of([sentences_with("a lake")])
    assert agreement(hens, hens) == pytest.approx(1)
    assert agreement(hens, lakes) == 0


def word_split(text):
    return tuple(text.split())


def test_both_ways_of_drawing_agree_on_a_translator():
    translator, given = tiny_translator(), features("layer4", grid=None)
    tables = [
        words_of(translator, given, Sampling(n, replacement, seed=3), split=word_split, without_image=False)
        for n, replacement in ((3000, True), (300, False))
    ]
    common = sorted(set(tables[0].words) & set(tables[1].words))
    drawn, distinct = (torch.stack([t.frequency(word) for word in common]) for t in tables)
    variances = [t.variances[:, [t.words.index(word) for word in common]].T for t in tables]
    spread = (variances[0] + variances[1]).sqrt()
    assert len(common) > 5
    assert ((drawn - distinct).abs() < 4 * spread).all()
    assert spread.max() < 0.06


def vector_translator(seed):
    """TExplain's own network, for one vector, with random weights whose prefixes differ."""
    from torchnle.methods.texplain import texplain_translator

    lm = tiny_language_model()
    torch.manual_seed(seed)
    made = texplain_translator(
        "layer4", 8, lm, tokens=1, mode="flat", prefix_length=3, max_new_tokens=5
    ).eval()
    with torch.no_grad():
        for parameter in made.network.mlp[-1].parameters():
            parameter.mul_(6)
    return made


def test_words_depend_on_the_network_and_follow_the_features():
    """The paper's sanity: other weights say other words, and features dealt anew take their words along."""
    x, how = 4 * torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(0)), Sampling(300, True)
    dealt = [1, 2, 3, 0]
    table, moved, changed = (
        words_of(vector_translator(seed), Features(given, "layer4"), how, split=word_split)
        for seed, given in ((0, x), (0, x[dealt]), (1, x))
    )
    words = [word for word in table.words if word in moved.words and word in changed.words]
    ours, theirs, other = (torch.stack([t.frequency(w) for w in words], 1) for t in (table, moved, changed))
    assert (theirs - ours[dealt]).abs().max() < 0.15  # up to the draws
    assert (theirs - ours).abs().max() > 0.3
    assert (other - ours).abs().max() > 0.3


def captioned_map():
    from letter_encoder import LetterEncoder

    encoder = LetterEncoder()
    fitted = TextMap.fit(encoder.encode, prototypes=prototypes())
    x, listed = captioned()
    fitted.set_statistics(Domain(x.mean(0), 3.0, 5.0), torch.zeros(1, WIDTH))
    fitted.temperature.fill_(12.0)
    made = MapTranslator({"layer": fitted}, encoder, phrases=("a cat", "a dog", "grass", "a red door"))
    return made.eval(), x, listed


def test_a_maps_phrases_are_counted_by_their_probabilities():
    translator, x, listed = captioned_map()
    table = words_of(translator, Features(x[:, None], "layer"))
    shares = translator.probabilities(rows_of(Features(x[:, None], "layer")))
    torch.testing.assert_close(table.frequency("cat"), shares[:, 0])
    assert table.seed is None
    hits = [
        first in " ".join(phrases) for first, phrases in zip(table.first(), listed, strict=True) if phrases
    ]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    dealt = words_of(translator, Features(x[order][:, None], "layer")).first()
    chance = [first in " ".join(phrases) for first, phrases in zip(dealt, listed, strict=True) if phrases]
    assert sum(hits) / len(hits) > 0.8 > sum(chance) / len(chance) + 0.15


def test_only_some_phrases_compete_where_asked():
    translator, x, _ = captioned_map()
    table = words_of(translator, Features(x[:3, None], "layer"), phrases=["grass", "a dog"])
    assert table.words == ("grass", "dog")
    assert table.frequencies.sum(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_what_cannot_be_counted_is_refused():
    translator = tiny_translator()
    given = features("layer4", grid=None)
    with pytest.raises(ValueError, match="n=0"):
        Sampling(0)
    with pytest.raises(TypeError, match="PrefixTranslator"):
        sentences_of(translator, given, None)
    with pytest.raises(TypeError, match="LetterTranslator"):
        sentences_of(LetterTranslator(), given, Sampling())
    with pytest.raises(TypeError, match="text decoder"):
        sentences_of(captioned_map()[0], Features(torch.zeros(1, 1, WIDTH), "layer"), Sampling())
    with pytest.raises(ValueError, match="no rows"):
        WordTable.of([])
    with pytest.raises(ValueError, match="no word is left"):
        WordTable.of([sentences_with("running fast!", "very")])
    with pytest.raises(ValueError, match="not English"):
        WordTable.of([sentences_with("ein huhn auf der wiese", "eine kuh", "der strand")])
    with pytest.raises(ValueError, match=r"top\(0\)"):
        WordTable.of([sentences_with("a hen")]).top(0)


def test_a_translator_for_another_number_of_tokens_says_so():
    from torchnle.errors import TranslatorMismatchError
    from torchnle.methods.texplain import texplain_translator

    translator = texplain_translator("norm", 8, tiny_language_model(), tokens=5).eval()
    with pytest.raises(TranslatorMismatchError, match="reads all 5 tokens"):
        words_of(translator, Features(torch.randn(2, 3, 8), "norm"), Sampling(4))
