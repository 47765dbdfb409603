"""Layouts: which axis of an activation holds channels, which hold locations, and which tokens have none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isqrt
from typing import Any, Literal

from torch import nn

from torchnle.types import Layout

#: The usual numbers of prefix tokens: none, a class token, also distillation, or a class token and 4
#: registers.
_USUAL_PREFIX = 5
#: A larger number is accepted only if nothing else fits.
_MOST_PREFIX = 16
#: A longer side of a grid is more likely a channel axis.
_MOST_ELONGATED = 4

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.GroupNorm,
)


@dataclass(frozen=True)
class Arrangement:
    """The meaning of the axes of an activation.

    Args:
        layout: The order of the axes.
        grid: (rows, columns) of the locations; None if there are none.
        num_prefix_tokens: How many tokens without location come first.
        order: The token of each location, row by row (`find_token_orders`); None = all in order, behind the
            prefix tokens; empty = no token has a location.
    """

    layout: Literal["NCHW", "NHWC", "NLD", "ND"]
    grid: tuple[int, int] | None = None
    num_prefix_tokens: int = 0
    order: tuple[int, ...] | None = None

    def __str__(self) -> str:
        prefix = f" after {self.num_prefix_tokens} prefix token(s)" if self.num_prefix_tokens else ""
        return f"{self.layout} with grid {self.grid}{prefix}"


@dataclass(frozen=True)
class Hints:
    """A layer's layout as the model states it: evidence, dropped if it does not fit.

    Args:
        width: The number of channels that the module states.
        layout: "NCHW" or "NHWC" for modules that fix the channel axis.
        num_prefix_tokens: The number of prefix tokens that the model states.
        within: The module itself; its children decide if nothing else settles the layout.
    """

    width: int | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    num_prefix_tokens: int | None = None
    within: nn.Module | None = field(default=None, compare=False, repr=False)

    @property
    def contents(self) -> Literal["NCHW", "NHWC"] | None:
        """The layout on which all modules within agree that fix the channel axis."""
        parts = () if self.within is None else self.within.modules()
        stated = {hint for part in parts if (hint := _layout_hint(part)) is not None}
        return stated.pop() if len(stated) == 1 else None


@dataclass(frozen=True)
class _Question:
    layer: str
    shape: tuple[int, ...]
    input_size: tuple[int, int] | None
    layout: Layout
    grid: tuple[int, int] | None
    num_prefix_tokens: int | None
    hints: Hints

    def error(self, problem: str, remedy: str, candidates: Sequence[Arrangement] = ()) -> ValueError:
        size = "" if self.input_size is None else f" for inputs of {self.input_size[0]}x{self.input_size[1]}"
        options = f" Candidates: {'; '.join(map(str, candidates))}." if candidates else ""
        return ValueError(f"layer '{self.layer}' gave shape {self.shape}{size}: {problem}.{options} {remedy}")


def hints_for(
    model: Any, module: nn.Module | None = None, at: Literal["output", "input"] = "output"
) -> Hints:
    """Read the hints off a model and one of its modules.

    Args:
        model: The model; timm's `num_prefix_tokens` and transformers' `config.num_register_tokens` are read.
        module: The tapped module; its stated width and kind are read.
        at: The side that is read, output or input.

    Example:
        >>> hints_for(None, nn.Conv2d(3, 8, 1))
        Hints(width=8, layout='NCHW', num_prefix_tokens=None)
    """
    if module is None:
        return Hints(num_prefix_tokens=prefix_hint(model))
    return Hints(width_hint(module, at), _layout_hint(module), prefix_hint(model), module)


def width_hint(module: nn.Module, at: Literal["output", "input"] = "output") -> int | None:
    """Return the number of channels that a module states for its output (or input), or None.

    Example:
        >>> width_hint(nn.LayerNorm(8)), width_hint(nn.Linear(2, 4)), width_hint(nn.Linear(2, 4), at="input")
        (8, 4, 2)
    """
    sides = ("out_channels", "out_features") if at == "output" else ("in_channels", "in_features")
    for name in (*sides, "num_features", "num_channels", "normalized_shape"):
        value = getattr(module, name, None)
        width = value[-1] if isinstance(value, (tuple, list)) and value else value
        if isinstance(width, int):
            return width
    return None


def prefix_hint(model: Any) -> int | None:
    """Return the number of prefix tokens that a model states, or None.

    Example:
        >>> prefix_hint(nn.Linear(2, 2)) is None
        True
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    stated = {count for module in modules for count in _stated_prefix(module)}
    return stated.pop() if len(stated) == 1 else None


