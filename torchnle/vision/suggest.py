"""Suggest layers that are worth describing, from shallow to deep, by one dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from torchnle.types import Inputs
from torchnle.vision.graph import Node, bottlenecks
from torchnle.vision.inputs import spatial_size
from torchnle.vision.layouts import Arrangement, arrange, hints_for
from torchnle.vision.running import alone_in, check_inputs, forward, of_this_thread, unwrap
from torchnle.vision.taps import tensors_in

#: Modules whose grids are no resolution of the model's, since they prepare a convolution's input.
_PADDING = (
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
)


#: The input of one of these, if its output has one location, is the last with locations, even if that
#: activation is not the output of any module.
_POOLING = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class SuggestedLayer:
    """A layer that is worth describing.

    Args:
        name: Its dotted name, as `layers` takes it: "pool:input" is the input of the module "pool".
        kind: The class of the module.
        layout: The order of the axes of its output.
        width: The number of channels.
        grid: (rows, columns) of its locations.
        stride: Pixels of the input a location, along the height, rounded.
        num_prefix_tokens: The number of prefix tokens, which have no location.

    Example:
        >>> suggest_layers(model, images)[-1]
        SuggestedLayer(name='norm', kind='BatchNorm2d', layout='NCHW', width=6, grid=(4, 4), stride=2, ...)
    """

    name: str
    kind: str
    layout: str
    width: int
    grid: tuple[int, int]
    stride: int
    num_prefix_tokens: int = 0


def suggest_layers(
    model: Callable[..., Any], example: Inputs, additional_forward_args: Any = None, *, count: int = 4
) -> list[SuggestedLayer]:
    """Suggest the layers of a model that are worth describing, in the order in which they run.

    One dry run records every module. A layer counts if it runs once, has locations, and every path to the
    output passes through it: the end of a residual block counts, its inside does not (`bottlenecks` of the
    autograd graph). Of each resolution the last such layer is taken, the end of a stage; if there are too few
    resolutions (a ViT has one), evenly spaced blocks of the longest stage are added.

    Args:
        model: The vision model.
        example: A few inputs, batch first, as the model takes them.
        additional_forward_args: Passed to the model after the inputs.
        count: How many layers at most, the deepest; there may be fewer.

    Raises:
        TypeError: If the model is a plain function, whose layers cannot be listed.
        ValueError: If no layer has locations.

    Example:
        >>> [(layer.name, layer.grid, layer.width) for layer in suggest_layers(model, images)]
        [('act', (8, 8), 4), ('norm', (4, 4), 6)]
    """
    root = unwrap(model)
    if root is None:
        raise TypeError("the layers of a plain function cannot be listed. Pass the nn.Module itself.")
    shape = check_inputs(example)[0].shape
    if len(shape) != 4:
        raise ValueError(f"the example has shape {tuple(shape)}; pass images (N, C, H, W).")
    size = spatial_size(check_inputs(example)[0]) or (1, 1)
    points = _with_layouts(root, _dry_run(root, example, additional_forward_args), size)
    if not points:
        raise ValueError(
            f"no layer of {type(root).__name__} gives features with locations for inputs of shape "
            f"{tuple(shape)}. Pass a larger example, or layers of your own choice and how to read them: "
            "layout=, grid=, select=."
        )
    stages = [list(stage) for _, stage in groupby(sorted(points, key=_by_grid), key=_by_grid)]
    ends = sorted((_end(stage) for stage in stages), key=_by_time)[-count:]
    chosen = sorted([*ends, *_between(stages, ends, count - len(ends))], key=_by_time)
    return [_suggestion(point, size[0]) for point in chosen]


@dataclass(frozen=True)
class _Point:
    """A tensor that modules gave, without its values."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    node: Node
    output_nr: int
    plain: bool
    time: int
    arrangement: Arrangement | None = None

    @property
    def width(self) -> int:
        first = self.arrangement is not None and self.arrangement.layout == "NCHW"
        return self.shape[1 if first else -1]

    @property
    def grid(self) -> tuple[int, int]:
        return (self.arrangement and self.arrangement.grid) or (1, 1)


def _by_time(point: _Point) -> int:
    return point.time


def _by_grid(point: _Point) -> tuple[int, int]:
    return point.grid


