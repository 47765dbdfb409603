from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fakes import conv_net
from tiny import tiny_lm
from zero_shot_world import NAMES, classifier, pictures

from torchnle.methods.zero_shot.evidence import evidence
from torchnle.methods.zero_shot.faithfulness import SECOND_PROMPT, agreement, percentile, second_run, slopes
from torchnle.methods.zero_shot.sentences.beams import Search, write
from torchnle.methods.zero_shot.sentences.candidates import Candidates
from torchnle.methods.zero_shot.sentences.log_probs import next_log_probs
from torchnle.methods.zero_shot.sentences.words import Words, is_unwanted, unwanted_by_default

SHORT = Search(beams=2, proposals=12, encoded=6, most_words=4, least_words=2)


@pytest.fixture(scope="module")
def lang():
    return classifier()


def explain(lang, images, **options):
    return lang.explain(images, language_model=tiny_lm(), search=SHORT, **options)


@torch.no_grad()
def test_every_number_of_an_explanation_is_what_it_says(lang):
    images = pictures(2)
    predictions = conv_net()(images).argmax(dim=1)
    (fitted,) = lang.translator.by_layer.values()
    (read,) = lang.read(images)
    vectors = evidence(fitted, read.tokens.mean(dim=1), predictions, locations=read.tokens).vector
    for image, why in enumerate(explain(lang, images)):
        direction = fitted.directions(lang.translator.encoder.encode([why.text]))
        assert why.prediction == NAMES[predictions[image]]
        assert why.score == pytest.approx(
            float(F.cosine_similarity(direction, vectors[image : image + 1])), abs=1e-5
        )
        assert why.slope == pytest.approx(
            float(slopes(fitted, predictions[image : image + 1], direction)), abs=1e-5
        )
        assert 0 <= why.percentile <= 100
        assert 2 <= len(why.text.split()) <= 4
        assert str(why).startswith(f"prediction: {why.prediction} because it shows {why.text}")
        assert len(why.concepts) == 5


def test_the_sentence_fits_its_evidence_better_than_the_others_do(lang):
    images = pictures(8, seed=5)
    explanations = explain(lang, images, target=[0, 1, 2, 3, 4, 0, 1, 2])
    (fitted,) = lang.translator.by_layer.values()
    (read,) = lang.read(images)
    classes = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    found = evidence(fitted, read.tokens.mean(dim=1), classes, locations=read.tokens)
    vectors = F.normalize(found.vector, dim=1)
    cosines = vectors @ fitted.directions(lang.translator.encoder.encode([w.text for w in explanations])).T
    assert float(cosines.diagonal().mean()) > float(cosines.mean()) + 0.02


def test_agreement_is_the_cosine_with_the_sentence_of_a_second_run(lang):
    images = pictures(3)
    first = explain(lang, images)
    again = replace(SHORT, prompt=SECOND_PROMPT)
    second = lang.explain(images, language_model=tiny_lm(), search=again)
    both = explain(lang, images, second=True)
    encode = lang.translator.encoder.encode
    expected = F.cosine_similarity(encode([w.text for w in first]), encode([w.text for w in second]))
    assert [why.agreement for why in both] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [replace(why, agreement=None) for why in both] == first
    assert second_run(SHORT) == again


def test_one_by_one_is_as_together(lang):
    images = pictures(3)
    together = [why.text for why in explain(lang, images)]
    assert [explain(lang, image[None])[0].text for image in images] == together


def test_a_contrast_is_named_and_a_wrong_prediction_says_where_to_look(lang):
    images = pictures(1)
    predicted = explain(lang, images)[0].prediction
    other = next(name for name in NAMES if name != predicted)
    (against,) = explain(lang, images, rather_than=other)
    assert f"{predicted} rather than {other} because" in str(against)
    (wrong,) = explain(lang, images, truth=other)
    assert wrong.is_wrong
    assert f"it is {other}: look at location" in wrong.sentence
    (right,) = explain(lang, images, truth=predicted)
    assert not right.is_wrong
    assert right.rather_than == ""


def test_the_location_is_the_one_that_contributes_most(lang):
    images = pictures(2, seed=9)
    weight = conv_net().head.weight.detach()
    (read,) = lang.read(images)
    for image, why in enumerate(explain(lang, images, target="boat")):
        shares = read.tokens[image] @ (weight[2] - weight.mean(0))
        assert why.location == divmod(int(shares.argmax()), 4)


def test_unwanted_words_are_never_said(lang):
    images = pictures(3)
    words = {word for why in explain(lang, images) for word in why.text.split()}
    nouns = words - {"a", "the", "on", "under", "and"}
    again = {word for why in explain(lang, images, unwanted=nouns) for word in why.text.split()}
    assert not nouns & again
    assert is_unwanted("a Fucking hen", unwanted_by_default())


def test_a_beam_knows_its_own_log_probability():
    lm = tiny_lm()
    words = Words(lm, classifier().translator.encoder)
    table = torch.linspace(0, 1, len(words.texts))
    value = dict(zip(words.texts, table.tolist(), strict=True))
    candidates = Candidates(
        words,
        torch.arange(len(words.texts)),
        table,
        lambda texts: torch.tensor([sum(value[w] for w in t.split()) for t in texts]),
    )
    best = write(lm, candidates, SHORT)[0]
    slow = sum(
        float(next_log_probs(lm, [best.ids[:i]], SHORT.prompt)[0, token]) for i, token in enumerate(best.ids)
    )
    assert best.log_prob == pytest.approx(slow, abs=1e-4)
    assert best.fit == pytest.approx(sum(value[w] for w in best.text.split()), abs=1e-5)


def test_percentile_counts_ties_half():
    scores, others = torch.tensor([0.5, -1.0]), torch.tensor([[0.1, 0.5, 0.9], [0.0, 0.0, 0.0]])
    assert percentile(scores, others).tolist() == pytest.approx([50.0, 0.0])


def test_agreement_is_one_for_the_same_words(lang):
    encoder = lang.translator.encoder
    same, other = agreement(encoder, ["a cat", "a cat"], ["a cat", "sky"]).tolist()
    assert same == pytest.approx(1.0)
    assert other < 0.9
    with pytest.raises(ValueError, match="pairs"):
        agreement(encoder, ["a cat"], [])


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"least_words": 9, "most_words": 3}, {"encoded": -1}])
def test_a_search_needs_positive_numbers(wrong):
    with pytest.raises(ValueError, match="positive"):
        Search(**wrong)


def test_a_class_is_not_set_against_itself(lang):
    predicted = explain(lang, pictures(1))[0].prediction
    with pytest.raises(ValueError, match="set against"):
        explain(lang, pictures(1), rather_than=predicted)
    with pytest.raises(ValueError, match="both"):
        explain(lang, pictures(1), rather_than="cat", truth="mug")