def arrange(
    shape: Sequence[int],
    layer: str,
    *,
    input_size: tuple[int, int] | None = None,
    layout: Layout = "auto",
    grid: tuple[int, int] | None = None,
    num_prefix_tokens: int | None = None,
    hints: Hints | None = None,
) -> Arrangement:
    """Find the axes of an activation from what the caller states, then the input, the model and usual sizes.

    Args:
        shape: The activation's shape, batch first.
        layer: The layer's name, for messages.
        input_size: (height, width) of the model's input: a grid is the input divided by one stride.
        layout: The order of the axes; "auto" = find it.
        grid: (rows, columns) of the locations; None = find it.
        num_prefix_tokens: The number of tokens before the patches; None = find it.
        hints: What the model states (`hints_for`).

    Raises:
        ValueError: If a stated value does not fit, or several readings remain: the message lists them and
            names the argument that decides.

    Example:
        >>> print(arrange((2, 197, 64), "norm", input_size=(224, 224)))
        NLD with grid (14, 14) after 1 prefix token(s)
        >>> print(arrange((2, 12, 16, 96), "stage", input_size=(192, 256)))
        NHWC with grid (12, 16)
    """
    question = _Question(
        layer, tuple(shape), input_size, layout, grid, num_prefix_tokens, Hints() if hints is None else hints
    )
    axes = {"auto": len(shape), "NCHW": 4, "NHWC": 4, "NLD": 3, "ND": 2}.get(layout)
    if axes is None:
        raise ValueError(f"layout={layout!r}; pass 'auto', 'NCHW', 'NHWC', 'NLD' or 'ND'.")
    if axes != len(shape) or axes not in (2, 3, 4):
        raise question.error(
            f"it cannot be read with layout='{layout}'",
            "Pass a layer of shape (N, C, H, W), (N, H, W, C), (N, L, D) or (N, D), or reshape by select=.",
        )
    return {2: _arrange_vector, 3: _arrange_tokens, 4: _arrange_map}[axes](question)


def _arrange_vector(question: _Question) -> Arrangement:
    if question.grid not in (None, (1, 1)):
        raise question.error(
            f"a vector has no grid {question.grid}", "Leave grid= out, or pass another layer."
        )
    return Arrangement("ND")


def _arrange_map(question: _Question) -> Arrangement:
    _, first, middle, last = question.shape
    options = [Arrangement("NCHW", (middle, last)), Arrangement("NHWC", (first, middle))]
    widths = {"NCHW": first, "NHWC": last}
    allowed = [
        o for o in options if question.layout in ("auto", o.layout) and question.grid in (None, o.grid)
    ]
    if not allowed:
        wanted = f"layout='{question.layout}', grid={question.grid}"
        raise question.error(f"it does not fit {wanted}", "Pass what fits.", options)
    for fits in (
        lambda o: o.layout == question.hints.layout,
        lambda o: widths[o.layout] == question.hints.width,
        lambda o: question.input_size is None or o.grid in _grids(question.input_size),
        lambda o: o.grid[0] == o.grid[1],
        lambda o: max(o.grid) <= _MOST_ELONGATED * min(o.grid),
        lambda o: o.layout == question.hints.contents,
    ):
        if len(allowed) == 1:
            break
        allowed = _narrow(allowed, fits)
    if len(allowed) > 1:
        remedy = "Pass layout='NCHW' or 'NHWC' (attention heads are no map: pass another layer)."
        raise question.error("the channel axis is ambiguous", remedy, allowed)
    return allowed[0]


def _arrange_tokens(question: _Question) -> Arrangement:
    count, stated = question.shape[1], question.num_prefix_tokens
    if stated is not None and not 0 <= stated < count:
        raise question.error(
            f"num_prefix_tokens={stated} leaves no tokens for the grid", f"Pass 0 to {count - 1}."
        )
    if question.grid is not None:
        return _arrange_on_grid(question, question.grid)
    if count - (stated or 0) == 1:
        return Arrangement("NLD", None, stated or 0)
    options = [o for o in _token_options(question) if stated in (None, o.num_prefix_tokens)]
    if not options and question.layout == "NLD":
        return Arrangement("NLD", None, stated or 0)
    return _choose(question, options)


def _arrange_on_grid(question: _Question, grid: tuple[int, int]) -> Arrangement:
    count, stated = question.shape[1], question.num_prefix_tokens
    prefix = count - grid[0] * grid[1]
    if min(grid) < 1 or prefix < 0 or stated not in (None, prefix):
        raise question.error(
            f"grid {grid} and num_prefix_tokens={stated} do not make {count} tokens",
            "Pass grid=(rows, columns) with rows * columns + num_prefix_tokens = the number of tokens.",
        )
    return Arrangement("NLD", grid, prefix)