def _dry_run(root: nn.Module, example: Inputs, additional_forward_args: Any) -> list[_Point]:
    """Return every tensor that some module gave and that the whole output depends on, once each."""
    points: list[_Point] = []
    images = [x.detach().requires_grad_(x.is_floating_point()) for x in check_inputs(example)]
    quiet = saved_tensors_hooks(_forget, _forget)
    with alone_in(root), torch.enable_grad(), quiet, ExitStack() as hooks:
        for name, module in root.named_modules():
            if module is not root:
                hooks.callback(module.register_forward_hook(of_this_thread(_keep(points, name))).remove)
        entries = tuple(x.clone() for x in images)
        output = forward(root, entries, additional_forward_args)
    trunk = set[Node]()
    for tensor in tensors_in(output):
        trunk |= bottlenecks(tensor, entries[0].grad_fn)
    runs = Counter(point.name for point in points)
    once = [p for p in points if runs[p.name] == 1 and p.shape[:1] == entries[0].shape[:1]]
    return _distinct([p for p in once if p.node in trunk] or once)


def _forget(_: Any) -> Any:
    """Drop saved tensors, since no backward will follow."""


def _keep(points: list[_Point], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def add(name: str, module: nn.Module, found: Any) -> None:
        tensor = next(tensors_in(found), None)
        if tensor is not None and tensor.is_floating_point() and not isinstance(module, _PADDING):
            plain, shape = isinstance(found, Tensor), tuple(tensor.shape)
            points.append(_Point(name, module, shape, tensor.grad_fn, tensor.output_nr, plain, len(points)))

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, _POOLING) and output.shape[-2:] == (1, 1):
            add(f"{name}:input", module, inputs[0])
        add(name, module, output)

    return hook


def _distinct(points: Iterable[_Point]) -> list[_Point]:
    """Choose one module a tensor: by how it gives the tensor, then by its depth, then by time."""
    best: dict[tuple[Node, int, tuple[int, ...]], _Point] = {}
    for point in sorted(points, key=lambda p: (not p.plain, ":" in p.name, p.name.count("."), p.time)):
        best.setdefault((point.node, point.output_nr, point.shape), point)
    return sorted(best.values(), key=_by_time)


def _with_layouts(root: nn.Module, points: Iterable[_Point], size: tuple[int, int]) -> list[_Point]:
    stated = hints_for(root).num_prefix_tokens
    arranged = [replace(point, arrangement=_arrangement(point, size, stated)) for point in points]
    return [point for point in arranged if max(point.grid) > 1 and _one_stride(point.grid, size)]


def _one_stride(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether a grid has the shape of the input; that of windows or parts has not."""
    return abs(grid[0] - size[0] * grid[1] / size[1]) <= 1


def _arrangement(point: _Point, size: tuple[int, int], stated_prefix: int | None) -> Arrangement | None:
    """Return the layout of the tensor; None if it is ambiguous."""
    hints = replace(hints_for(None, point.module), num_prefix_tokens=stated_prefix)
    try:
        return arrange(point.shape, point.name, input_size=size, hints=hints)
    except ValueError:
        return None


def _end(stage: Iterable[_Point]) -> _Point:
    """Return the last layer of one resolution that is not inside the block leading to the next."""
    first, *later = sorted(stage, key=_by_time)
    for point in later:
        if not _in_passing(point, first) or (point.width == first.width and _is_block(point)):
            first = point
    return first


def _in_passing(point: _Point, earlier: _Point) -> bool:
    """Return whether a layer is inside a block that neither is nor contains the earlier layer."""
    here, there = point.name.split("."), earlier.name.split(".")
    common = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), len(there))
    return len(here) > common + 1


def _is_block(point: _Point) -> bool:
    return next(point.module.children(), None) is not None


def _between(stages: Sequence[list[_Point]], ends: Sequence[_Point], count: int) -> list[_Point]:
    """Return evenly spaced blocks of the stage that has the most, its end left out."""
    blocks = max((_alike([p for p in stage if p not in ends]) for stage in stages), key=len)
    step = (len(blocks) + 1) / (max(count, 0) + 1)
    chosen = {round((i + 1) * step) - 1 for i in range(min(count, len(blocks)))}
    return [blocks[i] for i in sorted(chosen)]


def _alike(points: Iterable[_Point]) -> list[_Point]:
    """Return the blocks of the commonest kind, in order."""
    blocks = [point for point in points if _is_block(point)]
    kinds = Counter(type(block.module) for block in blocks)
    return [b for b in blocks if type(b.module) is kinds.most_common(1)[0][0]]


def _suggestion(point: _Point, height: int) -> SuggestedLayer:
    arrangement = point.arrangement or Arrangement("ND")
    return SuggestedLayer(
        point.name,
        type(point.module).__name__,
        arrangement.layout,
        point.width,
        point.grid,
        round(height / point.grid[0]),
        arrangement.num_prefix_tokens,
    )
