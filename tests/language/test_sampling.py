import pytest
import torch
from tiny import make_lm, make_prefixes, slow_log_prob, slow_logits, tiny_lm

from torchnle.language.decoding import greedy, sample
from torchnle.language.sampling import nucleus


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("top_p", [1.0, 0.6])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_first_tokens_have_the_frequencies_of_the_nucleus(top_p, temperature):
    lm, prefixes, n = tiny_lm("llama"), make_prefixes(2), 4000
    options = {"top_p": top_p, "temperature": temperature, "generator": seeded(), "max_new_tokens": 1}
    found = sample(lm, prefixes, n, **options)
    for row in range(2):
        drawn = [ids[0] if ids else lm.eos_ids[0] for ids in found.ids[row * n : (row + 1) * n]]
        counted = torch.bincount(torch.tensor(drawn), minlength=lm.vocab_size) / n
        expected = slow_nucleus(slow_logits(lm, prefixes[row], [])[-1] / temperature, top_p)
        assert (counted - expected).abs().max() < 4 * 0.5 / n**0.5  # four standard deviations
        assert not counted[expected == 0].any()


def slow_nucleus(logits, top_p):
    probabilities = logits.softmax(0)
    kept, total = torch.zeros_like(probabilities), 0.0
    for token in probabilities.argsort(descending=True).tolist():
        kept[token] = probabilities[token]
        total += probabilities[token].item()
        if total >= top_p:
            break
    return kept / kept.sum()


def test_a_tiny_nucleus_is_greedy():
    lm, prefixes = tiny_lm("gpt2"), make_prefixes(4)
    expected = greedy(lm, prefixes, max_new_tokens=6)
    found = sample(lm, prefixes, 3, top_p=1e-6, max_new_tokens=6)
    assert found.ids == [ids for ids in expected.ids for _ in range(3)]
    torch.testing.assert_close(found.log_probs, expected.log_probs.repeat_interleave(3), atol=1e-5, rtol=0)


def test_log_probs_are_the_models_own():
    lm, prefixes = tiny_lm("opt"), make_prefixes(2)
    found = sample(
        lm, prefixes, 3, temperature=3.0, top_p=0.8, max_new_tokens=4, prompt="the cat", generator=seeded()
    )
    expected = [
        slow_log_prob(lm, prefixes[i // 3], ids, "the cat") if ids else 0.0 for i, ids in enumerate(found.ids)
    ]
    torch.testing.assert_close(found.log_probs, torch.tensor(expected), atol=1e-4, rtol=0)
    assert len(set(found.texts)) > 2


@pytest.mark.parametrize("size", [1, 2, 5, 12, None])
def test_batches_change_no_text(size):
    lm, prefixes = tiny_lm("llama"), make_prefixes(3)
    whole = sample(lm, prefixes, 4, generator=seeded(), internal_batch_size=100)
    parts = sample(lm, prefixes, 4, generator=seeded(), internal_batch_size=size)
    assert parts.ids == whole.ids


@pytest.mark.parametrize("size", [3, 100])
def test_each_prefix_is_read_once(size):
    lm, read = make_lm(), []
    lm.model.transformer.h[0].register_forward_pre_hook(lambda _, args: read.append(tuple(args[0].shape[:2])))
    sample(lm, make_prefixes(2), 6, max_new_tokens=2, internal_batch_size=size, generator=seeded())
    prefills = [shape for shape in read if shape[1] > 1]
    assert sum(rows for rows, _ in prefills) == 2
    assert max(rows for rows, _ in read) <= max(size, 1)


@pytest.mark.parametrize("size", [3, 100])
def test_samples_that_share_a_row_are_those_drawn_alone(size):
    lm, prefixes, tokens = make_lm(), make_prefixes(2), 5
    lm.model.lm_head.bias = torch.nn.Parameter(torch.zeros(lm.vocab_size), requires_grad=False)
    lm.model.lm_head.bias[1] = 3.0  # texts end early, so that rows leave
    found = sample(lm, prefixes, 10, generator=seeded(), max_new_tokens=tokens, internal_batch_size=size)
    uniform = torch.rand(2, 10, tokens, generator=seeded())
    expected = [slow_sample(lm, prefixes[i], uniform[i, j]) for i in range(2) for j in range(10)]
    assert found.ids == expected
    assert len({len(ids) for ids in found.ids}) > 2


def slow_sample(lm, prefix, uniform, top_p=0.95):
    ids = []
    for number in uniform:
        logits = slow_logits(lm, prefix, ids)[-1:]
        ids.append(nucleus.draw(logits, number[None], top_p=top_p, temperature=1.0).item())
        if ids[-1] in lm.eos_ids:
            return ids[:-1]
    return ids


def test_what_samples_share_is_read_once():
    lm, read = make_lm(), []
    lm.model.transformer.h[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[0]))
    sample(lm, make_prefixes(1), 50, top_p=1e-6, max_new_tokens=4, generator=seeded())
    assert read == [1] * 4


def test_a_nucleus_larger_than_the_tokens_looked_at_first_is_whole(monkeypatch):
    logits = torch.randn(6, 40, generator=seeded())
    numbers = torch.rand(6, generator=seeded(1))
    whole = nucleus.draw(logits, numbers, top_p=0.9, temperature=1.0)
    monkeypatch.setattr(nucleus, "_FIRST", 3)
    assert nucleus.draw(logits, numbers, top_p=0.9, temperature=1.0).tolist() == whole.tolist()


def test_the_generator_makes_draws_repeatable():
    lm, prefixes = tiny_lm(), make_prefixes(2)
    first, again, other = (sample(lm, prefixes, 5, generator=seeded(s)).ids for s in (1, 1, 2))
    assert first == again != other


def test_the_nucleus_at_its_edges():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().repeat(4, 1)
    uniform = torch.tensor([0.0, 0.62, 0.63, 0.9999999])
    assert nucleus.draw(logits, uniform, top_p=0.8, temperature=1.0).tolist() == [0, 0, 1, 1]
    assert nucleus.draw(logits, uniform, top_p=0.81, temperature=1.0).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"n": 0}, "n=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"internal_batch_size": 0}, "internal_batch_size=0"),
        ({"max_new_tokens": 50}, "max_new_tokens=50 needs 53 positions"),
    ],
)
def test_refuses_bad_settings(bad, words):
    with pytest.raises(ValueError, match=words):
        sample(tiny_lm(), make_prefixes(1), **{"n": 2, **bad})
