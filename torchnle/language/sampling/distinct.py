"""Sampling without replacement by a stochastic beam search, with importance weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.language.decoding import writing
from torchnle.language.model import LanguageModel
from torchnle.language.packed.batching import batches
from torchnle.language.packed.gumbel import below, log_inclusion
from torchnle.language.packed.step_decoding import Ends
from torchnle.language.sampling.nucleus import Nucleus

#: The default number of texts in the model at a time.
_AT_ONCE = 256
#: Rows whose distributions are in memory at a time; the draws depend on it, so it is no setting.
_DISTRIBUTIONS = 64


@dataclass(frozen=True)
class Distinct:
    """Texts drawn without replacement, with the weights of an unbiased estimate.

    For any f, ``sum(weights * f(texts))`` is an unbiased estimate of the mean of f over texts drawn with
    replacement; with f = 1 where a word occurs it is the word's frequency.

    Args:
        texts: As `Decoded`.
        ids: The tokens of each text, without the one that ended it.
        log_probs: The logarithm of the probability with which nucleus sampling draws each text, in nats.
        weights: Each text's probability divided by the probability that it is in the sample.
        variances: Each text's estimated contribution to the variance of such an estimate, to be multiplied
            by f squared.
    """

    texts: list[str]
    ids: list[list[int]]
    log_probs: Float[Tensor, "n"]
    weights: Float[Tensor, "n"]
    variances: Float[Tensor, "n"]


@torch.no_grad()
def sample_distinct(
    lm: LanguageModel,
    prefix: Float[Tensor, "P E"],
    n: int,
    *,
    top_p: float = 0.95,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    prompt: str = "",
    stop: str | None = None,
    max_new_tokens: int = 20,
    internal_batch_size: int | None = None,
) -> Distinct:
    """Draw `n` texts without replacement from the distribution of nucleus sampling.

    A stochastic beam search (Kool et al., 2019).

    Args:
        lm: The language model.
        prefix: One soft prompt, (P, E), on the model's device.
        n: The number of texts; fewer are returned if there are no more.
        top_p: As `decoding.sample`.
        temperature: As `decoding.sample`.
        generator: A generator on the CPU, for repeatable draws.
        prompt: As `decoding.sample`.
        stop: As `decoding.sample`.
        max_new_tokens: As `decoding.sample`.
        internal_batch_size: The largest number of texts in the model at once; more are drawn as several
            samples, between which texts may repeat. None = 256.

    Raises:
        ValueError: As `decoding.sample`.
    """
    limit = _AT_ONCE if internal_batch_size is None else internal_batch_size
    if min(n, max_new_tokens, limit) < 1 or not temperature > 0 or not 0 < top_p <= 1 or stop == "":
        raise ValueError(
            f"n={n}, max_new_tokens={max_new_tokens}, internal_batch_size={internal_batch_size}, "
            f"temperature={temperature}, top_p={top_p}, stop={stop!r}; pass positive numbers, top_p up to "
            f"1, and "
            "some text or None."
        )
    sizes = parts_of(n, limit)
    context = lm.context(prefix[None], prompt)
    lm.require_positions(context.shape[1] + max_new_tokens - 1, f"max_new_tokens={max_new_tokens}")
    ends, found = Ends(lm, stop), []
    with writing(lm, max(sizes), max_new_tokens):
        for size in sizes:
            beam = Beam(lm, size, ends, generator, top_p, temperature)
            found.append(beam.search(context, max_new_tokens))
    return joined(found)


@dataclass
class _Node:
    ids: tuple[int, ...]
    log_prob: float
    perturbed: float
    finished: bool = False


@runtime_checkable
class Reader(Protocol):
    """A model that a beam reads token by token."""

    @property
    def head(self) -> tuple[Tensor, Tensor | None]:
        """The weight and bias of the output layer."""

    def embed(self, ids: Tensor) -> Tensor:
        """Look token ids up."""

    def new_cache(self) -> Any:
        """Return an empty cache."""

    def hidden(self, embeds: Tensor, *, cache: Any) -> Tensor:
        """Compute the hidden states that the output layer sees."""


class Beam:
    """The `size` + 1 paths of largest perturbed log-probability; the last only gives the threshold."""

    def __init__(
        self,
        lm: Reader,
        size: int,
        ends: Ends,
        generator: torch.Generator | None,
        top_p: float,
        temperature: float,
    ) -> None:
        self.lm, self.size, self.ends, self.generator = lm, size, ends, generator
        self.top_p, self.temperature = top_p, temperature

    def search(self, context: Float[Tensor, "1 C E"], max_new_tokens: int) -> Distinct:
        """Extend the beam until every path has ended."""
        cache = self.lm.new_cache()
        hidden = self.lm.hidden(context, cache=cache)[:, -1]
        nodes = [_Node((), 0.0, 0.0)]
        for step in range(max_new_tokens):
            done = [node for node in nodes if node.finished]
            grown = self._children(hidden, [node for node in nodes if not node.finished])
            best = sorted([*((n, -1) for n in done), *grown], key=lambda pair: -pair[0].perturbed)
            best = best[: self.size + 1]
            nodes = [node for node, _ in best]
            open_nodes = [(n, row) for n, row in best if not n.finished]
            if not open_nodes or step == max_new_tokens - 1:
                break
            cache.batch_select_indices(torch.tensor([row for _, row in open_nodes], device=hidden.device))
            tokens = torch.tensor([[n.ids[-1]] for n, _ in open_nodes], device=hidden.device)
            hidden = self.lm.hidden(self.lm.embed(tokens), cache=cache)[:, 0]
        return self._weighted(nodes)

    def _children(self, hidden: Float[Tensor, "B W"], nodes: list[_Node]) -> list[tuple[_Node, int]]:
        """The best children of unfinished nodes, each with the row of its parent."""
        kept: list[tuple[float, float, int, int]] = []
        for start, states in zip(
            range(0, len(nodes), _DISTRIBUTIONS), batches(hidden, _DISTRIBUTIONS), strict=True
        ):
            part = nodes[start : start + len(states)]
            kept += self._best(states, part, start)
            kept = sorted(kept, reverse=True)[: self.size + 1]
        made = []
        for perturbed, log_prob, row, token in kept:
            ids = (*nodes[row].ids, token)
            made.append((_Node(ids, log_prob, perturbed, self.ends.reached(list(ids))), row))
        return made

    def _best(
        self, states: Float[Tensor, "b W"], part: list[_Node], start: int
    ) -> list[tuple[float, float, int, int]]:
        logits = F.linear(states.contiguous(), *self.lm.head).float()
        nucleus = Nucleus.of(logits, top_p=self.top_p, temperature=self.temperature)
        uniform = torch.rand(nucleus.tokens.shape, generator=self.generator).to(logits.device)
        parents = torch.tensor([[node.log_prob, node.perturbed] for node in part], dtype=torch.float64).to(
            logits.device
        )
        log_probs = parents[:, :1] + nucleus.log_probs()
        perturbed = below(log_probs, parents[:, 1], uniform)
        best = perturbed.flatten().topk(min(self.size + 1, perturbed.numel()))
        rows, columns = best.indices // perturbed.shape[1], best.indices % perturbed.shape[1]
        chosen = zip(
            best.values.tolist(),
            log_probs[rows, columns].tolist(),
            (rows + start).tolist(),
            nucleus.tokens[rows, columns].tolist(),
            strict=True,
        )
        return [each for each in chosen if each[0] > -float("inf")]

    def _weighted(self, nodes: list[_Node]) -> Distinct:
        threshold = nodes[self.size].perturbed if len(nodes) > self.size else -float("inf")
        best = nodes[: self.size]
        log_probs = torch.tensor([node.log_prob for node in best], dtype=torch.float64)
        log_share = log_inclusion(log_probs, threshold)
        weights = (log_probs - log_share).exp()
        cuts = [self.ends.cut(list(node.ids)) for node in best]
        return Distinct(
            [text for _, text in cuts],
            [list(node.ids[:count]) for node, (count, _) in zip(best, cuts, strict=True)],
            log_probs.float(),
            weights.float(),
            (weights**2 * -torch.expm1(log_share)).float(),
        )


def parts_of(n: int, limit: int) -> list[int]:
    """Split a number of texts into samples of similar size, none above a limit.

    Example:
        >>> parts_of(10, 4)
        [4, 3, 3]
    """
    parts = -(-n // limit)
    return [n // parts + (i < n % parts) for i in range(parts)]


def joined(found: list[Distinct]) -> Distinct:
    """Join independent samples into one, whose estimates are the mean of theirs."""
    parts = len(found)
    return Distinct(
        [text for each in found for text in each.texts],
        [ids for each in found for ids in each.ids],
        torch.cat([each.log_probs for each in found]),
        torch.cat([each.weights for each in found]) / parts,
        torch.cat([each.variances for each in found]) / parts**2,
    )
