"""Exact search for the best texts of every row and the best rows of a text, without scoring all of them.

The log-probability of a text is a sum of terms that are never positive, so the score of a partial text is an
upper bound for every text that continues it. Partial texts are read best first, until the k-th best complete
text exceeds every remaining bound. If too many partial texts of a row are read without a result, or if even k
texts with as many common tokens as possible would need too many, all texts are scored at once, which costs
less per partial text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language import scoring
from torchnle.language.model import LanguageModel
from torchnle.language.packed.batching import batches, row_limit
from torchnle.language.packed.reader import Reader
from torchnle.language.packed.search_state import SearchState, Tree
from torchnle.language.ranking import Ranking, check_k

#: The share of all beginnings, and at least how many, after which a row gives up looking for the best first.
_IN_VAIN, _TRIED = 0.05, 8
#: Rows that are read first by `top_rows`, and then as many as before: more waste readings, fewer waste time.
_AT_LEAST = 16


@torch.no_grad()
def top_texts(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    texts: Sequence[str],
    k: int,
    *,
    prompt: str = "",
    offsets: Float[Tensor, "T"] | None = None,
    internal_batch_size: int | None = None,
) -> Ranking:
    """Find the `k` texts of highest log-probability on every row, exactly, without scoring all texts.

    Args:
        lm: The language model.
        prefixes: One soft prompt per row, (R, P, E).
        texts: T texts.
        k: The number of texts to find; at most T are found.
        prompt: Words between the prefix and the texts.
        offsets: Added to each text's log-probability (such as minus its prior), (T,).
        internal_batch_size: The largest number of rows in the model at a time; None = what suits the device.

    Returns:
        The indices of the texts, (R, k), with their scores.

    Raises:
        TypeError: If `texts` is one string, or holds something else than strings.
        ValueError: If `k` is not positive, a text is blank or too long, or the prefixes do not fit.
    """
    check_k(k)
    ids = lm.tokenize(texts, prompt)
    added = [0.0] * len(ids) if offsets is None else offsets.tolist()
    tree, found, extensions = Tree(ids, added), [], 0
    most = _most_extensions(tree, k)
    for batch in batches(prefixes, internal_batch_size):
        states = [SearchState(tree, k, most) for _ in range(len(batch))]
        count = _search(Reader(lm, batch, prompt, max(map(len, ids))), tree, states) if most else 0
        extensions += count
        given_up = [row for row, state in enumerate(states) if state.given_up]
        rest = iter(_exhaustive(lm, batch[given_up], texts, k, prompt, added, internal_batch_size))
        extensions += len(given_up) * len(tree.trie.tokens)
        found += [next(rest) if state.given_up else state.ranked() for state in states]
    width = min(k, len(ids))
    numbers = torch.tensor([[i for i, _ in row] for row in found], dtype=torch.long).view(-1, width)
    scores = torch.tensor([[score for _, score in row] for row in found]).view(-1, width)
    exhaustive = len(prefixes) * len(tree.trie.tokens)
    return Ranking(numbers.to(lm.device), scores.to(lm.device), extensions, exhaustive)


@torch.no_grad()
def top_rows(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    text: str,
    k: int,
    *,
    prompt: str = "",
    internal_batch_size: int | None = None,
) -> Ranking:
    """Find the `k` rows on which a text has the highest log-probability, exactly, without scoring all rows.

    Args:
        lm: The language model.
        prefixes: One soft prompt per row, (R, P, E); their keys and values are kept in memory meanwhile.
        text: The text.
        k: The number of rows to find; at most R are found.
        prompt: Words between the prefix and the text.
        internal_batch_size: The largest number of rows in the model at a time; None = what suits the device.

    Returns:
        The indices of the rows, (k,), with the text's scores.

    Raises:
        TypeError: If `text` is no string.
        ValueError: If `k` is not positive, the text is blank or too long, or the prefixes do not fit.
    """
    check_k(k)
    (ids,) = lm.tokenize([text], prompt)
    limit = row_limit(internal_batch_size, prefixes)
    readers = [Reader(lm, batch, prompt, len(ids)) for batch in batches(prefixes, limit)]
    bounds = torch.cat([reader.first(ids[0]) for reader in readers]) if readers else prefixes.new_zeros(0)
    if len(ids) == 1:
        return Ranking.of(bounds, k)
    scores, order, read = torch.full_like(bounds, -torch.inf), bounds.argsort(descending=True), 0
    while read < len(order):
        threshold = scores.topk(min(k, len(scores))).values[-1]
        step = order[read : read + min(limit, max(k, _AT_LEAST, read))]
        step = step[bounds[step] >= threshold]
        if not len(step):
            break
        read += len(step)
        for number, reader in enumerate(readers):
            rows = step[step // limit == number]
            if len(rows):
                scores[rows] = bounds[rows] + reader.rest(rows - number * limit, ids)
    ranking = Ranking.of(scores, k)
    return Ranking(ranking.indices, ranking.scores, read, len(order))


def _exhaustive(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    texts: Sequence[str],
    k: int,
    prompt: str,
    added: Sequence[float],
    internal_batch_size: int | None,
) -> list[list[tuple[int, float]]]:
    """The best texts and their scores on every row, with every text scored."""
    if not len(prefixes):
        return []
    scores = scoring.log_prob(lm, prefixes, texts, prompt=prompt, internal_batch_size=internal_batch_size)
    best = Ranking.of(scores + torch.tensor(added).to(scores), k)
    return [
        list(zip(numbers, row, strict=True))
        for numbers, row in zip(best.indices.tolist(), best.scores.tolist(), strict=True)
    ]


def _most_extensions(tree: Tree, k: int) -> int:
    """Return how many partial texts may be extended per row; 0 where even the best case needs more."""
    most = max(_TRIED, int(_IN_VAIN * len(tree.trie.tokens)))
    return most if tree.fewest(k) <= most else 0


def _search(reader: Reader, tree: Tree, states: list[SearchState]) -> int:
    """Read on, best first, until every row knows its best texts or gives up; returns how many were read."""
    open_nodes = [(row, 0, 0.0) for row in range(len(states))]
    hidden, extensions = reader.root, 0
    while open_nodes:
        for (row, node, score), log_probs in zip(
            open_nodes, _children(reader, tree, hidden, [node for _, node, _ in open_nodes]), strict=True
        ):
            states[row].extend(node, score, log_probs)
        wanted = [(row, state.next()) for row, state in enumerate(states)]
        open_nodes = [(row, *beginning) for row, beginning in wanted if beginning is not None]
        if open_nodes:
            hidden = _read_ends(
                reader, [row for row, _, _ in open_nodes], [tree.paths[p] for _, p, _ in open_nodes]
            )
        extensions += len(open_nodes)
    return extensions


def _read_ends(reader: Reader, rows: list[int], paths: list[list[int]]) -> Float[Tensor, "B W"]:
    """The hidden state at the end of each path."""
    hidden = reader.read(torch.tensor(rows, device=reader.root.device), paths)
    ends = torch.tensor([len(path) - 1 for path in paths], device=hidden.device)
    return hidden[torch.arange(len(rows), device=hidden.device), ends]


def _children(
    reader: Reader, tree: Tree, hidden: Float[Tensor, "B W"], nodes: list[int]
) -> list[list[float]]:
    """The log-probabilities of the tokens that follow each node."""
    tokens = [tree.trie.children[node] for node in nodes]
    sizes = [len(each) for each in tokens]
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(hidden.device)
    flat = torch.tensor([token for each in tokens for token in each], device=hidden.device)
    found = iter(reader.log_probs(hidden, owner, flat).tolist())
    return [list(islice(found, size)) for size in sizes]
