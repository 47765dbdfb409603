"""Examine one model: attach, read, describe, score, attribute, and check that it is unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from measurements.architectures.bare import FAILURES, sentence, takes
from measurements.architectures.texts import SeededTexts
from torchnle.attr import LanguageAttribution, TextScore
from torchnle.heads.classifier_head import find_head, find_readout
from torchnle.vision.features import Features
from torchnle.vision.layouts import Hints, hints_for
from torchnle.vision.order.check import locate, seeded_pair
from torchnle.vision.reading import Reading, read
from torchnle.vision.running import forward
from torchnle.vision.suggest import SuggestedLayer, suggest_layers
from torchnle.vision.taps import first_tensor, record, resolve

#: Unusual input sizes (height, width): not square, large, odd.
UNUSUAL = ((192, 256), (384, 384), (225, 225))
#: Models with more parameters are given the first unusual size only, for time.
MANY = 60_000_000
TEXTS = ("a dog", "grass", "a red door")
#: The largest difference between a batch and its images one by one, relative to the largest feature.
TOLERANCE = 1e-4
#: The largest difference of logits recomputed from a head and its features, relative to the largest logit.
HEAD_TOLERANCE = 1e-3


@dataclass
class Examination:
    """The results for one model.

    Args:
        parameters: The number of its parameters.
        size: The side of the input.
        layers: The suggested layers.
        difference: The largest relative difference between a batch and one image alone, over layers.
        located: Of the change in a layer's features when the input's top right quarter changes, the part that
            lies in the top right quarter of its grid (a quarter if the grid has no meaning), by layer.
        sizes: Unusual input sizes: "works", or the error of the model.
        head: The classifier's head and its reading, or that of an encoder's features; else the reason.
        problems: Sentences; empty if everything works.
    """

    parameters: int
    size: int
    layers: list[SuggestedLayer] = field(default_factory=list)
    difference: float = 0.0
    located: list[float] = field(default_factory=list)
    sizes: dict[str, str] = field(default_factory=dict)
    head: str = ""
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


def examine(model: nn.Module, size: int, *, unusual: Sequence[tuple[int, int]] = UNUSUAL) -> Examination:
    """Run all checks on one model with random weights.

    Args:
        model: The model; it is put in training mode, to check that this is restored.
        size: The side of its input.
        unusual: Further sizes (height, width) to read it with.

    Example:
        >>> found = examine(model, 16, unusual=[(12, 16)])
        >>> found.problems, found.sizes, [layer.name for layer in found.layers]
        ([], {'12x16': 'works'}, ['act', 'norm'])
    """
    calibrate(model, seeded_pair((size, size)))
    before = fingerprint(model)
    found = Examination(sum(p.numel() for p in model.parameters()), size)
    pair = seeded_pair((size, size))
    try:
        found.layers = suggest_layers(model, pair[:1])
        found.problems += _read(model, found, pair)
        found.problems += _speak(model, found.layers, pair[:1])
        found.problems += _head(model, found, pair if found.parameters <= MANY else pair[:1])
        tried = unusual if found.parameters <= MANY else unusual[:1]
        found.problems += _other_sizes(model, found, tried)
    except FAILURES as error:
        found.problems.append(sentence(error))
    found.problems += _changes(before, fingerprint(model))
    return found


def calibrate(model: nn.Module, batch: Tensor) -> None:
    """Put a model in training mode, with batch statistics in its norms, or activations would vanish.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> calibrate(norm, torch.full((2, 1, 2, 2), 3.0))
        >>> norm.running_mean
        tensor([3.])
    """
    norms = [m for m in model.train().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with suppress(*FAILURES), torch.no_grad():
        if norms:
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def fingerprint(model: nn.Module) -> dict[str, int]:
    """Record the state of a model that must be restored: every tensor's bits, every flag, every hook."""
    marks = {name: _bits(tensor) for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        marks[f"{name} (training)"] = int(module.training)
        marks[f"{name} (hooks)"] = sum(map(len, hooks))
    for name, parameter in model.named_parameters():
        marks[f"{name} (gradient)"] = 2 * parameter.requires_grad + (parameter.grad is not None)
    return marks


def _bits(tensor: Tensor) -> int:
    flat = tensor.detach().reshape(-1).contiguous()
    return crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0


def _changes(before: dict[str, int], after: dict[str, int]) -> Iterator[str]:
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        yield f"the model was changed: {', '.join(changed[:4])} ({len(changed)} in all)."


def _read(model: nn.Module, found: Examination, pair: Tensor) -> Iterator[str]:
    """Read a batch and one image alone, and compare them with each other and with the suggestion."""
    taps = resolve(model, [layer.name for layer in found.layers])
    with torch.no_grad():
        both, alone = read(model, taps, pair), read(model, taps, pair[:1])
    for layer, features, single in zip(found.layers, both, alone, strict=True):
        shape = (2, layer.grid[0] * layer.grid[1], layer.width)
        dropped = 0 if features.extra is None else features.extra.shape[1]
        given = (features.grid, tuple(features.tokens.shape), dropped)
        if given != (layer.grid, shape, layer.num_prefix_tokens):
            yield f"'{layer.name}' was read as {given}, but suggested as {layer}."
        difference = _relative(features.tokens[:1], single.tokens)
        found.difference = max(found.difference, difference)
        located = locate(features)
        found.located.append(round(located.right, 3))
        if not located.in_order:
            yield f"the locations of '{layer.name}' are not in the order of the image."
        if difference > TOLERANCE:
            yield f"'{layer.name}' differs by {difference:.0e} between a batch and one image alone."


def _relative(given: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return float((given - expected).abs().max() / scale)


def _speak(model: nn.Module, layers: Sequence[SuggestedLayer], image: Tensor) -> Iterator[str]:
    """Describe the whole, a location and all locations; attribute and score a text."""
    names = [layer.name for layer in layers]
    lang = LanguageAttribution(model, names, SeededTexts(TEXTS))
    answers: list[Any] = [
        lang.describe(image),
        lang.describe(image, where=(0, -1)),
        lang.describe(image, where="all"),
        lang.attribute(image, target=TEXTS[0]),
    ]
    whole, single, cells, heat = answers if lang.several else [[answer] for answer in answers]
    with torch.no_grad():
        scores = TextScore(model, names[-1], lang.translator, TEXTS)(image)
    for layer, one, corner, grid, laid in zip(layers, whole, single, cells, heat, strict=True):
        if grid[0].grid != layer.grid or corner[0].location != (0, layer.grid[1] - 1):
            yield f"'{layer.name}' was described on {grid[0].grid} and at {corner[0].location}."
        if one[0].layer != layer.name or grid[0][layer.grid[1] - 1].text != corner[0].text:
            yield f"'{layer.name}': the location described alone and among all differ."
        if laid.shape != image.shape or not torch.isfinite(laid).all():
            yield f"'{layer.name}': the attribution is {tuple(laid.shape)} or not finite."
    if abs(float(scores.max()) - whole[-1][0].score) > TOLERANCE:
        yield f"'{names[-1]}': texts score {scores.tolist()}, but the description {whole[-1][0].score}."


def _other_sizes(model: nn.Module, found: Examination, sizes: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Read the same layers at other sizes: the strides must be the same along both axes."""
    taps = resolve(model, [layer.name for layer in found.layers])
    for size in sizes:
        label, image = f"{size[0]}x{size[1]}", seeded_pair(size)[:1]
        try:
            with torch.no_grad():
                given = record(model, taps, image)
        except FAILURES as error:
            found.sizes[label] = f"not taken by the model: {sentence(error)}"
            if takes(model, size):
                yield f"inputs of {label}: {sentence(error)}"
            continue
        outcomes = [
            _other_size(activation, layer, hints_for(model, tap.module), size, found.size)
            for activation, layer, tap in zip(given, found.layers, taps, strict=True)
        ]
        found.sizes[label] = "; ".join(sorted(set(outcomes)))
        yield from (f"inputs of {label}: {it}" for it in outcomes if not it.startswith("works"))


def _other_size(
    activation: Tensor, layer: SuggestedLayer, hints: Hints, given: tuple[int, int], size: int
) -> str:
    """Read one layer; if it is ambiguous, one argument must be enough."""
    layouts: tuple[Any, ...] = ("auto", layer.layout)
    for layout in layouts:
        try:
            features = Features.from_activation(
                activation, layer.name, batch_size=1, input_size=given, layout=layout, hints=hints
            )
        except ValueError as error:
            reason = sentence(error)
            continue
        if features.grid == layer.grid and given != (size, size):
            return "works, resized by the model"
        if not _same_stride(features.grid, layer.grid, given, size):
            return f"'{layer.name}' gave the grid {features.grid}, at {size} pixels {layer.grid}"
        return "works" if layout == "auto" else f"works with layout='{layout}'"
    return reason


def _same_stride(
    grid: tuple[int, int] | None, usual: tuple[int, int], given: tuple[int, int], size: int
) -> bool:
    """Return whether a grid is the usual one scaled with the input, up to one location a side."""
    return grid is not None and all(
        abs(count - length * base / size) <= 1 + length / size
        for count, base, length in zip(grid, usual, given, strict=True)
    )


def _head(model: nn.Module, found: Examination, images: Tensor) -> Iterator[str]:
    """Find the head and recompute the logits, or an encoder's features; or explain the failure."""
    try:
        head = find_head(model, images)
    except FAILURES as error:
        found.head = _encoder(model, images) or sentence(error)
        return
    found.head = f"{head.head_name}, {head.pooling} of {head.tap.name}"
    reading = Reading(layout=head.layout, num_prefix_tokens=head.num_prefix_tokens)
    with torch.no_grad():
        (features,) = read(model, [head.tap], images, None, reading)
        given, output = head.logits(features), forward(model, images)
    logits = first_tensor(getattr(output, "logits", output))
    if logits is None or _relative(given, logits) > HEAD_TOLERANCE:
        yield f"the head that was found ({found.head}) gives other logits than the model."


def _encoder(model: nn.Module, images: Tensor) -> str:
    """Describe the readout of a model without a class head; "" if it gives no vector, or none is found."""
    try:
        readout = find_readout(model, images, _vector)
    except FAILURES:
        return ""
    return f"(features), {readout.pooling} of {readout.tap.name}"


def _vector(output: Any, model_name: str) -> Tensor:
    vector = first_tensor(getattr(output, "pooler_output", output))
    if vector is None or vector.ndim != 2:
        raise ValueError(f"{model_name} gives no vector an image.")
    return vector
