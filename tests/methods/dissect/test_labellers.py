"""The other labellers against slow forms of their papers' formulas."""

import math

import pytest
import torch
from fakes import LetterTranslator

from torchnle.methods.dissect.labellers.clip_dissect import soft_wpmi, wpmi
from torchnle.methods.dissect.labellers.linear import linear_labels
from torchnle.methods.dissect.labellers.nearest import masked_mean, nearest_text_scores, rank_by
from torchnle.methods.dissect.labellers.reranking import mean_log_probability, milan_scores


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("soft", [True, False])
def test_wpmi_is_that_of_the_authors_code(soft):
    cosines = drawn(30, 7) * 0.3
    images = torch.stack([drawn(30, seed=u).argsort()[:12] for u in range(4)])
    scale, prior = (10.0, 1.0) if soft else (2.0, 0.6)
    shares = [[math.exp(scale * c) for c in row] for row in cosines.tolist()]
    shares = [[s / sum(row) for s in row] for row in shares]
    given = []
    for row in images.tolist():
        sums = [0.0] * 7
        for j, image in enumerate(row):
            p = 0.998 - (j / 12) * 0.028
            for t in range(7):
                s = shares[image][t]
                sums[t] += math.log(1 + p * (s - 1) + 1e-7) if soft else math.log(s + 1e-7)
        given.append(sums)
    log_prior = [math.log(sum(math.exp(g[t]) for g in given) / 4) for t in range(7)]
    wanted = torch.tensor([[g[t] - prior * log_prior[t] for t in range(7)] for g in given])
    torch.testing.assert_close((soft_wpmi if soft else wpmi)(images, cosines), wanted, atol=1e-3, rtol=1e-4)


def test_milan_s_prior_takes_off_what_is_said_of_everything():
    probabilities = torch.tensor([[[0.45, 0.55], [0.45, 0.55]], [[0.02, 0.98], [0.02, 0.98]]])
    given = mean_log_probability(probabilities)
    assert given.argmax(1).tolist() == [1, 1]
    prior = given.exp().mean(0).log()
    assert milan_scores(given, prior, weight=1.0).argmax(1).tolist() == [0, 1]
    torch.testing.assert_close(milan_scores(given, prior), given - 0.2 * prior)
    with pytest.raises(ValueError, match="not above 0"):
        milan_scores(given.exp(), prior)


def test_nearest_text_reads_the_mean_exemplar():
    translator, evidence, background = LetterTranslator(), drawn(3, 4, 6), drawn(6, seed=9)
    texts = ["a cat", "sky", "grass"]
    normalize = torch.nn.functional.normalize
    plain = normalize(evidence.mean(1), dim=1) @ translator.embed(texts).T
    less = plain - normalize(background, dim=0) @ translator.embed(texts).T
    torch.testing.assert_close(nearest_text_scores(translator, "layer", evidence, texts), plain)
    torch.testing.assert_close(nearest_text_scores(translator, "layer", evidence, texts, background), less)
    torch.testing.assert_close(masked_mean(evidence), evidence.mean(1))
    ranked = rank_by(plain, texts, 2)
    assert [len(row) for row in ranked] == [2, 2, 2]
    assert [row[0][0] for row in ranked] == [texts[i] for i in plain.argmax(1).tolist()]
    with pytest.raises(ValueError, match="k=0"):
        rank_by(plain, texts, 0)


def test_linear_labels_find_the_words_and_stop():
    scores = drawn(600, 20)
    units = torch.stack([2 * scores[:, 3] + scores[:, 7], scores[:, 5], drawn(600, seed=3)], 1)
    words = [f"w{i}" for i in range(20)]
    two, one, none = linear_labels(scores, units + 0.1 * drawn(600, 3, seed=4), words)
    assert two.words == ("w3", "w7")
    assert two.weights[0] == pytest.approx(2 / 5**0.5, abs=0.05)
    assert two.correlation > 0.95
    assert one.words == ("w5",)
    assert len(none.words) <= 3
    assert none.correlation < 0.2
    assert len(linear_labels(scores, units, words, most=1)[0].words) == 1
    with pytest.raises(ValueError, match="one word a column"):
        linear_labels(scores, units, words[:-1])
