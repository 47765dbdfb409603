"""A token tree (trie) of texts, in which texts share the nodes of their common first tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trie:
    """A tree of tokens whose root is the context before every text.

    An edge is a token that is predicted after a node; a node is a token that the model must read because a
    token is predicted after it. So the last token of a text is an edge only, and a text of one token adds no
    node.

    Args:
        tokens: The token of each node, parents before children.
        parents: The parent of each node; -1 = the root.
        children: The tokens predicted after the root (first) and after each node; these lists one after
            another number the edges.
        paths: The edges of each text.

    Example:
        >>> trie = Trie.build([[5, 6], [5, 7], [8]])
        >>> trie.tokens, trie.children, trie.paths
        ([5], [[5, 8], [6, 7]], [[0, 2], [0, 3], [1]])
    """

    tokens: list[int]
    parents: list[int]
    children: list[list[int]]
    paths: list[list[int]]

    @classmethod
    def build(cls, texts: Sequence[Sequence[int]]) -> Trie:
        """Build the tree of texts, given by their token ids, none empty."""
        nodes: dict[tuple[int, ...], int] = {(): -1}
        for ids in texts:
            for length in range(1, len(ids)):
                nodes.setdefault(tuple(ids[:length]), len(nodes) - 1)
        children: list[dict[int, None]] = [{} for _ in nodes]
        steps = [[(nodes[tuple(ids[:i])] + 1, token) for i, token in enumerate(ids)] for ids in texts]
        for node, token in (step for path in steps for step in path):
            children[node][token] = None
        edges = [(node, token) for node, tokens in enumerate(children) for token in tokens]
        number = {edge: i for i, edge in enumerate(edges)}
        beginnings = list(nodes)[1:]
        return cls(
            tokens=[beginning[-1] for beginning in beginnings],
            parents=[nodes[beginning[:-1]] for beginning in beginnings],
            children=[list(tokens) for tokens in children],
            paths=[[number[step] for step in path] for path in steps],
        )

    def depths(self) -> list[int]:
        """Return the number of tokens between the root and each node."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    def ancestors(self) -> Tensor:
        """Return the mask (nodes, nodes), bool, of what each node attends to: its ancestors and itself."""
        mask = torch.eye(len(self.parents), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node] |= mask[parent]
        return mask


def group(texts: Sequence[Sequence[int]], max_nodes: int) -> list[list[int]]:
    """Split texts into groups whose trees have at most `max_nodes` nodes, by their common first tokens.

    Args:
        texts: The token ids of each text.
        max_nodes: The largest number of nodes of a group's tree; a single longer text is a group of its own.

    Returns:
        The indices of the texts in each group.

    Example:
        >>> group([[1, 2], [3, 4, 5], [1, 6], [9]], max_nodes=2)
        [[0, 2], [1, 3]]
    """
    groups: list[list[int]] = []
    seen: set[tuple[int, ...]] = set()
    for index in sorted(range(len(texts)), key=lambda i: list(texts[i])):
        nodes = {tuple(texts[index][:length]) for length in range(1, len(texts[index]))}
        if not groups or len(seen | nodes) > max_nodes:
            groups.append([])
            seen = set()
        groups[-1].append(index)
        seen |= nodes
    return groups
