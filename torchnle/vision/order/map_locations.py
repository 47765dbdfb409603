"""Maps or attention heads: decide whether two of four axes are locations, from the model or by a probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.types import Inputs, Select
from torchnle.vision import taps
from torchnle.vision.features import Features, as_tokens
from torchnle.vision.layouts import Arrangement, Hints, arrange, is_strided
from torchnle.vision.order.check import locate
from torchnle.vision.order.probe_runs import FEW, MANY, ProbeRuns
from torchnle.vision.order.token_order import seen_order, stands_out
from torchnle.vision.running import as_tuple, unwrap

#: A model with more linear layers, or one of these modules, may hold tensors of attention heads.
_FEW_LINEAR = 3
_OF_ATTENTION = (nn.MultiheadAttention, nn.LayerNorm, nn.Softmax)
#: Square maps of so few channels, in a model with attention, may be attention maps of as many heads.
_MOST_HEADS = 32
#: The least ratio by which tokens of heads follow their own patches more than neighbouring ones. If a map's
#: rows are taken for tokens, a row follows all patches of a row alike.
_BESIDE = 2.0
#: The code of these lays maps as they lie in the image.
_LIBRARIES = ("torch.", "torchvision.", "timm.", "transformers.", "open_clip.", "torchnle.")
#: A grid without padding has about the shape of the input, up to so many locations.
_OFF = 2


@dataclass(frozen=True)
class MapQuestion:
    """A layer that gives four axes, to be checked.

    Args:
        tap: The layer.
        shape: The shape of its activation.
        found: Its layout judged by its shape alone.
        hints: Its layout as the model states it.
        input_size: (height, width) of the input.
    """

    tap: taps.Tap
    shape: tuple[int, ...]
    found: Arrangement
    hints: Hints
    input_size: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """The grid of locations."""
        return self.found.grid or (1, 1)

    def is_plain(self, model: Callable[..., Any]) -> bool:
        """True if the model's parts, the grid and the layer indicate a map, and nothing else."""
        parts = _parts(model)
        attention = len(parts[nn.Linear]) > _FEW_LINEAR or bool(parts[_OF_ATTENTION])
        if not is_strided(self.grid, self.input_size):
            (rows, columns), (height, width) = self.grid, self.input_size
            return not attention and abs(rows - height * columns / width) <= _OFF
        if not attention or self.found.layout in (self.hints.layout, self.hints.contents):
            return True
        _, heads, tokens, each = self.shape
        of_heads = any(heads * each in (part.in_features, part.out_features) for part in parts[nn.Linear])
        return not (of_heads or (tokens == each and heads <= _MOST_HEADS))


def check_map(
    forward_func: Callable[..., Any],
    question: MapQuestion,
    inputs: Inputs,
    additional_forward_args: Any = None,
    select: Select | None = None,
) -> None:
    """Refuse four axes that are attention heads, or whose locations do not follow the patches of the input.

    Maps of convolutional models and of layers that fix their channel axis are accepted; if the model has
    code that is of no library known here, two images are run, to see that a changed quarter lies where it
    should. Any other layer is probed: the model runs on a few images in which each patch of the grid has a
    code of its own.

    Raises:
        ValueError: With the layer's kind of output, and what to pass.
    """
    runs = ProbeRuns(forward_func, as_tuple(inputs), as_tuple(additional_forward_args), select)
    if question.is_plain(forward_func):
        _check_quarter(runs, question)
        return
    if not _follows(runs, question):
        tokens = _heads(runs, question)
        if tokens is not None or not is_strided(question.grid, question.input_size):
            raise ValueError(_complaint(question, tokens))


def _check_quarter(runs: ProbeRuns, question: MapQuestion) -> None:
    """Refuse maps that a model of one's own code has turned, mirrored or reordered."""
    parts = _parts(runs.forward_func)[nn.Module]
    if all(type(part).__module__.startswith(_LIBRARIES) for part in parts):
        return
    activation = runs.pair(question.tap)
    tokens = as_tokens(activation, question.found.layout).float()
    if not locate(Features(tokens, question.tap.name, question.grid)).in_order:
        raise ValueError(_complaint(question, None))


def _follows(runs: ProbeRuns, question: MapQuestion) -> bool:
    """Return whether the locations follow the patches of the input, one each."""
    order = torch.arange(question.grid[0] * question.grid[1])
    for count in (FEW, MANY):
        _, (found,) = runs.answers(
            [question.tap], question.grid, count, lambda value: as_tokens(value, question.found.layout)
        )
        if stands_out(found, order):
            return True
    return False


def _heads(runs: ProbeRuns, question: MapQuestion) -> Arrangement | None:
    """Return the arrangement with the third axis as tokens, if these follow the patches of the input."""
    count, heads, tokens, width = question.shape
    try:
        shape = (count, tokens, heads * width)
        read = arrange(shape, question.tap.name, input_size=question.input_size, hints=question.hints)
    except ValueError:
        return None
    grid = read.grid or (1, 1)
    if max(grid) == 1:
        return None
    _, (found,) = runs.answers([question.tap], grid, MANY, _side_by_side)
    order = seen_order(found, torch.arange(read.num_prefix_tokens, tokens), grid)
    if order is None:
        return None
    beside = max(float(found.along(order.roll(step)).mean()) for step in (1, -1))
    closely = (
        not is_strided(question.grid, question.input_size) or found.along(order).mean() > _BESIDE * beside
    )
    return read if closely else None


def _side_by_side(activation: Tensor) -> Tensor:
    return activation.transpose(1, 2).flatten(2)


def _complaint(question: MapQuestion, tokens: Arrangement | None) -> str:
    given = f"layer '{question.tap.name}' gave shape {question.shape}"
    if tokens is not None:
        return (
            f"{given}: attention heads, (N, heads, {question.shape[2]} tokens, width), and no map. Pass a "
            "layer of shape (N, tokens, width), or Reading(select=lambda t: t.transpose(1, 2).flatten(2)), "
            "which concatenates the heads."
        )
    return (
        f"{given}, of which {question.grid} would be locations, but these do not follow the patches of the "
        "input, one each: attention heads, for example, are no map, nor is one that was turned. Pass another "
        f"layer, Reading(select=...), or Reading(layout='{question.found.layout}') to insist."
    )


def _parts(forward_func: Callable[..., Any]) -> dict[Any, list[Any]]:
    """Return a model's linear layers, its modules that indicate attention, and all."""
    root = unwrap(forward_func)
    modules = [] if root is None else list(root.modules())
    kinds = (nn.Linear, _OF_ATTENTION, nn.Module)
    return {kind: [module for module in modules if isinstance(module, kind)] for kind in kinds}
