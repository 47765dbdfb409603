"""The places of tokens by evidence: where a layer's tokens stand, if not row by row behind the first few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from torchnle.types import Inputs, Select
from torchnle.vision import taps
from torchnle.vision.inputs import as_tuple
from torchnle.vision.layouts import Arrangement, Hints
from torchnle.vision.order.probe_runs import FEW, MANY, ProbeRuns
from torchnle.vision.order.token_order import seen_order, stands_out
from torchnle.vision.order.token_probe import Answers, Probe
from torchnle.vision.running import unwrap

#: Libraries whose own classes state their tokens truly.
_TRUSTED = ("timm", "transformers")

_UNSEEN = (
    "layer '{name}' gave {count} tokens, but which of them stands at which place of a {grid} grid could not "
    "be seen: they do not follow the patches of the input, one each. Pass Reading(grid={grid}) if they stand "
    "row by row, behind any without place; Reading(select=...), a function that puts them so, with grid=; or "
    "Reading(layout='NLD') to read them without places."
)
_CONTRADICTED = (
    "num_prefix_tokens={prefix} was given for layer '{name}', but its tokens do not follow the patches of a "
    "{grid} grid so: the first place is token {first} of {count}. Leave it out, or pass grid={grid} with it "
    "to insist."
)


@dataclass(frozen=True)
class Places:
    """Where the tokens of a layer stand, if not all row by row behind those in front, as its shape has it.

    Args:
        order: Which token stands at each place, row by row; empty = none has a place.
        grid: (rows, columns) of the places.
    """

    order: tuple[int, ...]
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class Question:
    """What is asked about one tapped layer.

    Args:
        tap: The layer.
        shape: The shape of its activation, (N, T, D).
        found: How its shape alone is read.
        hints: What the model states.
        grid_stated: Whether the caller stated the grid.
        prefix_stated: Whether the caller stated the number of tokens in front.
        placeless: Whether the caller takes tokens without places too.
        complaint: Why its shape alone cannot be read, if so: `found` is then a mere candidate.
        others: Further candidates for a grid.
    """

    tap: taps.Tap
    shape: tuple[int, ...]
    found: Arrangement
    hints: Hints = field(compare=False)
    grid_stated: bool = False
    prefix_stated: bool = False
    placeless: bool = False
    complaint: str = ""
    others: tuple[Arrangement, ...] = ()

    @property
    def doubts(self) -> tuple[bool, ...]:
        """What the caller left open."""
        return (not self.grid_stated, not self.prefix_stated, not self.placeless)

    @property
    def usual(self) -> Tensor:
        """The order of tokens row by row, behind those in front."""
        return torch.arange(self.found.num_prefix_tokens, self.shape[1])


#: Orders by module: a layer of a model is asked about once a size of the input.
_known: WeakKeyDictionary[nn.Module, dict[Any, Places | None]] = WeakKeyDictionary()


def find_places(
    forward_func: Callable[..., Any],
    questions: Sequence[Question],
    inputs: Inputs,
    additional_forward_args: Any = None,
    select: Select | None = None,
) -> list[Places | None]:
    """Find which token of each layer stands at which place.

    What the classes of timm and transformers state is believed. Otherwise the model runs on a few images in
    which each patch switches between two contents by a code of its own (`token_probe`), once a layer: if the
    tokens follow the codes row by row, behind those in front, that is their order. If not, more such images
    find which token follows which patch, in this layer or in an earlier one with as many tokens.

    Args:
        forward_func: The model.
        questions: One a layer.
        inputs: Images (N, C, H, W), or a tuple that begins with them.
        additional_forward_args: Passed to the model after the inputs.
        select: As for `torchnle.vision.taps.record`.

    Raises:
        ValueError: If no order is found: the message says what to pass; or if what the caller stated about
            the tokens in front is not so.
    """
    size = tuple(as_tuple(inputs)[0].shape[1:])
    known = [_known.setdefault(question.tap.module, {}) for question in questions]
    keys = [(q.tap.at, q.shape[1:], q.found, q.doubts, size, select) for q in questions]
    trusted = is_trusted(forward_func)
    asked = [i for i in range(len(questions)) if keys[i] not in known[i]]
    for i in asked:
        if trusted and _states(questions[i]):
            known[i][keys[i]] = None
    runs = ProbeRuns(forward_func, as_tuple(inputs), as_tuple(additional_forward_args), select)
    asked = [i for i in asked if keys[i] not in known[i]]
    for grid in {questions[i].found.grid for i in asked}:
        same = [i for i in asked if questions[i].found.grid == grid]
        for i, order in zip(same, _orders(runs, [questions[i] for i in same]), strict=True):
            if isinstance(order, str):
                raise ValueError(order)
            known[i][keys[i]] = order
    return [answers[key] for answers, key in zip(known, keys, strict=True)]


def is_trusted(forward_func: Callable[..., Any]) -> bool:
    """Whether a model is of a library whose classes state their tokens truly.

    Example:
        >>> is_trusted(nn.Linear(2, 2))
        False
    """
    root = unwrap(forward_func)
    return root is not None and type(root).__module__.partition(".")[0] in _TRUSTED


def _states(question: Question) -> bool:
    """Whether the model states how many tokens stand in front (the patch embedding has none yet)."""
    stated = question.hints.num_prefix_tokens
    return stated is not None and not question.complaint and question.found.num_prefix_tokens in (0, stated)


def _orders(runs: ProbeRuns, questions: Sequence[Question]) -> list[Places | str | None]:
    """The orders of layers with one grid; a complaint where there is none."""
    layers, grid = [question.tap for question in questions], questions[0].found.grid or (1, 1)
    _, few = runs.answers(layers, grid, FEW)
    believed = not any(question.complaint for question in questions)
    if believed and all(stands_out(a, q.usual) for q, a in zip(questions, few, strict=True)):
        return [None] * len(questions)
    probe, many = runs.answers(layers, grid, MANY)
    trusted = is_trusted(runs.forward_func)
    found: list[Places | str | None] = []
    for question, answers in zip(questions, many, strict=True):
        order = _order(runs, question, answers, probe)
        other = _on_another_grid(runs, question) if order is None else None
        found.append(other or _settled(question, order, trusted))
    return found


def _on_another_grid(runs: ProbeRuns, question: Question) -> Places | None:
    """The order on the first of the other candidates for a grid on which one is seen."""
    for candidate in question.others:
        grid = candidate.grid or (1, 1)
        _, (answers,) = runs.answers([question.tap], grid, MANY)
        order = seen_order(answers, replace(question, found=candidate).usual, grid)
        if order is not None:
            return Places(tuple(order.tolist()), grid)
    return None


def _order(runs: ProbeRuns, question: Question, answers: Answers, probe: Probe) -> Tensor | None:
    """Which token stands at each place; None if it cannot be seen."""
    grid = question.found.grid or (1, 1)
    order = seen_order(answers, question.usual, grid)
    if order is not None:
        return order
    earlier = (seen_order(a, question.usual, grid) for a in runs.earlier(question.shape[1], probe))
    return next((order for order in earlier if order is not None), None)


def _settled(question: Question, order: Tensor | None, trusted: bool) -> Places | str | None:
    count, prefix, name = question.shape[1], question.found.num_prefix_tokens, question.tap.name
    grid, usual = question.found.grid, question.usual
    if order is None and question.complaint:
        return Places(()) if question.placeless else question.complaint
    if order is None:
        stated = question.grid_stated or question.prefix_stated or question.hints.num_prefix_tokens == prefix
        if stated or (trusted and prefix == 0):
            return None
        return Places(()) if question.placeless else _UNSEEN.format(name=name, count=count, grid=grid)
    if torch.equal(order, usual):
        return Places(tuple(order.tolist()), grid) if question.complaint else None
    if question.prefix_stated:
        return _CONTRADICTED.format(name=name, prefix=prefix, grid=grid, first=int(order[0]), count=count)
    return Places(tuple(order.tolist()), grid)
