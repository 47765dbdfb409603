"""The head of a classifier: its class weights and the features that it reads, found by numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.features import Features
from torchnle.running import evaluating
from torchnle.taps import Tap
from torchnle.translators.head_trace import Call, Reading, Trace, difference, is_linear, trace
from torchnle.types import Layout, Where

_NECK = ", through {} (exact for whole images; a place is read as if it filled the image)"


@dataclass(frozen=True, eq=False)
class ClassifierHead:
    """The linear head of a classifier, and how to read the features in front of it place by place.

    Args:
        weight: The class weights, (classes C, width D): the model's own, detached.
        bias: The class biases, (C,), or None.
        head_name: The dotted name of the linear layer.
        tap: Where the features before pooling are read.
        pooling: "mean" = the head reads their mean over places; "token" = their first token; "none" = no
            places: `tap` reads what the head receives.
        layout: The order of the axes at `tap`, for `Features.from_activation`.
        num_prefix_tokens: The tokens in front that the mean leaves out, for `Features.from_activation`.
        pointwise: What the model applies at every place before pooling (the ReLU of DenseNet), or None.
        neck: What stands between the pooled features and the head (the LayerNorm of ConvNeXt), or None.
        summary: A sentence: what was chosen, why, and how well it checks.
    """

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"] | None
    head_name: str
    tap: Tap
    pooling: Literal["mean", "token", "none"]
    layout: Layout = "auto"
    num_prefix_tokens: int | None = None
    pointwise: nn.Module | None = None
    neck: Neck | None = None
    summary: str = ""

    def read(self, features: Features, where: Where = None) -> Features:
        """The features as the head receives them: ``rows @ weight.T + bias`` are class scores.

        For the whole image these are the model's logits. At a place they are what the head answers if the
        image looked like that place everywhere; without a `neck`, and with mean pooling, the mean of these
        answers over all places is again the model's logits.

        Args:
            features: The features read at `tap`.
            where: Which places, as in `Features.select`; None = the whole image.

        Raises:
            ValueError: If `where` does not fit the features.
        """
        if self.pooling == "token" and where is None:
            chosen = features.extras()
            chosen = replace(chosen, tokens=chosen.tokens[:, :1], locations=(None,))
        else:
            shown = features.tokens if self.pointwise is None else self.pointwise(features.tokens)
            chosen = replace(features, tokens=shown).select(where)
        if self.neck is None:
            return chosen
        rows = self.neck(chosen.rows)
        return replace(chosen, tokens=rows.view(*chosen.tokens.shape[:2], -1), extra=None)


class Neck(nn.Module):
    """Modules of a classifier between its pooled features and its head, applied to any rows of features.

    Args:
        modules: The modules, in order.
        shapes: The shape of one image's input to each: a norm over maps wants (D, 1, 1).

    Example:
        >>> import torch
        >>> Neck([nn.BatchNorm2d(2, eps=0.0)], [(2, 1, 1)])(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 2.]], grad_fn=<...>)
    """

    def __init__(self, modules: Sequence[nn.Module], shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)
        self.shapes = tuple(shapes)

    def forward(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R E"]:
        """Apply the modules in evaluation mode."""
        with evaluating(self):
            for module, shape in zip(self.steps, self.shapes, strict=True):
                rows = module(rows.reshape(-1, *shape)).flatten(1)
        return rows


def example_for(model: nn.Module) -> Tensor:
    """Two images of noise of the size that a model's own configuration states, else 224 x 224.

    Example:
        >>> example_for(nn.Identity()).shape
        torch.Size([2, 3, 224, 224])
    """
    stated = getattr(model, "pretrained_cfg", None) or getattr(model, "config", None) or {}
    config: Mapping[str, Any] = stated if isinstance(stated, Mapping) else vars(stated)
    side = config.get("image_size") or 224
    height, width = (side, side) if isinstance(side, int) else side
    size = config.get("input_size") or (config.get("num_channels") or 3, height, width)
    noise = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    return noise.to(next(model.parameters(), noise))


def find_head(model: nn.Module, example: Tensor, num_classes: int | None = None) -> ClassifierHead:
    """Find a classifier's linear head and the features before pooling, by one dry run and numbers alone.

    The head is the last linear layer (or 1x1 convolution) whose output equals the model's logits. The
    features are the latest activation with places whose mean over places, or first token, equals what the
    head receives, directly or through the modules in between. No name of a model or layer is looked at.

    Args:
        model: The classifier; its output is (N, classes), or holds that as `logits` or first tensor.
        example: A few images, (N, channels, height, width), as the model takes them.
        num_classes: The number of class names; None = do not check.

    Raises:
        ValueError: If no linear layer gives the logits, or it has another number of classes.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> head = find_head(model, torch.rand(1, 3, 9, 9))
        >>> head.head_name, head.tap.name, head.pooling
        ('3', '0', 'mean')
    """
    run = trace(model, example)
    head = _find_linear(run, type(model).__name__)
    weight, bias = _weight_of(head.module)
    if num_classes not in (None, len(weight)):
        raise ValueError(
            f"the head '{head.name}' has {len(weight)} classes, but {num_classes} class names were given. "
            "Pass one name a row of the head's weight, in its order."
        )
    reading, neck = _find_reading(run, head)
    if reading is None:
        tap = Tap(head.name, head.module, "input")
        return ClassifierHead(weight, bias, head.name, tap, "none", summary=_explain(head))
    return ClassifierHead(
        weight,
        bias,
        head.name,
        reading.tap,
        reading.pooling,
        reading.layout,
        reading.num_prefix_tokens,
        None if reading.pointwise is None else reading.pointwise(),
        neck,
        _explain(head, reading, neck),
    )


def _find_linear(run: Trace, model_name: str) -> Call:
    logits = run.logits.float()
    linear = [call for call in run.calls if is_linear(call.module)]
    for call in reversed(linear):
        if run.close(call.gave, logits):
            return call
    names = [call.name for call in linear if call.gave.shape == logits.shape][-3:]
    raise ValueError(
        f"no linear layer of {model_name} gives its {logits.shape[1]} logits by itself (layers of that size: "
        f"{', '.join(names) or 'none'}): they may be averaged, scaled or computed by function. "
        "Pass the class weights and the layer yourself."
    )


def _weight_of(module: Any) -> tuple[Tensor, Tensor | None]:
    bias = None if module.bias is None else module.bias.detach()
    return module.weight.detach().flatten(1), bias


def _find_reading(run: Trace, head: Call) -> tuple[Reading | None, Neck | None]:
    """Walk back from the head: a reading that equals its input, else the module that made it, and so on."""
    steps = [head]
    while True:
        reading = run.latest_reading(steps[0].received, steps[0])
        producer = run.producer(steps[0].received, steps[0])
        if reading is not None or producer is None:
            break
        steps.insert(0, producer)
    neck = Neck([c.module for c in steps[:-1]], [c.shape for c in steps[:-1]]) if steps[1:] else None
    if reading is None or not run.close(_through(neck, reading, head), head.received):
        return None, None
    return reading, neck


def _explain(head: Call, reading: Reading | None = None, neck: Neck | None = None) -> str:
    classes, width = _weight_of(head.module)[0].shape
    start = f"The head is '{head.name}' ({classes} classes on {width} features)."
    if reading is None:
        return (
            f"{start} No activation with places has its input as mean or first token (maps are flattened, "
            "pooled otherwise, or too small in this example), so only whole images can be read."
        )
    error = difference(_through(neck, reading, head), head.received)
    what = "first" if reading.pooling == "token" else "mean"
    over = "of the {} tokens" if reading.layout == "NLD" else "over the {} places"
    via = "" if reading.pointwise is None else f", after {reading.pointwise.__name__}"
    through = "" if neck is None else _NECK.format(", ".join(type(step).__name__ for step in neck.steps))
    return (
        f"{start} It receives the {what} {over.format(reading.places)} of the {reading.tap.at} of "
        f"'{reading.tap.name}'{via}{through}. Checked on {len(reading.vector)} image(s): "
        f"largest relative difference {error:.0e}."
    )


def _through(neck: Neck | None, reading: Reading, head: Call) -> Tensor:
    """What the head receives if the reading is right."""
    if neck is None:
        return reading.vector
    received: Tensor = neck(reading.vector.to(_weight_of(head.module)[0].dtype))
    return received.detach().float()
