"""BOS read once for all rows: as if each row had read it."""

import pytest
import torch
from tiny import FAMILIES, TEXTS, make_lm, make_prefixes, slow_greedy, slow_log_prob

from torchnle.language import model, scoring
from torchnle.language.decoding import greedy
from torchnle.language.loss import caption_log_probs

ROWS = 9


@pytest.fixture(autouse=True)
def few_rows_share(monkeypatch):
    monkeypatch.setattr(model, "_SHARED_FROM", 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_losses_and_texts_are_those_of_each_row_alone(family, monkeypatch):
    lm, prefixes = make_lm(family), make_prefixes(ROWS)
    ids = lm.tokenize(TEXTS)
    expected = torch.tensor([[slow_log_prob(lm, row, each) for each in ids] for row in prefixes])
    scores = scoring.log_prob(lm, prefixes, TEXTS)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
    losses = caption_log_probs(lm, prefixes[:8], TEXTS)
    torch.testing.assert_close(losses, expected[:8].diagonal(), atol=1e-4, rtol=0)
    assert greedy(lm, prefixes, max_new_tokens=8).ids == [slow_greedy(lm, row, 8) for row in prefixes]
    monkeypatch.setattr(scoring, "_MAX_NODES", 2)  # several trees, one cache
    torch.testing.assert_close(scoring.log_prob(lm, prefixes, TEXTS), scores, atol=1e-4, rtol=0)


def test_gradients_are_those_without_sharing(monkeypatch):
    lm, prefixes = make_lm("llama"), make_prefixes(ROWS)

    def gradient():
        leaf = prefixes.clone().requires_grad_()
        scoring.log_prob(lm, leaf, TEXTS).sum().backward()
        return leaf.grad

    shared = gradient()
    monkeypatch.setattr(model, "_SHARED_FROM", 100)
    torch.testing.assert_close(shared, gradient(), rtol=1e-4, atol=1e-5)
    assert shared.abs().max() > 0.01


def test_one_pass_keeps_the_keys_of_one_row_only():
    lm = make_lm("llama")
    cache, rest = lm.begin_once(lm.context(make_prefixes(ROWS)))
    both = [lm.hidden(rest[rows], cache=cache) for rows in ([0, 1, 2], [3])]
    torch.testing.assert_close(torch.cat(both), lm.hidden(lm.context(make_prefixes(ROWS)))[:4, 1:])
    assert {tuple(layer.keys.shape[::2]) for layer in cache.layers} == {(1, 1)}


def test_a_context_of_bos_alone_is_read():
    lm = make_lm("llama")
    scores = scoring.log_prob(lm, make_prefixes(ROWS, length=0), ["cat"])
    torch.testing.assert_close(scores, scoring.prior(lm, ["cat"]).expand(ROWS, 1), atol=1e-5, rtol=0)
