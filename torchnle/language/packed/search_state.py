"""Best-first search for the most probable of given texts, on one row."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from torchnle.language.packed.trie import Trie


class Tree:
    """The token tree of the candidate texts, with the largest offset of the texts below each node.

    Args:
        ids: The token ids of each text.
        offsets: Added to each text's log-probability.
    """

    def __init__(self, ids: list[list[int]], offsets: list[float]) -> None:
        self.trie = Trie.build(ids)
        self.offsets = offsets
        self.paths: list[list[int]] = [[]]
        self.best_below = [-float("inf")] * (len(self.trie.tokens) + 1)
        for token, parent in zip(self.trie.tokens, self.trie.parents, strict=True):
            self.paths.append([*self.paths[parent + 1], token])
        numbers = {tuple(path): node for node, path in enumerate(self.paths)}
        self.child_nodes = [
            [numbers.get((*self.paths[node], token)) for token in tokens]
            for node, tokens in enumerate(self.trie.children)
        ]
        self.ending: dict[tuple[int, ...], list[int]] = {}
        for number, text in enumerate(ids):
            self.ending.setdefault(tuple(text), []).append(number)
            for length in range(len(text)):
                node = numbers[tuple(text[:length])]
                self.best_below[node] = max(self.best_below[node], offsets[number])

    def fewest(self, k: int) -> int:
        """Compute the least number of nodes that must be read before any `k` texts are complete."""
        needed: list[list[int]] = [[] for _ in self.paths]  # for 0, 1, ... texts that begin so
        for node in reversed(range(len(self.paths))):
            costs = [0]
            for token, below in zip(self.trie.children[node], self.child_nodes[node], strict=True):
                ended = len(self.ending.get((*self.paths[node], token), ()))
                costs = _cheapest(costs, [0] * (ended + 1), k)
                costs = costs if below is None else _cheapest(costs, needed[below], k)
            needed[node] = [0, *(cost + (node > 0) for cost in costs[1:])]
        return needed[0][-1]


def _cheapest(some: Sequence[int], others: Sequence[int], k: int) -> list[int]:
    """Compute the least costs of 0, 1, ..., at most `k` texts, of two sets with such costs."""
    count = min(k, len(some) + len(others) - 2)
    return [
        min(some[i] + others[n - i] for i in range(max(0, n - len(others) + 1), min(n, len(some) - 1) + 1))
        for n in range(count + 1)
    ]


class SearchState:
    """The state of a best-first search on one row: the best complete texts, and the open partial texts.

    Args:
        tree: The token tree of the texts.
        k: The number of texts to find.
        most: The largest number of partial texts to read; after these `given_up` is True.
    """

    def __init__(self, tree: Tree, k: int, most: int) -> None:
        self.tree, self.k, self.left = tree, k, most
        self.given_up = not most
        self.whole: list[tuple[float, int]] = []  # a heap of (score, minus the text's number), worst first
        self.open: list[tuple[float, int, float]] = []  # a heap of (minus the bound, node, score)

    def extend(self, node: int, score: float, log_probs: Sequence[float]) -> None:
        """Add the log-probabilities of the tokens that follow a partial text.

        Args:
            node: The node of the partial text; 0 = the root.
            score: The log-probability of the partial text.
            log_probs: The log-probability of each token that may follow, in the tree's order.
        """
        tree = self.tree
        for token, below, log_prob in zip(
            tree.trie.children[node], tree.child_nodes[node], log_probs, strict=True
        ):
            total = score + log_prob
            if below is not None:
                heapq.heappush(self.open, (-(total + tree.best_below[below]), below, total))
            for number in tree.ending.get((*tree.paths[node], token), ()):
                heapq.heappush(self.whole, (total + tree.offsets[number], -number))
                if len(self.whole) > self.k:
                    heapq.heappop(self.whole)

    def next(self) -> tuple[int, float] | None:
        """Return the node of the partial text to read next, and its score; None if the search has ended."""
        if not self.open or (len(self.whole) == self.k and -self.open[0][0] < self.whole[0][0]):
            return None
        if not self.left:
            self.given_up = True
            return None
        self.left -= 1
        _, node, score = heapq.heappop(self.open)
        return node, score

    def ranked(self) -> list[tuple[int, float]]:
        """List the best complete texts by index with their scores, best first, equals by index."""
        return [(-number, score) for score, number in sorted(self.whole, reverse=True)]
