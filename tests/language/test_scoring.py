import pytest
import torch
from tiny import FAMILIES, TEXTS, VOCABULARY, make_lm, make_prefixes, slow_log_prob, tiny_lm

from torchnle.language import scoring
from torchnle.language.scoring import log_prob, prior


@pytest.fixture(params=FAMILIES)
def lm(request):
    return tiny_lm(request.param)


@pytest.mark.parametrize("prompt", ["", "the cat and"])
def test_equals_the_slow_oracle_on_every_family(lm, prompt):
    prefixes = make_prefixes(3)
    expected = [[slow_log_prob(lm, row, ids, prompt) for ids in lm.tokenize(TEXTS)] for row in prefixes]
    scores = log_prob(lm, prefixes, TEXTS, prompt=prompt)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-4, rtol=0)
    assert scores.std() > 1  # the tiny models are far from uniform, so that agreement means something


def test_a_batch_is_the_rows_one_by_one_and_permutes(lm):
    prefixes = make_prefixes(5)
    scores = log_prob(lm, prefixes, TEXTS)
    alone = torch.cat([log_prob(lm, row[None], TEXTS) for row in prefixes])
    torch.testing.assert_close(scores, alone, atol=1e-5, rtol=1e-6)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(log_prob(lm, prefixes[order], TEXTS), scores[order], atol=1e-5, rtol=1e-6)


def test_texts_together_are_the_texts_one_by_one_and_duplicates_agree(lm):
    prefixes = make_prefixes(2)
    scores = log_prob(lm, prefixes, TEXTS)
    alone = torch.cat([log_prob(lm, prefixes, [text]) for text in TEXTS], dim=1)
    torch.testing.assert_close(scores, alone, atol=1e-5, rtol=1e-6)
    assert torch.equal(scores[:, TEXTS.index("a cat")], scores[:, 5])


def test_one_token_log_probs_sum_to_one(lm):
    total = log_prob(lm, make_prefixes(3), VOCABULARY).exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones(3), atol=1e-5, rtol=1e-6)


def test_two_token_texts_with_one_beginning_sum_to_that_beginning(lm):
    prefixes = make_prefixes(2)
    pairs = log_prob(lm, prefixes, [f"cat {word}" for word in VOCABULARY])
    torch.testing.assert_close(
        pairs.logsumexp(dim=1), log_prob(lm, prefixes, ["cat"])[:, 0], atol=1e-5, rtol=1e-6
    )


@pytest.mark.parametrize("size", [1, 3, 7, None])
def test_internal_batch_size_changes_nothing(size):
    lm, prefixes = tiny_lm("llama"), make_prefixes(7)
    scores = log_prob(lm, prefixes, TEXTS, internal_batch_size=size)
    torch.testing.assert_close(scores, log_prob(lm, prefixes, TEXTS), atol=1e-5, rtol=1e-6)


