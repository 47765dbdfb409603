"""Work that does not depend on the machine: tokens read, operations, and what is never in memory."""

from __future__ import annotations

import pytest
import torch
from tiny import VOCABULARY, make_model, make_prefixes, make_tokenizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from torchnle.language import decoding, scoring
from torchnle.language.loss import caption_log_probs
from torchnle.language.model import LanguageModel

ROWS, PREFIX = 5, 3
CONTEXT = 1 + PREFIX  # BOS and the prefix


@pytest.fixture
def lm():
    return LanguageModel(make_model("llama"), make_tokenizer())


@pytest.fixture
def tokens(lm):
    """How many tokens the body has read, call by call."""
    read = []
    lm.model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    return read


class LargestTensor(TorchDispatchMode):
    """The most numbers in a tensor that any operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.numel())
        return out


def test_one_token_texts_cost_the_prefix_alone(lm, tokens):
    scoring.log_prob(lm, make_prefixes(ROWS), VOCABULARY)
    assert tokens == [ROWS * CONTEXT]


def test_texts_cost_the_nodes_of_their_tree(lm, tokens):
    texts = ["a cat sits", "a cat runs", "a cat", "a dog sits", "sky"]  # nodes: a, a cat, a dog
    scoring.log_prob(lm, make_prefixes(ROWS), texts)
    assert tokens == [ROWS * (CONTEXT + 3)]


def test_many_texts_read_the_prefix_once_too(lm, tokens, monkeypatch):
    monkeypatch.setattr(scoring, "_MAX_NODES", 2)
    scoring.log_prob(lm, make_prefixes(ROWS), ["a cat sits", "a cat runs", "the dog sits", "sky"])
    assert tokens == [ROWS * CONTEXT, ROWS * 2, ROWS * 2]


def test_greedy_reads_one_token_a_step_and_not_the_last(lm, tokens):
    lm.model.generation_config.eos_token_id = None
    lm.tokenizer.eos_token = None
    decoding.greedy(lm, make_prefixes(ROWS), max_new_tokens=6)
    assert tokens == [ROWS * CONTEXT] + [ROWS] * 5


def test_equal_rows_are_read_once(lm, tokens):
    decoding.greedy(lm, make_prefixes(2)[[0, 1, 1, 0, 1]], max_new_tokens=1)
    assert tokens == [2 * CONTEXT]


def test_a_thousand_samples_read_their_prefix_once(lm, tokens):
    generator = torch.Generator().manual_seed(0)
    decoding.sample(lm, make_prefixes(1), 1000, max_new_tokens=1, generator=generator)
    assert tokens == [CONTEXT]


def test_the_loss_reads_no_last_token(lm, tokens):
    caption_log_probs(lm, make_prefixes(2), ["a cat sits", "sky"])
    assert tokens == [2 * (CONTEXT + 2)]


def test_the_loss_reads_texts_of_like_length_together(lm, tokens):
    caption_log_probs(lm, make_prefixes(16), ["the dog runs under the sky", "sky"] * 8)
    assert tokens == [8 * CONTEXT, 8 * (CONTEXT + 5)]


def test_many_rows_share_the_reading_of_their_first_token(lm, tokens):
    scoring.log_prob(lm, make_prefixes(32), ["a cat sits", "sky"])
    assert tokens == [1, 32 * (PREFIX + 2)]
    tokens.clear()
    caption_log_probs(lm, make_prefixes(32), ["the dog runs under the sky", "sky"] * 16)
    assert tokens == [1, 16 * PREFIX, 16 * (PREFIX + 5)]


@torch.no_grad()
def test_scoring_takes_the_operations_of_its_tokens_and_of_the_head_where_it_predicts(lm):
    texts = ["a cat sits", "a cat runs", "sky"]  # nodes: a, a cat; edges: a, sky, cat, sits, runs
    body = sum(p.numel() for n, p in lm.model.named_parameters() if "proj" in n)
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.torchnle.linear_lse: head_flops}
    ) as counter:
        scoring.log_prob(lm, make_prefixes(ROWS), texts)
    counted = counter.get_flop_counts()["Global"]
    assert counted[torch.ops.torchnle.linear_lse] == 2 * ROWS * 3 * lm.vocab_size * lm.width
    rotary = counted.get(torch.ops.aten.bmm, 0)
    expected = 2 * ROWS * (CONTEXT + 2) * body + 2 * ROWS * 5 * lm.width
    assert counted[torch.ops.aten.mm] + counted.get(torch.ops.aten.addmm, 0) + rotary == pytest.approx(
        expected, rel=0.02
    )


def head_flops(hidden, weight, *_, out_shape=None, **__):
    return 2 * hidden[0] * weight[0] * weight[1]


@pytest.mark.parametrize("job", ["scoring", "greedy", "loss"])
def test_no_tensor_of_the_vocabulary_is_ever_made(job):
    """Whatever the rows: no operator returns rows x vocabulary numbers (`linear_lse` works in blocks)."""
    model = make_model("llama")
    model.resize_token_embeddings(60_000)
    model.requires_grad_(False)
    lm, rows = LanguageModel(model, make_tokenizer()), 300
    prefixes = make_prefixes(rows)
    with LargestTensor() as largest:
        if job == "scoring":
            scoring.log_prob(lm, prefixes, ["a cat sits", "sky"], internal_batch_size=rows)
        elif job == "greedy":
            decoding.greedy(lm, prefixes, max_new_tokens=2, internal_batch_size=rows)
        else:
            loss = caption_log_probs(lm, prefixes.requires_grad_(), ["a cat sits"] * rows)
            loss.sum().backward()
    assert 0 < largest.size < rows * lm.vocab_size / 10
