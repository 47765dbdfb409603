import itertools

import pytest
import torch
from tiny import FAMILIES, TEXTS, VOCABULARY, WORDS, make_lm, make_prefixes, tiny_lm

from torchnle.language.packed import search
from torchnle.language.packed.search import top_rows, top_texts
from torchnle.language.packed.search_state import Tree
from torchnle.language.ranking import Ranking
from torchnle.language.scoring import log_prob, prior

PHRASES = [" ".join(words) for words in itertools.product(["a", "the"], ["red", "big", "cat"], WORDS[:9])]
PHRASES += ["a", "the red", "cat", "dog runs", "sky"]


@pytest.fixture(params=FAMILIES)
def lm(request):
    return tiny_lm(request.param)


def agree(found, expected):
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
    assert torch.equal(found.indices, expected.indices)


@pytest.mark.parametrize("k", [1, 4])
def test_the_texts_are_those_of_the_exhaustive_answer(lm, k):
    prefixes = make_prefixes(6)
    found = top_texts(lm, prefixes, PHRASES, k, prompt="the cat and")
    agree(found, Ranking.of(log_prob(lm, prefixes, PHRASES, prompt="the cat and"), k))
    assert found.extensions < found.exhaustive


def test_where_the_bound_does_not_help_all_are_scored_at_once(lm):
    prefixes, k = make_prefixes(6), len(PHRASES) - 5
    found = top_texts(lm, prefixes, PHRASES, k, offsets=torch.arange(len(PHRASES)) / 9)
    agree(found, Ranking.of(log_prob(lm, prefixes, PHRASES) + torch.arange(len(PHRASES)) / 9, k))
    assert found.extensions == 6 * 8 + found.exhaustive


def test_the_fewest_beginnings_are_those_of_the_nearest_texts():
    texts = [[1], [1, 2], [1, 2, 3], [1, 2, 4], [1, 2, 4], [5, 6, 7, 8], [5, 6, 9], [10, 11], [10, 12]]
    needed = [{tuple(text[:length]) for length in range(1, len(text))} for text in texts]
    tree = Tree(texts, [0.0] * len(texts))
    for k in range(1, len(texts) + 1):
        expected = min(len(set().union(*chosen)) for chosen in itertools.combinations(needed, k))
        assert tree.fewest(k) == expected
    assert tree.fewest(100) == expected == len(tree.trie.tokens)


def test_where_no_row_can_be_lucky_nothing_is_searched(monkeypatch):
    lm, prefixes = tiny_lm(), make_prefixes(3)
    texts = [f"the {first} on {second}" for first in WORDS[:5] for second in WORDS[:2]]
    monkeypatch.setattr(search, "Reader", None)
    found = top_texts(lm, prefixes, texts, 9)
    agree(found, Ranking.of(log_prob(lm, prefixes, texts), 9))
    assert found.extensions == found.exhaustive == 3 * 11


@pytest.mark.parametrize("k", [1, 4])
def test_the_rows_are_those_of_the_exhaustive_answer(lm, k):
    prefixes = make_prefixes(60)
    for text in ("a red bird", "cat"):
        found = top_rows(lm, prefixes, text, k)
        agree(found, Ranking.of(log_prob(lm, prefixes, [text])[:, 0], k))
        assert found.indices.shape == (k,)


def test_with_the_prior_subtracted_the_order_is_that_of_the_information():
    lm, prefixes = tiny_lm("llama"), make_prefixes(5)
    offsets = -prior(lm, PHRASES)
    found = top_texts(lm, prefixes, PHRASES, 3, offsets=offsets)
    expected = Ranking.of(log_prob(lm, prefixes, PHRASES) + offsets, 3)
    agree(found, expected)
    assert not torch.equal(found.indices, Ranking.of(log_prob(lm, prefixes, PHRASES), 3).indices)


@pytest.mark.parametrize("size", [1, 3, 7, None])
def test_batches_change_nothing(size):
    lm, prefixes = tiny_lm(), make_prefixes(7)
    texts, rows = top_texts(lm, prefixes, PHRASES, 3), top_rows(lm, prefixes, "a red bird", 3)
    agree(top_texts(lm, prefixes, PHRASES, 3, internal_batch_size=size), texts)
    agree(top_rows(lm, prefixes, "a red bird", 3, internal_batch_size=size), rows)


def test_more_than_there_are_gives_all_of_them():
    lm, prefixes = tiny_lm(), make_prefixes(3)
    agree(top_texts(lm, prefixes, TEXTS[:5], 99), Ranking.of(log_prob(lm, prefixes, TEXTS[:5]), 99))
    found = top_rows(lm, prefixes, "a cat", 99)
    agree(found, Ranking.of(log_prob(lm, prefixes, ["a cat"])[:, 0], 99))
    assert found.extensions == found.exhaustive == 3


def test_equal_texts_come_in_their_order():
    found = top_texts(tiny_lm(), make_prefixes(1), ["a cat"] * 3 + ["sky"] * 2, 5)
    order = found.indices[0].tolist()
    assert order in ([0, 1, 2, 3, 4], [3, 4, 0, 1, 2])


def test_texts_of_one_token_are_never_read_on():
    lm, read = make_lm(), []
    lm.model.transformer.h[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    assert top_texts(lm, make_prefixes(4), VOCABULARY, 2).extensions == 0
    assert top_rows(lm, make_prefixes(4), "cat", 2).extensions == 0
    assert read == [4, 4]  # BOS and three vectors of prefix


def test_an_impossible_beginning_is_never_read():
    """Where one token has nearly all the probability, only texts that begin with it are read on."""
    lm = make_lm()
    lm.model.lm_head.bias = torch.nn.Parameter(torch.zeros(lm.vocab_size), requires_grad=False)
    lm.model.lm_head.bias[lm.tokenize(["cat"])[0][0]] = 60.0
    found = top_texts(lm, make_prefixes(5), ["cat cat", "dog cat", "bird cat", "sky cat", "the cat"], 1)
    assert found.indices[:, 0].tolist() == [0] * 5
    assert (found.extensions, found.exhaustive) == (5, 25)


def test_no_rows():
    assert top_texts(tiny_lm(), make_prefixes(0), TEXTS, 2).indices.shape == (0, 2)
    assert top_rows(tiny_lm(), make_prefixes(0), "a cat", 2).indices.shape == (0,)


@pytest.mark.parametrize("k", [0, -1])
def test_refuses_bad_numbers_of_results(k):
    with pytest.raises(ValueError, match=rf"k={k}; pass"):
        top_texts(tiny_lm(), make_prefixes(1), TEXTS, k)
    with pytest.raises(ValueError, match=rf"k={k}; pass"):
        top_rows(tiny_lm(), make_prefixes(1), "a cat", k)


def test_refuses_bad_texts():
    with pytest.raises(TypeError, match="pass a list"):
        top_texts(tiny_lm(), make_prefixes(1), "a cat", 1)
    with pytest.raises(ValueError, match="blank"):
        top_rows(tiny_lm(), make_prefixes(1), " ", 1)
    with pytest.raises(ValueError, match="needs 63 positions"):
        top_rows(tiny_lm(), make_prefixes(1), "cat " * 60, 1)
