"""The head of a model that scores every location: a 1x1 convolution, whose map may be enlarged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchnle.heads.readout import Readout
from torchnle.heads.trace import Trace, difference
from torchnle.vision.taps import Tap, record_with_output

#: The ways in which models enlarge a map of scores.
_WAYS: tuple[tuple[str, bool | None], ...] = (
    ("bilinear", False),
    ("bilinear", True),
    ("nearest", None),
    ("bicubic", False),
    ("bicubic", True),
)


@dataclass(frozen=True)
class Enlarging:
    """The enlargement of a map of scores to a model's output.

    Args:
        factor: Rows and columns of the output, relative to those of the map.
        mode: As for `torch.nn.functional.interpolate`; "" = the map is the output.
        align_corners: As for `torch.nn.functional.interpolate`.

    Example:
        >>> Enlarging((2.0, 2.0), "nearest")(torch.ones(1, 5, 3, 3)).shape
        torch.Size([1, 5, 6, 6])
    """

    factor: tuple[float, float]
    mode: str = ""
    align_corners: bool | None = None

    def __call__(self, scores: Tensor) -> Tensor:
        """Enlarge scores (N, C, H, W)."""
        if not self.mode:
            return scores
        size = [round(n * factor) for n, factor in zip(scores.shape[2:], self.factor, strict=True)]
        return F.interpolate(scores, size=size, mode=self.mode, align_corners=self.align_corners)


@dataclass(frozen=True, eq=False)
class DenseHead:
    """The convolution that scores every location.

    Args:
        name: Its dotted name.
        module: The convolution.
        readout: Reads its input, of which a whole image has the mean.
        enlarging: From its scores to the model's output.
    """

    name: str
    module: nn.Conv2d
    readout: Readout
    enlarging: Enlarging


def find_dense(
    run: Trace, model: nn.Module, example: Tensor, answer: Callable[[Any, str], Tensor]
) -> DenseHead:
    """Find the convolution whose scores, enlarged or as they are, are a model's output (N, classes, H, W).

    Args:
        run: The trace of the model on the example.
        model: The model.
        example: The images.
        answer: Selects the map of scores in the model's output.

    Raises:
        ValueError: If no 1x1 convolution gives it.
    """
    kind = type(run.root).__name__
    for name, module in _candidates(run):
        taps = [Tap(name, module, "input"), Tap(name, module)]
        with torch.no_grad():
            (_, scores), output = record_with_output(model, taps, example)
            whole = answer(output, kind)
        enlarging = _enlarging(scores.float(), whole.float(), run.tolerance)
        if enlarging is not None:
            tap = Tap(f"{name}:input", module, "input")
            description = (
                f"The head is '{name}' ({scores.shape[1]} classes on {module.in_channels} features), at each "
                f"of {scores.shape[2]}x{scores.shape[3]} locations"
                + (f"; its scores are enlarged ({enlarging.mode})." if enlarging.mode else ".")
            )
            return DenseHead(name, module, Readout(tap, "mean", "NCHW", 0, (), description), enlarging)
    raise ValueError(
        f"no 1x1 convolution of {kind} gives its map of {run.answer.shape[1]} scores a location, as it is or "
        "enlarged: it may come of several, or of another function. Pass a translator, or fit captions: "
        "LanguageAttribution.from_captions(model, layers, captions)."
    )


def _candidates(run: Trace) -> Iterator[tuple[str, nn.Conv2d]]:
    for call in reversed(run.calls):
        module = call.module
        if not isinstance(module, nn.Conv2d) or call.single or call.gave.shape[1] != run.answer.shape[1]:
            continue
        if module.stride == (1, 1) and module.padding in ((0, 0), "valid") and run.runs[module] == 1:
            yield call.name, module


def _enlarging(scores: Tensor, whole: Tensor, tolerance: float) -> Enlarging | None:
    if scores.ndim != 4 or scores.shape[:2] != whole.shape[:2]:
        return None
    rows, columns = (b / a for a, b in zip(scores.shape[2:], whole.shape[2:], strict=True))
    ways = [Enlarging((rows, columns), *way) for way in _WAYS]
    for way in [Enlarging((1.0, 1.0))] if scores.shape == whole.shape else ways:
        if difference(way(scores), whole) <= tolerance:
            return way
    return None
