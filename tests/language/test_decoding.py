import pytest
import torch
from tiny import FAMILIES, make_lm, make_prefixes, slow_greedy, slow_log_prob, tiny_lm

from torchnle.language import decoding
from torchnle.language.decoding import greedy
from torchnle.language.packed import step_decoding
from torchnle.language.scoring import log_prob


@pytest.fixture(params=FAMILIES)
def lm(request):
    return tiny_lm(request.param)


def ending_lm(family="gpt2"):
    """A tiny model whose rows end after different numbers of tokens."""
    lm = make_lm(family)
    lm.model.lm_head.bias = torch.nn.Parameter(torch.zeros(lm.vocab_size), requires_grad=False)
    lm.model.lm_head.bias[1] = 2.5
    return lm


@pytest.mark.parametrize("prompt", ["", "the cat and"])
def test_equals_the_slow_oracle_on_every_family(lm, prompt):
    prefixes = make_prefixes(6)
    decoded = greedy(lm, prefixes, prompt=prompt, max_new_tokens=8)
    assert decoded.ids == [slow_greedy(lm, row, 8, prompt) for row in prefixes]
    assert decoded.texts == [lm.detokenize(ids) for ids in decoded.ids]
    expected = [
        slow_log_prob(lm, row, ids, prompt) if ids else 0.0
        for row, ids in zip(prefixes, decoded.ids, strict=True)
    ]
    torch.testing.assert_close(decoded.log_probs, torch.tensor(expected), atol=1e-4, rtol=0)
    assert decoded.log_probs.std() > 0.1  # the prefixes matter


def test_scoring_the_text_gives_the_log_prob_of_decoding(lm):
    prefixes = make_prefixes(6)
    decoded = greedy(lm, prefixes, max_new_tokens=6)
    rows = [row for row, text in enumerate(decoded.texts) if lm.tokenizer.tokenize(text)]
    rows = [row for row in rows if lm.tokenize([decoded.texts[row]])[0] == decoded.ids[row]]
    assert rows
    scores = log_prob(lm, prefixes[rows], [decoded.texts[row] for row in rows])
    torch.testing.assert_close(scores.diagonal(), decoded.log_probs[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_rows_leave_the_batch_and_nothing_changes(monkeypatch, family):
    lm, prefixes, read = ending_lm(family), make_prefixes(40), []
    lm.model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    compact = greedy(lm, prefixes, max_new_tokens=12)
    lengths = [len(ids) for ids in compact.ids]
    assert len(set(lengths)) > 2
    unfinished = [sum(length >= step for length in lengths) for step in range(1, 12)]
    assert read == [1, 40, *filter(None, unfinished)]  # BOS, the prefixes, and who is left at each step
    for share in (0.5, 0.0):  # by halves, and never
        monkeypatch.setattr(step_decoding, "compact_below", lambda _, share=share: share)
        read.clear()
        whole = greedy(lm, prefixes, max_new_tokens=12)
        assert not set(read[1:]) & set(range(20, 40))
        assert share or set(read[1:]) == {40}
        assert compact.ids == whole.ids
        torch.testing.assert_close(compact.log_probs, whole.log_probs, atol=1e-5, rtol=0)
    assert compact.ids == [slow_greedy(lm, row, 12) for row in prefixes]


def test_stops_reading_when_every_row_has_ended():
    lm, read = ending_lm(), []
    lm.model.lm_head.bias[1] = 100.0
    lm.model.transformer.register_forward_pre_hook(lambda *_: read.append(1))
    decoded = greedy(lm, make_prefixes(3), max_new_tokens=12)
    assert (decoded.texts, decoded.ids, decoded.log_probs.tolist(), len(read)) == (
        ["", "", ""],
        [[], [], []],
        [0, 0, 0],
        1,
    )


@pytest.mark.parametrize("size", [1, 3, None])
def test_batches_permutations_and_single_rows_agree(size):
    lm, prefixes, order = ending_lm("llama"), make_prefixes(7), [4, 2, 6, 0, 1, 5, 3]
    whole = greedy(lm, prefixes)
    other = greedy(lm, prefixes[order], internal_batch_size=size)
    assert other.ids == [whole.ids[row] for row in order]
    torch.testing.assert_close(other.log_probs, whole.log_probs[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("generated", "stop", "text", "words"),
    [
        ("a cat . a dog", ".", "a cat", 2),
        ("a cat end. a dog", ".", "a cat end", 3),
        ("a cat . a dog", " a dog", "a cat .", 3),
        ("a cat . a dog", "bird", "a cat . a dog", 5),
        (". a cat", ".", "", 0),
    ],
)
def test_stop_cuts_the_text_and_keeps_the_tokens_it_needs(monkeypatch, generated, stop, text, words):
    lm, prefixes = make_lm(), make_prefixes(2)
    script = iter([*lm.tokenize([generated])[0], 1])
    monkeypatch.setattr(
        decoding,
        "_most_probable",
        lambda _, hidden: (torch.full((len(hidden),), next(script)), torch.full((len(hidden),), -0.5)),
    )
    decoded = greedy(lm, prefixes, stop=stop)
    assert decoded.texts == [text, text]
    assert [len(ids) for ids in decoded.ids] == [words, words]
    assert decoded.log_probs.tolist() == [-0.5 * words] * 2


def test_every_end_of_text_token_ends_a_row():
    lm = make_lm()
    cat = lm.tokenize(["cat"])[0][0]
    lm.model.generation_config.eos_token_id = [1, cat]
    assert lm.eos_ids == (1, cat)
    assert all(cat not in ids for ids in greedy(lm, make_prefixes(20)).ids)


def test_bfloat16_sums_log_probs_in_float32():
    lm, prefixes = make_lm("llama", dtype=torch.bfloat16), make_prefixes(6)
    decoded = greedy(lm, prefixes, max_new_tokens=6)
    assert decoded.log_probs.dtype == torch.float32
    expected = [slow_log_prob(lm, row, ids) for row, ids in zip(prefixes, decoded.ids, strict=True)]
    torch.testing.assert_close(decoded.log_probs, torch.tensor(expected), atol=0.3, rtol=0.02)


def test_no_rows_give_no_texts():
    decoded = greedy(tiny_lm(), make_prefixes(0))
    assert (decoded.texts, decoded.ids, decoded.log_probs.shape) == ([], [], (0,))


def test_keeps_no_graph():
    assert not greedy(tiny_lm(), make_prefixes(1).requires_grad_()).log_probs.requires_grad


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"stop": ""}, "stop=''"),
        ({"internal_batch_size": -1}, "internal_batch_size=-1"),
        ({"max_new_tokens": 50}, "max_new_tokens=50 needs 53 positions; .* has 48"),
    ],
)
def test_refuses_bad_settings(bad, words):
    with pytest.raises(ValueError, match=words):
        greedy(tiny_lm(), make_prefixes(1), **bad)
