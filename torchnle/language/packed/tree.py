"""Hidden states of a tree of tokens after a context, computed in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.language.packed.trie import Trie

if TYPE_CHECKING:
    from transformers import Cache, DynamicCache

    from torchnle.language.model import LanguageModel


def read_at_once(
    lm: LanguageModel, trie: Trie, rest: Float[Tensor, "R rest E"], length: int, cache: Cache | None
) -> Float[Tensor, "R n W"]:
    """Compute the hidden states of the rest of the context and of all nodes of a tree in one pass.

    Args:
        lm: The language model.
        trie: The tree.
        rest: The embeddings of the context that are not in the cache.
        length: The length of the whole context.
        cache: Holds the first tokens of the context; it is not extended (`LanguageModel.begin_once`).

    Returns:
        The hidden states after the context, and after each node.
    """
    if not trie.tokens:
        return lm.hidden(rest, cache=cache)[:, -1:]
    tokens, positions, seen = _suffix(trie, length, lm.device)
    embeds = torch.cat([rest, lm.embed(tokens).expand(len(rest), -1, -1)], dim=1)
    causal = F.pad(torch.ones(length, length, dtype=torch.bool, device=lm.device).tril(), (0, len(tokens)))
    order, sees = torch.cat([torch.arange(length, device=lm.device), positions]), torch.cat([causal, seen])
    left = rest.shape[1]
    hidden = lm.hidden(embeds, cache=cache, positions=order[length - left :], mask=sees[length - left :])
    return hidden[:, left - 1 :]


def read_on(lm: LanguageModel, trie: Trie, rows: int, cache: DynamicCache) -> Float[Tensor, "R nodes W"]:
    """Compute the hidden states of all nodes of a tree after the cached context; the cache is not changed."""
    tokens, positions, seen = _suffix(trie, cache.get_seq_length(), lm.device)
    embeds = lm.embed(tokens).expand(rows, -1, -1)
    hidden = lm.hidden(embeds, cache=cache, positions=positions, mask=seen)
    cache.crop(-len(tokens))
    return hidden


def read_plainly(
    lm: LanguageModel, trie: Trie, context: Float[Tensor, "R C E"], rows: int = 128
) -> Float[Tensor, "R n W"]:
    """Compute the result of `read_at_once` by reading every path of the tree as a sequence of its own.

    Args:
        lm: The language model.
        trie: The tree.
        context: The embeddings before the tree.
        rows: About how many sequences are in the model at once.
    """
    if not trie.tokens:
        return lm.hidden(context)[:, -1:]
    parts: list[Tensor | None] = [None] * (len(trie.tokens) + 1)
    paths = [path for node, path in enumerate(paths_of(trie)) if node not in trie.parents]
    step = max(1, rows // max(1, len(context)))
    for start in range(0, len(paths), step):
        group = paths[start : start + step]
        hidden = _read_group(lm, trie, context, group)
        for path, states in zip(group, hidden.unbind(1), strict=True):
            for position, node in enumerate([-1, *path]):
                parts[node + 1] = states[:, position]
    return torch.stack([part for part in parts if part is not None], dim=1)


def _read_group(
    lm: LanguageModel, trie: Trie, context: Float[Tensor, "R C E"], paths: list[list[int]]
) -> Float[Tensor, "R G L W"]:
    """Read some paths after every context, from the end of the context on; what follows a path is padding."""
    longest, count = max(map(len, paths)), context.shape[1]
    words = [[trie.tokens[node] for node in path] + [0] * (longest - len(path)) for path in paths]
    embeds = lm.embed(torch.tensor(words, device=lm.device))
    whole = torch.cat(
        [
            context.repeat_interleave(len(paths), dim=0),
            embeds.repeat(len(context), 1, 1),
        ],
        dim=1,
    )
    hidden: Tensor = lm.hidden(whole)[:, count - 1 :]
    return hidden.reshape(len(context), len(paths), *hidden.shape[1:])


def paths_of(trie: Trie) -> list[list[int]]:
    """List the nodes from the root to each node, for every node."""
    paths: list[list[int]] = []
    for node, parent in enumerate(trie.parents):
        paths.append([*(paths[parent] if parent >= 0 else []), node])
    return paths


def _suffix(trie: Trie, context: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens of the tree's nodes, their positions, and what each of them sees."""
    tokens = torch.tensor(trie.tokens, device=device)
    positions = context + torch.tensor(trie.depths(), device=device)
    return tokens, positions, F.pad(trie.ancestors(), (context, 0), value=True).to(device)
