"""Decoding after soft prompts: all rows in one batch, equal rows once; finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchnle import ops
from torchnle.language.head import body
from torchnle.language.model import LanguageModel
from torchnle.language.packed.attention import short_attention
from torchnle.language.packed.batching import batches, row_limit
from torchnle.language.packed.duplicates import Disagreement, draw_to_check, near_rows, unique_rows
from torchnle.language.packed.packing import packed
from torchnle.language.packed.sample_tree import grow_samples
from torchnle.language.packed.step_decoding import Ends, Row, decode_rows
from torchnle.language.sampling.nucleus import Nucleus
from torchnle.vision.running import exclusive_use

#: The default number of rows at a time on a CPU. A step reads one token of each, so more of them than
#: elsewhere are needed for the products to run at full speed; 256 rows of SmolLM2 keep 10 MB a token.
_CPU_ROWS = 256

#: Rows whose whole distributions are in memory at a time while sampling.
_DISTRIBUTIONS = 64


@dataclass(frozen=True)
class Decoded:
    """Texts decoded by a language model, one per row.

    Args:
        texts: The texts, as the tokenizer decodes them (a leading space is kept).
        ids: The tokens of each text, without the one that ended it.
        log_probs: log p(ids | prefix) in nats, summed over the tokens of `ids`, (R,) float32.
        disagreement: The measured effect of `dedupe`; None if every row was decoded itself.
    """

    texts: list[str]
    ids: list[list[int]]
    log_probs: Float[Tensor, "R"]
    disagreement: Disagreement | None = None

    def __getitem__(self, rows: Int[Tensor, "S"]) -> Decoded:
        numbers = rows.tolist()
        return Decoded(
            [self.texts[i] for i in numbers], [list(self.ids[i]) for i in numbers], self.log_probs[rows]
        )


@torch.no_grad()
def greedy(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    *,
    prompt: str = "",
    stop: str | None = None,
    max_new_tokens: int = 20,
    internal_batch_size: int | None = None,
    dedupe: float | None = None,
) -> Decoded:
    """Decode a text after every prefix greedily: the most probable token at each step.

    A row ends at an end-of-text token, where its text contains `stop`, or after `max_new_tokens`. Equal
    prefixes are decoded once.

    Args:
        lm: The language model.
        prefixes: One soft prompt per row, (R, P, E), on the model's device.
        prompt: Words between the prefix and the answer, the same for all rows.
        stop: A string that ends a text; it, what follows it and blanks before it are left out.
        max_new_tokens: The largest number of tokens to generate.
        internal_batch_size: The largest number of rows in the model at a time; None = what suits the device.
        dedupe: Decode one prefix for all within this distance of it, relative to its norm, which is
            approximate; `Decoded.disagreement` holds the effect, measured on a sample of the others.
            None = only equal prefixes share a decoding, which is exact.

    Returns:
        One text per row, in order.

    Raises:
        ValueError: If the prefixes do not fit the model, a number is not positive, `stop` is empty, or
            the model has too few positions.

    Example:
        >>> from tokenizers import Tokenizer, models
        >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"cat": 0, "dog": 1, "<s>": 2}, unk_token="<s>"))
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
        >>> config = GPT2Config(vocab_size=3, n_positions=16, n_embd=8, n_layer=1, n_head=2)
        >>> lm = LanguageModel(GPT2LMHeadModel(config), tokenizer)
        >>> decoded = greedy(lm, torch.zeros(2, 1, 8), max_new_tokens=3)
        >>> [len(ids) for ids in decoded.ids], bool((decoded.log_probs < 0).all())
        ([3, 3], True)
    """
    _check(stop, max_new_tokens)

    ends = Ends(lm, stop)

    def decode(chosen: Tensor) -> Decoded:
        rows: list[Row] = []
        with writing(lm, len(chosen), max_new_tokens):
            for batch in batches(chosen, internal_batch_size, on_cpu=_CPU_ROWS):
                rows += _greedy(lm, lm.context(batch, prompt), ends, max_new_tokens)
        return _collect(ends, rows, prefixes.device)

    first, index = unique_rows(prefixes) if dedupe is None else near_rows(prefixes, dedupe)
    distinct = decode(prefixes[first])
    decoded = distinct[index]
    if dedupe is None:
        return decoded
    members = draw_to_check(first, len(prefixes))
    found = _compare(decoded[members], decode(prefixes[members]), len(first))
    return Decoded(decoded.texts, decoded.ids, decoded.log_probs, found)


@torch.no_grad()
def sample(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    n: int,
    *,
    top_p: float = 0.95,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    prompt: str = "",
    stop: str | None = None,
    max_new_tokens: int = 20,
    internal_batch_size: int | None = None,
) -> Decoded:
    """Draw `n` texts after every prefix by nucleus sampling; the tokens that texts share are computed once.

    Args:
        lm: The language model.
        prefixes: One soft prompt per row, (R, P, E), on the model's device.
        n: The number of texts per row.
        top_p: Draw from the smallest set of tokens that holds this share of the probability.
        temperature: The divisor of the logits before that.
        generator: A generator on the CPU, for repeatable draws that do not depend on `internal_batch_size`;
            None = the global one.
        prompt: As `greedy`.
        stop: As `greedy`.
        max_new_tokens: As `greedy`.
        internal_batch_size: The largest number of rows in the model at a time; None = what suits the device.

    Returns:
        R * n texts, those of a row together. `log_probs` are the model's own, at temperature 1 and over all
        tokens, not those of the sampling distribution.

    Raises:
        ValueError: As `greedy`; if `n` or `temperature` is not positive or `top_p` not in (0, 1].

    Example:
        >>> lm = LanguageModel.from_pretrained()  # doctest: +SKIP
        >>> sample(lm, prefixes, n=3).texts  # doctest: +SKIP
    """
    _check(stop, max_new_tokens)
    if n < 1 or not temperature > 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"n={n}, temperature={temperature}, top_p={top_p}; pass n >= 1, temperature > 0, top_p in (0, 1]."
        )
    ends = Ends(lm, stop)
    uniform = torch.rand(len(prefixes), n, max_new_tokens, generator=generator).to(prefixes.device)
    limit = row_limit(internal_batch_size, prefixes, on_cpu=_CPU_ROWS)
    rows: list[Row] = []
    with writing(lm, min(limit, n * len(prefixes)), max_new_tokens):
        for batch, draws in zip(batches(prefixes, limit), batches(uniform, limit), strict=True):
            context = lm.context(batch, prompt)
            rows += _sample(lm, context, draws, limit, ends, top_p=top_p, temperature=temperature)
    return _collect(ends, rows, prefixes.device)


@contextmanager
def writing(lm: LanguageModel, rows: int, steps: int) -> Iterator[None]:
    """Enable every optimisation for reading single tokens while the block runs.

    Args:
        lm: The language model; other threads wait for it.
        rows: The number of rows in the batch.
        steps: The number of tokens to generate.
    """
    short = short_attention(lm.model) if lm.short_attention else nullcontext()
    with exclusive_use(lm.model), packed(body(lm.model), rows, steps), short:
        yield


def _greedy(lm: LanguageModel, context: Float[Tensor, "R C E"], ends: Ends, max_new_tokens: int) -> list[Row]:
    lm.require_positions(context.shape[1] + max_new_tokens - 1, f"max_new_tokens={max_new_tokens}")
    cache, rest = lm.begin(context)
    hidden = lm.hidden(rest, cache=cache)[:, -1]
    return decode_rows(
        lm,
        hidden,
        cache,
        lambda states, _rows, _step: _most_probable(lm, states),
        ends=ends,
        max_new_tokens=max_new_tokens,
    )


def _sample(
    lm: LanguageModel,
    context: Float[Tensor, "R C E"],
    uniform: Float[Tensor, "R n T"],
    limit: int,
    ends: Ends,
    **how: float,
) -> list[Row]:
    tokens = uniform.shape[2]
    lm.require_positions(context.shape[1] + tokens - 1, f"max_new_tokens={tokens}")
    cache, rest = lm.begin(context)
    hidden = lm.hidden(rest, cache=cache)[:, -1]
    owners = torch.arange(len(context), device=context.device).repeat_interleave(uniform.shape[1])
    draws = uniform.flatten(0, 1)

    def draw(states: Tensor, node: Tensor, samples: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return _draw(lm, states, node, draws[samples, step], **how)

    return grow_samples(lm, hidden, cache, owners, draw, ends=ends, max_new_tokens=tokens, limit=limit)


def _most_probable(
    lm: LanguageModel, hidden: Float[Tensor, "R W"]
) -> tuple[Int[Tensor, "R"], Float[Tensor, "R"]]:
    weight, bias = lm.head
    lse, top, token = ops.linear_lse(hidden.contiguous(), weight, bias, need_argmax=True)
    return token, top - lse


def _draw(
    lm: LanguageModel,
    hidden: Float[Tensor, "B W"],
    node: Int[Tensor, "S"],
    uniform: Float[Tensor, "S"],
    **how: float,
) -> tuple[Int[Tensor, "S"], Float[Tensor, "S"]]:
    """Draw a token for every sample from the distribution at its node, which is made once."""
    tokens, log_probs = torch.zeros_like(node), torch.zeros_like(uniform)
    for start in range(0, len(hidden), _DISTRIBUTIONS):
        states = hidden[start : start + _DISTRIBUTIONS].contiguous()
        logits = F.linear(states, *lm.head).float()
        lse, nucleus = logits.logsumexp(dim=1), Nucleus.of(logits, **how)
        inside = ((node >= start) & (node < start + len(states))).nonzero()[:, 0]
        for part in batches(inside, _DISTRIBUTIONS):
            rows = node[part] - start
            tokens[part] = nucleus.pick(uniform[part], rows)
            log_probs[part] = logits[rows, tokens[part]] - lse[rows]
    return tokens, log_probs


def _collect(ends: Ends, rows: Sequence[Row], device: torch.device) -> Decoded:
    cuts = [ends.cut(row.ids) for row in rows]
    sums = [sum(row.log_probs[:count]) for row, (count, _) in zip(rows, cuts, strict=True)]
    return Decoded(
        texts=[text for _, text in cuts],
        ids=[row.ids[:count] for row, (count, _) in zip(rows, cuts, strict=True)],
        log_probs=torch.tensor(sums, dtype=torch.float32, device=device),
    )


def _compare(shared: Decoded, own: Decoded, decoded: int) -> Disagreement:
    difference = (shared.log_probs - own.log_probs).abs()
    return Disagreement(
        decoded=decoded,
        checked=len(own.texts),
        different=sum(a != b for a, b in zip(shared.texts, own.texts, strict=True)),
        log_prob_difference=float(difference.max()) if len(difference) else 0.0,
    )


def _check(stop: str | None, max_new_tokens: int) -> None:
    if max_new_tokens < 1 or stop == "":
        raise ValueError(
            f"max_new_tokens={max_new_tokens}, stop={stop!r}; pass a positive number and some text."
        )
