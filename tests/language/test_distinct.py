"""Sampling without replacement against the enumeration of every text of a tiny language model."""

import pytest
import torch
from tiny import make_lm, make_prefixes, slow_logits

from torchnle.language.packed.gumbel import below, gumbel
from torchnle.language.sampling.distinct import sample_distinct
from torchnle.language.sampling.nucleus import Nucleus

TOKENS, TOP_P, TEMPERATURE = 3, 0.8, 1.3


@pytest.fixture(scope="module")
def lm():
    made = make_lm()
    made.model.lm_head.bias = torch.nn.Parameter(torch.zeros(made.vocab_size), requires_grad=False)
    made.model.lm_head.bias[1] = 2.0
    return made


@pytest.fixture(scope="module")
def everything(lm):
    """Every text that nucleus sampling can draw, with its probability."""
    found, open_paths = {}, {(): 1.0}
    for step in range(TOKENS):
        grown = {}
        for ids, share in open_paths.items():
            logits = slow_logits(lm, make_prefixes(1)[0], list(ids))[-1:].float()
            nucleus = Nucleus.of(logits, top_p=TOP_P, temperature=TEMPERATURE)
            for token, p in zip(
                nucleus.tokens[0].tolist(), nucleus.log_probs()[0].exp().tolist(), strict=True
            ):
                ended = token in lm.eos_ids or step == TOKENS - 1
                if p > 0:
                    kept = ids if token in lm.eos_ids else (*ids, token)
                    (found if ended else grown)[kept] = share * p
        open_paths = grown
    assert sum(found.values()) == pytest.approx(1)
    return found


def drawn(lm, n, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    settings = {"top_p": TOP_P, "temperature": TEMPERATURE, "max_new_tokens": TOKENS, **options}
    return sample_distinct(lm, make_prefixes(1)[0], n, generator=generator, **settings)


def test_log_probs_are_those_of_the_enumeration_and_no_text_comes_twice(lm, everything):
    found = drawn(lm, 30, 0)
    keys = [tuple(ids) for ids in found.ids]
    assert len(set(keys)) == 30
    expected = torch.tensor([everything[key] for key in keys]).log()
    torch.testing.assert_close(found.log_probs, expected, atol=1e-4, rtol=0)


def test_more_than_there_are_is_everything_with_its_own_weight(lm, everything):
    found = drawn(lm, len(everything) + 5, 0, internal_batch_size=len(everything) + 5)
    assert len(found.texts) == len(everything)
    assert found.weights.sum().item() == pytest.approx(1, abs=1e-4)
    assert found.variances.abs().max().item() < 1e-6
    shares = {tuple(ids): w for ids, w in zip(found.ids, found.weights.tolist(), strict=True)}
    assert all(shares[key] == pytest.approx(p, rel=1e-3) for key, p in everything.items())


@pytest.mark.parametrize("size", [12, 4])
def test_weighted_word_frequencies_are_unbiased_and_their_variance_is_known(lm, everything, size):
    """Over 300 samples of 12, each word's mean frequency is the exact one, within its standard error."""
    words = sorted({token for key in everything for token in key})
    exact = torch.tensor([sum(p for key, p in everything.items() if word in key) for word in words])
    estimates, stated = [], []
    for seed in range(300):
        found = drawn(lm, 12, seed, internal_batch_size=size)
        has = torch.tensor([[float(word in ids) for word in words] for ids in found.ids])
        estimates.append(found.weights @ has)
        stated.append(found.variances @ has)
    spread = torch.stack(estimates).std(dim=0)
    error = (torch.stack(estimates).mean(dim=0) - exact).abs() / (spread / 300**0.5).clamp_min(1e-6)
    assert error.max() < 4
    common = exact > 0.1
    ratio = torch.stack(stated).mean(dim=0)[common] / spread[common] ** 2
    assert ((ratio > 0.6) & (ratio < 1.7)).all()  # an estimate from few texts has a heavy tail


def test_likely_texts_are_drawn_more_often(lm, everything):
    first = max(everything, key=everything.get)
    hits = sum(first in {tuple(ids) for ids in drawn(lm, 1, seed).ids} for seed in range(400)) / 400
    assert hits == pytest.approx(everything[first], abs=4 * 0.5 / 20)


def test_children_have_their_parents_maximum_and_the_order_of_free_noise():
    log_probs = torch.tensor([[0.6, 0.3, 0.1]]).log().double().repeat(5000, 1)
    generator = torch.Generator().manual_seed(0)
    parents = gumbel(torch.rand(5000, generator=generator))
    found = below(log_probs, parents, torch.rand(5000, 3, generator=generator))
    torch.testing.assert_close(found.amax(dim=1), parents)
    shares = torch.bincount(found.argmax(dim=1), minlength=3) / 5000
    assert (shares - torch.tensor([0.6, 0.3, 0.1])).abs().max() < 4 * 0.5 / 5000**0.5
    free = found - log_probs  # independent standard Gumbel numbers again: mean 0.5772, variance pi^2 / 6
    assert free.mean(dim=0).sub(0.5772).abs().max() < 0.08
    assert torch.corrcoef(free.T).fill_diagonal_(0).abs().max() < 0.06


def test_a_seed_is_a_sample(lm):
    assert drawn(lm, 8, 1).ids == drawn(lm, 8, 1).ids != drawn(lm, 8, 2).ids


BAD = {"n": 0, "top_p": 1.5, "temperature": 0.0, "max_new_tokens": 0, "internal_batch_size": 0, "stop": ""}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_refuses_bad_settings(lm, name, value):
    with pytest.raises(ValueError, match=name):
        sample_distinct(lm, make_prefixes(1)[0], **{"n": 2, name: value})