def _token_options(question: _Question) -> list[Arrangement]:
    count, size = question.shape[1], question.input_size
    grids = {(side, side) for side in range(1, isqrt(count) + 1)} if size is None else _grids(size)
    options = [Arrangement("NLD", g, count - g[0] * g[1]) for g in grids if g[0] * g[1] <= count]
    options = _narrow(options, lambda o: o.grid != (1, 1))
    return sorted(options, key=lambda o: o.num_prefix_tokens)


def _choose(question: _Question, options: list[Arrangement]) -> Arrangement:
    remedy = "Pass num_prefix_tokens= or grid=(rows, columns)"
    hinted = [o for o in options if o.num_prefix_tokens == question.hints.num_prefix_tokens]
    if len(hinted) == 1:
        return hinted[0]
    for most in (_USUAL_PREFIX, _MOST_PREFIX, question.shape[1]):
        believable = [o for o in options if o.num_prefix_tokens <= most]
        if believable:
            break
    else:
        raise question.error(
            f"no grid of the input's shape makes {question.shape[1]} tokens",
            f"{remedy}, or layout='NLD' to read the tokens without locations.",
        )
    best = believable[0]
    rivals = _rivals(question, best, options, most)
    if rivals:
        problem = "the number of tokens before the grid is ambiguous"
        raise question.error(problem, f"{remedy}.", [best, *rivals[:3]])
    return best


def _rivals(
    question: _Question, best: Arrangement, options: list[Arrangement], most: int
) -> list[Arrangement]:
    """Return the other candidates: for a grid of whole patches only another such, else any as likely."""
    others = [o for o in options if o != best]
    if _divides(question, best):
        return [o for o in others if o.num_prefix_tokens <= most and _divides(question, o)]
    return [o for o in others if o.num_prefix_tokens <= (_MOST_PREFIX if _divides(question, o) else most)]


def _divides(question: _Question, option: Arrangement) -> bool:
    """Return whether the grid cuts the input into whole square patches, as in most transformers."""
    if question.input_size is None or option.grid is None:
        return True
    (height, width), (rows, columns) = question.input_size, option.grid
    return height % rows == width % columns == 0 and height * columns == width * rows


def whole_patches(shape: Sequence[int], input_size: tuple[int, int]) -> list[Arrangement]:
    """List the grids of whole square patches that tokens (N, T, D) may hold, finest first.

    Example:
        >>> [(found.grid, found.num_prefix_tokens) for found in whole_patches((1, 81, 8), (64, 64))]
        [((8, 8), 17), ((4, 4), 65), ((2, 2), 77)]
    """
    question = _Question("", tuple(shape), input_size, "auto", None, None, Hints())
    return [o for o in _token_options(question) if _divides(question, o) and o.grid != (1, 1)]


def is_strided(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether one stride maps an input to a grid of this size.

    Example:
        >>> is_strided((7, 7), (224, 224)), is_strided((197, 64), (224, 224))
        (True, False)
    """
    return grid in _grids(size)


@lru_cache(maxsize=64)
def _grids(size: tuple[int, int]) -> frozenset[tuple[int, int]]:
    """Return the grids that one stride leaves of an input, rounded down (valid) or up (padded)."""
    height, width = size
    strides = range(1, max(size) + 1)
    valid = {(height // stride, width // stride) for stride in strides}
    padded = {(-(-height // stride), -(-width // stride)) for stride in strides}
    return frozenset(grid for grid in valid | padded if min(grid) > 0)


def _narrow(options: list[Arrangement], fits: Callable[[Arrangement], bool]) -> list[Arrangement]:
    return [option for option in options if fits(option)] or options


def _layout_hint(module: nn.Module) -> Literal["NCHW", "NHWC"] | None:
    if isinstance(module, _CHANNELS_FIRST):
        return "NCHW"
    return "NHWC" if type(module) in (nn.Linear, nn.LayerNorm) else None


def _stated_prefix(module: nn.Module) -> list[int]:
    timm_count = _attribute(module, "num_prefix_tokens")
    registers = getattr(_attribute(module, "config"), "num_register_tokens", None)
    return [n for n in (timm_count, None if registers is None else registers + 1) if isinstance(n, int)]


def _attribute(module: nn.Module, name: str) -> Any:
    """Return an attribute or None; getattr of a module is slow for attributes that it does not have."""
    defined = name in vars(module) or hasattr(type(module), name)
    return getattr(module, name, None) if defined else None
