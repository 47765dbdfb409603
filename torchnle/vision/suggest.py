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

from torchnle.public_calls import own_defaults
from torchnle.types import Inputs
from torchnle.vision.graph import Node, ancestors, bottlenecks_of
from torchnle.vision.inputs import spatial_size
from torchnle.vision.layouts import Arrangement, arrange, hints_for
from torchnle.vision.reading import read
from torchnle.vision.running import (
    check_inputs,
    exclusive_use,
    forward,
    normal_weights,
    of_this_thread,
    unwrap,
)
from torchnle.vision.taps import resolve, tensors_in

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
    """A layer suggested for description, with its layout.

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


@own_defaults
def suggest_layers(
    model: Callable[..., Any], example: Inputs, additional_forward_args: Any = None, *, count: int = 4
) -> list[SuggestedLayer]:
    """Suggest the layers of a model that are worth describing, in the order in which they run.

    One dry run records every module. A layer counts if it runs once, has locations, and every path to the
    output passes through it: the end of a residual block counts, its inside does not (`bottlenecks` of the
    autograd graph). Of each resolution the last such layer is taken, the end of a stage; if there are too few
    resolutions (a dilated network has few, a ViT one), the blocks before a change of width are added, then
    evenly spaced blocks of the longest stage. Of a network that merges resolutions (a feature pyramid, a
    U-Net), on whose deepest layers not every path goes, the encoder's stages are found alike, and as many
    merged levels follow.

    Args:
        model: The vision model.
        example: A few inputs, batch first, as the model takes them.
        additional_forward_args: Passed to the model after the inputs.
        count: How many layers at most, the deepest; there may be fewer. Where resolutions are merged: how
            many of the encoder, and how many merged ones.

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
    run = _dry_run(root, example, additional_forward_args)
    every = _with_layouts(root, run.points, size)
    points = [point for point in every if any(point.node in trunk for trunk in run.trunks)] or every
    if not points:
        raise ValueError(
            f"no layer of {type(root).__name__} gives features with locations for inputs of shape "
            f"{tuple(shape)}. Pass a larger example, or layers of your own choice and how to read them: "
            "layout=, grid=, select=."
        )
    encoder = _encoder(every, run)
    chosen = _deepest(encoder or points, count)
    if encoder:
        merged = _stages(p for p in every if p.node in run.reached and p.time > chosen[-1].time)
        chosen += sorted((max(level, key=_by_time) for level in merged), key=_by_time)[-count:]
    found = [_suggestion(point, size[0]) for point in sorted(set(chosen), key=_by_time)]
    return _confirmed(root, found, every, (example, additional_forward_args))


def _deepest(points: Sequence[_Point], count: int) -> list[_Point]:
    """Return the ends of the stages, the deepest, filled up with blocks between them."""
    stages, ends = _stages(points), _ends(points)
    if len(ends) < count:
        ends = sorted({*ends, *(_end(part) for stage in stages for part in _by_width(stage))}, key=_by_time)
    between = _between(stages, ends, count - len(ends[-count:]))
    return sorted([*ends[-count:], *between], key=_by_time)


def _stages(points: Iterable[_Point]) -> list[list[_Point]]:
    return [list(stage) for _, stage in groupby(sorted(points, key=_by_grid), key=_by_grid)]


def _ends(points: Iterable[_Point]) -> list[_Point]:
    return sorted(map(_end, _stages(points)), key=_by_time)


def _by_width(stage: list[_Point]) -> list[list[_Point]]:
    """Split a stage of one resolution where its blocks change their width, as those of dilated networks."""
    blocks = sorted(filter(_is_block, stage), key=_by_time)
    parts = [list(part) for _, part in groupby(blocks, key=lambda point: point.width)]
    return parts if len(parts) > 1 else []


