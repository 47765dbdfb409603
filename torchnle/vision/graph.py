"""The autograd graph as evidence: which tensors lie on every path to a model's output."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor

#: A node of the autograd graph; PyTorch has no public type that C++ nodes satisfy.
Node = Any


def ancestors(end: Node, source: Node) -> set[Node]:
    """Find the nodes on some path from a node back to another, both ends included.

    Example:
        >>> import torch
        >>> x = torch.ones(1, requires_grad=True).clone()
        >>> len(ancestors((x.tanh() + x).grad_fn, x.grad_fn))
        3
    """
    return set(_backwards(end, source))


def bottlenecks(output: Tensor, source: Node) -> set[Node]:
    """Find the nodes on every path from an output back to one node, both ends included.

    A skip connection is a path around its block, so the inside of a residual block is no bottleneck and its
    end is.

    Args:
        output: A tensor that was computed with gradients on.
        source: The `grad_fn` of the tensor that it was computed from.

    Returns:
        The nodes; empty if the output was not computed from the source.

    Example:
        >>> import torch
        >>> x = torch.ones(1, requires_grad=True).clone()
        >>> inside = x.tanh()
        >>> end = inside + x
        >>> found = bottlenecks(end.exp(), x.grad_fn)
        >>> end.grad_fn in found, inside.grad_fn in found
        (True, False)
    """
    return set[Node]() if output.grad_fn is None else bottlenecks_of(output.grad_fn, source)


def bottlenecks_of(end: Node, source: Node) -> set[Node]:
    """Find the nodes on every path from a node back to another, as `bottlenecks`.

    Example:
        >>> import torch
        >>> x = torch.ones(1, requires_grad=True).clone()
        >>> len(bottlenecks_of((x.tanh() + x).grad_fn, x.grad_fn))
        2
    """
    order = _backwards(end, source)
    incoming = Counter(parent for node in order for parent in order[node])
    found, open_edges = set(), 0
    for node, parents in order.items():
        if open_edges == incoming[node]:
            found.add(node)
        open_edges += len(parents) - incoming[node]
    return found


def _backwards(root: Node | None, source: Node) -> dict[Node, list[Node]]:
    """Map every node between root and source to its parents among these, a node before its parents."""
    leading: dict[Node, list[Node]] = {}
    pending: list[tuple[Node, bool]] = [] if root is None else [(root, False)]
    seen: set[Node] = set()
    while pending:
        node, expanded = pending.pop()
        parents = [] if node is source else [parent for parent, _ in node.next_functions if parent]
        if not expanded and node not in seen:
            seen.add(node)
            pending += [(node, True), *((parent, False) for parent in parents)]
        elif expanded:
            kept = [parent for parent in parents if parent in leading]
            if kept or node is source:
                leading[node] = kept
    return dict(reversed(leading.items()))
