import pytest
import torch
from tiny import FAMILIES, TEXTS, make_lm, make_prefixes, slow_log_prob, tiny_lm

from torchnle.language.loss import caption_log_probs


@pytest.fixture(params=FAMILIES)
def lm(request):
    return tiny_lm(request.param)


@pytest.mark.parametrize(("prompt", "end"), [("", False), ("the cat and", True)])
def test_equals_the_slow_oracle_on_every_family(lm, prompt, end):
    prefixes = make_prefixes(len(TEXTS))
    ids = [[*row, *([lm.eos_id] if end else [])] for row in lm.tokenize(TEXTS)]
    expected = [slow_log_prob(lm, *pair, prompt) for pair in zip(prefixes, ids, strict=True)]
    found = caption_log_probs(lm, prefixes, TEXTS, prompt=prompt, end=end)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=0)


def test_buckets_change_nothing():
    lm, texts = tiny_lm("llama"), TEXTS * 5
    prefixes = make_prefixes(len(texts))
    alone = [caption_log_probs(lm, row[None], [text]) for row, text in zip(prefixes, texts, strict=True)]
    torch.testing.assert_close(caption_log_probs(lm, prefixes, texts), torch.cat(alone), atol=1e-5, rtol=0)


def test_gradient_is_that_of_the_transformers_loss(lm):
    prefixes, texts = make_prefixes(3).requires_grad_(), ["a red cat", "sky", "the dog runs"]
    context, ids = lm.context(prefixes), lm.tokenize(texts)
    words = torch.tensor([row + [0] * (3 - len(row)) for row in ids])
    labels = torch.tensor([[-100] * context.shape[1] + row + [-100] * (3 - len(row)) for row in ids])
    loss = lm.model(inputs_embeds=torch.cat([context, lm.embed(words)], dim=1), labels=labels).loss
    (expected,) = torch.autograd.grad(loss, prefixes)
    ours = -caption_log_probs(lm, prefixes, texts).sum() / sum(map(len, ids))
    torch.testing.assert_close(ours, loss, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(ours, prefixes)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)


def test_gradcheck_in_float64():
    lm = make_lm("gpt2", dtype=torch.float64)
    prefixes = make_prefixes(2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: caption_log_probs(lm, p, ["a red cat", "sky"]), prefixes)


def test_refuses_what_it_cannot_score():
    with pytest.raises(ValueError, match="1 texts were given for 2 prefixes"):
        caption_log_probs(tiny_lm(), make_prefixes(2), ["cat"])
    with pytest.raises(ValueError, match="needs 63 positions"):
        caption_log_probs(tiny_lm(), make_prefixes(1), ["cat " * 60])
    with pytest.raises(TypeError, match="pass a list"):
        caption_log_probs(tiny_lm(), make_prefixes(1), "cat")