def test_internal_batch_size_bounds_the_rows_in_the_model():
    lm, seen = make_lm(), []
    lm.model.transformer.h[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    log_prob(lm, make_prefixes(7), TEXTS, internal_batch_size=3)
    assert set(seen) == {3, 1}


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
@pytest.mark.parametrize("max_nodes", [1, 2, 5])
def test_groups_of_texts_change_nothing(monkeypatch, family, max_nodes):
    lm, prefixes = tiny_lm(family), make_prefixes(3)
    expected = log_prob(lm, prefixes, TEXTS)
    monkeypatch.setattr(scoring, "_MAX_NODES", max_nodes)
    torch.testing.assert_close(log_prob(lm, prefixes, TEXTS), expected, atol=1e-5, rtol=1e-6)


def test_texts_are_read_as_a_tree_and_one_token_texts_not_at_all():
    lm, read = make_lm(), []
    lm.model.transformer.h[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    log_prob(lm, make_prefixes(2), VOCABULARY)
    assert read == [1 + 3]  # BOS and prefix
    read.clear()
    log_prob(lm, make_prefixes(2), ["a cat", "a cat sits", "a cat runs", "a dog", "cat"])
    assert read == [4 + 2]  # BOS, the prefix, "a", "a cat": the last words are predicted, never read


def test_never_makes_logits_for_a_position_where_nothing_is_predicted(monkeypatch):
    lm, rows = tiny_lm("gpt2"), []
    real = scoring.ops.linear_lse
    monkeypatch.setattr(scoring.ops, "linear_lse", lambda h, *args: rows.append(len(h)) or real(h, *args))
    log_prob(lm, make_prefixes(5), ["a red cat", "the dog"])
    assert rows == [5 * 4]  # the end of the prefix; "a", "a red", "the"


def test_no_rows_give_no_scores():
    assert log_prob(tiny_lm(), make_prefixes(0), TEXTS).shape == (0, len(TEXTS))


def test_an_empty_prefix_is_the_prior(lm):
    if lm.bos_id is None:
        expected = [slow_log_prob(lm, lm.embed(torch.tensor([lm.eos_id])), ids) for ids in lm.tokenize(TEXTS)]
    else:
        expected = [slow_log_prob(lm, torch.zeros(0, lm.width), ids) for ids in lm.tokenize(TEXTS)]
    torch.testing.assert_close(prior(lm, TEXTS), torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "opt", "opt_projected", "phi"])
def test_gradient_to_the_prefixes(family):
    lm = make_lm(family, dtype=torch.float64)
    prefixes = make_prefixes(2, 2, dtype=torch.float64).requires_grad_()
    texts = ["a red cat", "a dog", "sky"]
    assert torch.autograd.gradcheck(lambda p: log_prob(lm, p, texts, prompt="the"), prefixes)


def test_gradient_is_that_of_the_transformers_model(lm):
    prefixes = make_prefixes(2).requires_grad_()
    ids = lm.tokenize(["a red cat"])[0]
    start = lm.embed(torch.tensor([] if lm.bos_id is None else [lm.bos_id], dtype=torch.long))
    read = torch.cat(
        [start.expand(2, -1, -1), prefixes, lm.embed(torch.tensor(ids)).expand(2, -1, -1)], dim=1
    )
    steps = lm.model(inputs_embeds=read).logits[:, -4:-1].log_softmax(-1)
    (expected,) = torch.autograd.grad(steps[:, range(3), ids].sum(), prefixes)
    (gradient,) = torch.autograd.grad(log_prob(lm, prefixes, ["a red cat"]).sum(), prefixes)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)


def test_gradient_in_groups_and_batches_is_the_gradient(monkeypatch):
    lm, prefixes = tiny_lm("llama"), make_prefixes(4).requires_grad_()
    (whole,) = torch.autograd.grad(log_prob(lm, prefixes, TEXTS).square().sum(), prefixes)
    monkeypatch.setattr(scoring, "_MAX_NODES", 2)
    scores = log_prob(lm, prefixes, TEXTS, internal_batch_size=3)
    (parts,) = torch.autograd.grad(scores.square().sum(), prefixes)
    torch.testing.assert_close(parts, whole, atol=1e-3, rtol=1e-4)
    assert all(parameter.grad is None for parameter in lm.model.parameters())


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_bfloat16_is_near_float32(family):
    prefixes = make_prefixes(3)
    low = log_prob(make_lm(family, dtype=torch.bfloat16), prefixes, TEXTS)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, log_prob(tiny_lm(family), prefixes, TEXTS), atol=0.5, rtol=0.03)


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        ("a cat", TypeError, r"pass a list: \['a cat'\]"),
        ([], ValueError, "texts is empty"),
        (["a cat", ""], ValueError, r"texts\[1\] is ''"),
        ([" \n"], ValueError, "blank"),
        (["cat " * 60], ValueError, r"'cat cat .*\.\.\.' needs 63 positions; .* has 48"),
        (["cat " * 5000], ValueError, r"texts\[0\] has 20000 characters \('cat cat .*\.\.\.'\)"),
    ],
)
def test_refuses_bad_texts(texts, error, words):
    with pytest.raises(error, match=words):
        log_prob(tiny_lm(), make_prefixes(1), texts)


def test_refuses_bad_prefixes_and_sizes():
    with pytest.raises(ValueError, match=r"width 7; the language model 'GPT2LMHeadModel' .* width 16"):
        log_prob(tiny_lm(), make_prefixes(1, width=7), ["cat"])
    with pytest.raises(ValueError, match="internal_batch_size=0"):
        log_prob(tiny_lm(), make_prefixes(1), ["cat"], internal_batch_size=0)
    with pytest.raises(ValueError, match="is on cpu; move one of them"):
        log_prob(tiny_lm(), make_prefixes(1).to("meta"), ["cat"])
    with pytest.raises(ValueError, match="no BOS"):
        log_prob(tiny_lm("qwen2"), make_prefixes(1, 0), ["cat"])
