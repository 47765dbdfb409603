"""The order of a layer's tokens by evidence, if it is not row by row behind the prefix tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from torchnle.types import Inputs, Select
from torchnle.vision import taps
from torchnle.vision.layouts import Arrangement, Hints
from torchnle.vision.order.probe_runs import FEW, MANY, ProbeRuns
from torchnle.vision.order.token_order import seen_order, stands_out
from torchnle.vision.order.token_probe import Answers, Probe
from torchnle.vision.running import as_tuple, unwrap

#: Libraries whose own classes state their tokens correctly.
_TRUSTED = ("timm", "transformers")

_UNSEEN = (
    "layer '{name}' gave {count} tokens, but their order on a {grid} grid could not be found: they do not "
    "follow the patches of the input, one each. Pass Reading(grid={grid}) if they are row by row, behind "
    "any prefix tokens; Reading(select=...), a function that orders them so, with grid=; or "
    "Reading(layout='NLD') to read them without locations."
)
_CONTRADICTED = (
    "num_prefix_tokens={prefix} was given for layer '{name}', but its tokens do not follow the patches of a "
    "{grid} grid in that order: the first location is token {first} of {count}. Leave it out, or pass "
    "grid={grid} with it to insist."
)


@dataclass(frozen=True)
class TokenOrder:
    """The tokens of a layer by location, if they are not all row by row behind the prefix tokens.

    Args:
        order: The token of each location, row by row; empty = no token has a location.
        grid: (rows, columns) of the locations.
    """

    order: tuple[int, ...]
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class Question:
    """A tapped layer whose token order is to be found.

    Args:
        tap: The layer.
        shape: The shape of its activation, (N, T, D).
        found: Its layout judged by its shape alone.
        hints: Its layout as the model states it.
        grid_stated: Whether the caller stated the grid.
        prefix_stated: Whether the caller stated the number of prefix tokens.
        unlocated: Whether the caller accepts tokens without locations too.
        complaint: The reason if its shape alone cannot be read; `found` is then one candidate.
        others: Further candidates for a grid.
    """

    tap: taps.Tap
    shape: tuple[int, ...]
    found: Arrangement
    hints: Hints = field(compare=False)
    grid_stated: bool = False
    prefix_stated: bool = False
    unlocated: bool = False
    complaint: str = ""
    others: tuple[Arrangement, ...] = ()

    @property
    def usual(self) -> Tensor:
        """The order of tokens row by row, behind the prefix tokens."""
        return torch.arange(self.found.num_prefix_tokens, self.shape[1])


def find_token_orders(
    forward_func: Callable[..., Any],
    questions: Sequence[Question],
    inputs: Inputs,
    additional_forward_args: Any = None,
    select: Select | None = None,
) -> list[TokenOrder | None]:
    """Find the token of each location in every layer.

    The statements of timm's and transformers' classes are accepted. Otherwise the model runs on a few images
    in which each patch switches between two contents by a code of its own (`token_probe`), once per layer: if
    the tokens follow the codes row by row, behind the prefix tokens, that is their order. If not, more such
    images show which token follows which patch, in this layer or in an earlier one with as many tokens.

    Args:
        forward_func: The model.
        questions: One per layer.
        inputs: Images (N, C, H, W), or a tuple that begins with them.
        additional_forward_args: Passed to the model after the inputs.
        select: As for `torchnle.vision.taps.record`.

    Raises:
        ValueError: If no order is found: the message says what to pass; or if the caller's number of prefix
            tokens is wrong.
    """
    trusted = is_trusted(forward_func)
    orders: list[TokenOrder | None] = [None] * len(questions)
    unknown = [i for i, question in enumerate(questions) if not (trusted and _states(question))]
    runs = ProbeRuns(forward_func, as_tuple(inputs), as_tuple(additional_forward_args), select)
    for grid in {questions[i].found.grid for i in unknown}:
        same = [i for i in unknown if questions[i].found.grid == grid]
        for i, order in zip(same, _orders(runs, [questions[i] for i in same]), strict=True):
            if isinstance(order, str):
                raise ValueError(order)
            orders[i] = order
    return orders


def is_trusted(forward_func: Callable[..., Any]) -> bool:
    """Return whether a model is of a library whose classes state their tokens correctly.

    Example:
        >>> is_trusted(torch.nn.Linear(2, 2))
        False
    """
    root = unwrap(forward_func)
    return root is not None and type(root).__module__.partition(".")[0] in _TRUSTED


def _states(question: Question) -> bool:
    """Return whether the model states the number of prefix tokens (the patch embedding has none yet)."""
    stated = question.hints.num_prefix_tokens
    return stated is not None and not question.complaint and question.found.num_prefix_tokens in (0, stated)


def _orders(runs: ProbeRuns, questions: Sequence[Question]) -> list[TokenOrder | str | None]:
    """Find the orders of layers with one grid; a message for each layer without one."""
    layers, grid = [question.tap for question in questions], questions[0].found.grid or (1, 1)
    _, few = runs.answers(layers, grid, FEW)
    accepted = not any(question.complaint for question in questions)
    if accepted and all(stands_out(a, q.usual) for q, a in zip(questions, few, strict=True)):
        return [None] * len(questions)
    probe, many = runs.answers(layers, grid, MANY)
    trusted = is_trusted(runs.forward_func)
    found: list[TokenOrder | str | None] = []
    for question, answers in zip(questions, many, strict=True):
        order = _order(runs, question, answers, probe)
        other = _on_another_grid(runs, question) if order is None else None
        found.append(other or _settled(question, order, trusted))
    return found


def _on_another_grid(runs: ProbeRuns, question: Question) -> TokenOrder | None:
    """Find the order on the first of the other candidate grids that shows one."""
    for candidate in question.others:
        grid = candidate.grid or (1, 1)
        _, (answers,) = runs.answers([question.tap], grid, MANY)
        order = seen_order(answers, replace(question, found=candidate).usual, grid)
        if order is not None:
            return TokenOrder(tuple(order.tolist()), grid)
    return None


def _order(runs: ProbeRuns, question: Question, answers: Answers, probe: Probe) -> Tensor | None:
    """Find the token of each location; None if the answers do not show it."""
    grid = question.found.grid or (1, 1)
    order = seen_order(answers, question.usual, grid)
    if order is not None:
        return order
    earlier = (seen_order(a, question.usual, grid) for a in runs.earlier(question.shape[1], probe))
    return next((order for order in earlier if order is not None), None)


def _settled(question: Question, order: Tensor | None, trusted: bool) -> TokenOrder | str | None:
    count, prefix, name = question.shape[1], question.found.num_prefix_tokens, question.tap.name
    grid, usual = question.found.grid, question.usual
    if order is None and question.complaint:
        return TokenOrder(()) if question.unlocated else question.complaint
    if order is None:
        stated = question.grid_stated or question.prefix_stated or question.hints.num_prefix_tokens == prefix
        if stated or (trusted and prefix == 0):
            return None
        return TokenOrder(()) if question.unlocated else _UNSEEN.format(name=name, count=count, grid=grid)
    if torch.equal(order, usual):
        return TokenOrder(tuple(order.tolist()), grid) if question.complaint else None
    if question.prefix_stated:
        return _CONTRADICTED.format(name=name, prefix=prefix, grid=grid, first=int(order[0]), count=count)
    return TokenOrder(tuple(order.tolist()), grid)