def _encoder(every: Sequence[_Point], run: _Run) -> list[_Point]:
    """Return the layers of the encoder of a network that merges resolutions; none of another network.

    In other networks the coarsest layer is on every path to each output. The encoder ends with the longest
    run of layers of the coarsest resolution.
    """
    reached = [point for point in every if point.node in run.reached]
    coarsest = min(map(_count, reached), default=0)
    ways = [[_count(point) for point in every if point.node in trunk] for trunk in run.trunks]
    if not coarsest or coarsest >= max((min(way) for way in ways if way), default=0):
        return []
    parts = [list(part) for _, part in groupby(reached, key=_count)]
    end = max((part for part in parts if _count(part[0]) == coarsest), key=len)[-1]
    spine = bottlenecks_of(end.node, run.source)
    return [point for point in reached if point.node in spine]


def _count(point: _Point) -> int:
    return point.grid[0] * point.grid[1]


def _confirmed(
    root: nn.Module, found: Sequence[SuggestedLayer], every: Sequence[_Point], run: tuple[Inputs, Any]
) -> list[SuggestedLayer]:
    """Leave out tokens that answer to no patch: the queries of a detector, whose number is a square."""
    maps = {point.grid for point in every if point.arrangement and point.arrangement.layout == "NCHW"}
    sure = maps if len(maps) == 1 else set()  # the patches of a ViT
    kept = [layer for layer in found if layer.layout != "NLD" or layer.grid in sure]
    for layer in found if len(kept) < len(found) else ():
        if layer not in kept and _is_read(root, layer.name, *run):
            kept.append(layer)
    return [layer for layer in found if layer in kept] if kept else list(found)


def _is_read(root: nn.Module, name: str, example: Inputs, additional_forward_args: Any) -> bool:
    try:
        with torch.no_grad():
            (features,) = read(root, resolve(root, name), example, additional_forward_args)
    except (ValueError, RuntimeError):
        return False
    return features.grid is not None


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


@dataclass(frozen=True)
class _Run:
    """One dry run.

    Args:
        points: Every tensor that a module gave in its only call, once each, in the order of time.
        trunks: The nodes that are on every path to a tensor of the output, of each.
        reached: The nodes that are on some path.
        source: The node of the input.
    """

    points: list[_Point]
    trunks: list[set[Node]]
    reached: set[Node]
    source: Node


def _dry_run(root: nn.Module, example: Inputs, additional_forward_args: Any) -> _Run:
    points: list[_Point] = []
    quiet = saved_tensors_hooks(_forget, _forget)
    with exclusive_use(root), normal_weights(root), torch.enable_grad(), quiet, ExitStack() as hooks:
        given = [x.detach().clone() for x in check_inputs(example)]
        images = [x.requires_grad_(x.is_floating_point()) for x in given]
        for name, module in root.named_modules():
            if module is not root:
                hooks.callback(module.register_forward_hook(of_this_thread(_keep(points, name))).remove)
        entries = tuple(x.clone() for x in images)
        output = forward(root, entries, additional_forward_args)
    source = entries[0].grad_fn
    ends = [tensor.grad_fn for tensor in tensors_in(output) if tensor.grad_fn is not None]
    trunks = [bottlenecks_of(end, source) for end in ends]
    reached = set[Node]().union(*(ancestors(end, source) for end in ends))
    runs = Counter(point.name for point in points)
    once = [p for p in points if runs[p.name] == 1 and p.shape[:1] == entries[0].shape[:1]]
    scores = {point.node for point in once if _are_scores(point, output)}
    while once and once[-1].node in scores:
        del once[-1]
    return _Run(_distinct(once), trunks, reached, source)


def _are_scores(point: _Point, output: Any) -> bool:
    """Return whether a map has an output's channels and is enlarged to it, or comes of a 1x1 convolution."""
    alike = [t.shape[2:] for t in tensors_in(output) if t.ndim == 4 and t.shape[:2] == point.shape[:2]]
    head = isinstance(point.module, nn.Conv2d) and point.module.kernel_size == (1, 1)
    return len(point.shape) == 4 and (bool(alike) and (head or point.shape[2:] not in alike))


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
