"""The head of a classifier: its class weights and the features that it reads, found by numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.heads.check import Comparison, compare, varied
from torchnle.heads.logits import LinearPart, find_linear
from torchnle.heads.path import Path, find_path
from torchnle.heads.readout import Readout
from torchnle.heads.trace import Trace, difference, trace
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import Tap

_NECK = ", through {} (exact for whole images; a place is read as if it filled the image)"
#: A second run must give the vector of the first up to this, relative to its largest number.
_AGAIN = 1e-2
_NO_PLACES = (
    "No activation with places has its input as mean, as one of the first tokens, flattened or pooled by a "
    "module (or it is too small in this example), so only whole images can be read."
)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierHead(Readout):
    """The linear head of a classifier, and how to read the features in front of it place by place.

    What `read` gives is what the head receives: ``rows @ weight.T + bias`` are class scores. At a place these
    are what the head answers if the image looked like that place everywhere; without a neck, and with mean
    pooling, the mean of these answers over all places is again the model's logits.

    Args:
        weight: The class weights, (classes C, width D), detached; those of averaged heads stand side by side.
        bias: The class biases, (C,), or None.
        head_name: The dotted name of the linear layer; several are joined by " + ".
        clipped: Whether the model sets negative scores to zero at every place before it takes their mean
            (SqueezeNet).
    """

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"] | None
    head_name: str
    clipped: bool = False

    def logits(self, features: Features) -> Float[Tensor, "N C"]:
        """The model's logits, made again of the features that are read at `tap`, in float32."""
        rows = self.read(features, "all" if self.clipped else None)
        bias = None if self.bias is None else self.bias.float()
        scores = F.linear(rows.tokens.float(), self.weight.float(), bias)
        return (scores.relu() if self.clipped else scores).mean(dim=1)


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

    The head is the last linear layer (or 1x1 convolution) whose output equals the model's logits; or a few of
    them whose weighted sum does; or a matrix of the model that gives them by function (`find_linear`). The
    features are the latest activation with places that makes what the head receives, directly or through
    what stands in between (`find_path`). No name of a model or layer is looked at. What was found is believed
    only if the logits made again of it are the model's own, on images that it was not found with.

    Args:
        model: The classifier; its output is (N, classes), or holds that as `logits` or first tensor.
        example: A few images, (N, channels, height, width), as the model takes them.
        num_classes: The number of class names; None = do not check.

    Raises:
        TypeError: If the example is no tensor.
        ValueError: If nothing linear gives the logits, it has another number of classes, its parts read
            different layers, or the logits made again differ.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> head = find_head(model, torch.rand(1, 3, 9, 9))
        >>> head.head_name, head.tap.name, head.pooling
        ('3', '0', 'mean')
    """
    if not isinstance(example, Tensor):
        raise TypeError(
            f"example is a {type(example).__name__}; pass one tensor, a few images (N, C, H, W). A model "
            "that takes more than that can be wrapped in a module that adds it."
        )
    run = trace(model, varied(example))
    parts = find_linear(run)
    name, classes = _name(parts), len(parts[0].weight)
    if num_classes not in (None, classes):
        given = f"{num_classes} class names were given" if num_classes else "no class names are known"
        raise ValueError(
            f"the head '{name}' has {classes} classes, but {given}. Pass class_names=[...], one name a row "
            "of the head's weight, in its order."
        )
    return _first_that_agrees(model, example, run, parts)


def _first_that_agrees(
    model: nn.Module, example: Tensor, run: Trace, parts: Sequence[LinearPart]
) -> ClassifierHead:
    """The head with the first readout of which the model's logits can be made again, on other images too."""
    biases = [part.bias for part in parts if part.bias is not None]
    weight = torch.cat([part.weight for part in parts], dim=1)
    bias = torch.stack(biases).sum(0) if biases else None
    error = float("inf")
    for readout in _readouts(run, parts):
        head = ClassifierHead(
            **vars(readout), weight=weight, bias=bias, head_name=_name(parts), clipped=parts[0].clipped
        )
        found = _compared(model, head, example, run)
        if found is not None and found.agree and (readout.pooling == "none" or max(found.grid or (1,)) > 1):
            return head
        error = error if found is None else found.error
    raise _disbelieved(run, parts, error)


def _compared(model: nn.Module, head: ClassifierHead, example: Tensor, run: Trace) -> Comparison | None:
    """None where the layer cannot be read that way: queries have no places."""
    try:
        return compare(model, head.tap, head.reading, head.logits, example, run.tolerance)
    except ValueError:
        return None


def _disbelieved(run: Trace, parts: Sequence[LinearPart], error: float) -> ValueError:
    name, model = _name(parts), type(run.root).__name__
    if error == float("inf"):
        where = "different layers, or layers without places" if len(parts) > 1 else "no layer with places"
        return ValueError(
            f"the logits of {model} come from '{name}', reading {where}. "
            "Pass the class weights and the layer yourself."
        )
    return ValueError(
        f"'{name}' ({'x'.join(map(str, parts[0].weight.shape))}) seemed to be the head of {model}, but on "
        f"other images its features x weight + bias are {error:.1%} off the model's logits: more than a "
        "linear layer is between them, or it differs from call to call. Pass the class weights and the layer "
        "fit captions instead: LanguageAttribution.from_captions(model, layers, captions)."
    )


def find_readout(
    model: Callable[..., Any], example: Tensor, answer: Callable[[Any, str], Tensor] | None = None
) -> Readout:
    """Find the features with places that an image encoder makes its vector of, as `find_head` does.

    Where there are none, the vector itself is read: whole images only.

    Args:
        model: The encoder, or a bound method such as `clip.encode_image`.
        example: A few images, as the encoder takes them.
        answer: Takes the vectors (N, D) out of what the encoder returns; None = its first tensor.

    Raises:
        ValueError: If no layer gives the vector.

    Example:
        >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> find_readout(encoder, torch.rand(1, 3, 9, 9)).tap.name
        '0'
    """
    run = trace(model, example, answer)
    vector = run.answer.float()
    start = f"The {vector.shape[1]} features of an image are"
    path = find_path(run, vector, run.time)
    if path is not None:
        said = f"{start} {path.start}{_steps(path)}. {_checked(run, path.given, vector)}"
        readout = _of_paths([path], said)
        if _reads(model, readout, example, vector):
            return readout
    tap = run.giver(vector)
    if tap is None:
        raise ValueError(
            f"no layer of {type(run.root).__name__} gives its {vector.shape[1]} features, nor are they made "
            "of an activation with places. Pass the layer yourself."
        )
    return Readout(_findable(tap), "none", summary=f"{start} what '{tap.name}' gives. {_NO_PLACES}")


def _reads(model: Callable[..., Any], readout: Readout, example: Tensor, vector: Tensor) -> bool:
    """Whether the layer, read in the usual way, has places and gives the vector again: queries have none."""
    reading = Reading(layout=readout.layout, num_prefix_tokens=readout.num_prefix_tokens)
    try:
        with torch.no_grad():
            (features,) = read(model, [readout.tap], example, None, reading)
            given = readout.read(features).rows.float()
    except ValueError:
        return False
    return features.grid is not None and max(features.grid) > 1 and difference(given, vector) < _AGAIN


def _readouts(run: Trace, parts: Sequence[LinearPart]) -> Iterator[Readout]:
    """The way back to a layer with places, then the vector that the head itself receives."""
    name, (classes, width) = _name(parts), parts[0].weight.shape
    start = f"The head is '{name}' ({classes} classes on {width} features)."
    paths = [find_path(run, part.received, part.time) for part in parts]
    found = [path for path in paths if path is not None]
    if len(found) == len(parts) and len({path.tap for path in found}) == 1:
        received = torch.cat([part.received for part in parts], dim=1)
        given = torch.cat([path.given for path in found], dim=1)
        ways = "; ".join(f"{path.start}{_steps(path)}" for path in found)
        clip = ", at every place; negative scores become zero before their mean" if parts[0].clipped else ""
        readout = _of_paths(found, f"{start} It receives {ways}{clip}. {_checked(run, given, received)}")
        yield readout
        if readout.num_prefix_tokens is not None and readout.layout == "NLD":
            yield replace(readout, num_prefix_tokens=None)  # what is averaged may stand in another order
    module = parts[0].module
    if len(parts) == 1 and module is not None:
        yield Readout(_findable(Tap(name, module, "input")), "none", summary=f"{start} {_NO_PLACES}")


def _name(parts: Sequence[LinearPart]) -> str:
    return " + ".join(part.name for part in parts)


def _of_paths(paths: Sequence[Path], summary: str) -> Readout:
    first = paths[0]
    prefixes = [path.num_prefix_tokens for path in paths if path.num_prefix_tokens is not None]
    pooling = first.pooling if len({path.pooling for path in paths}) == 1 else "tokens"
    return Readout(
        _findable(first.tap),
        pooling,
        first.layout,
        prefixes[0] if prefixes else None,
        [path.branch for path in paths],
        summary,
    )


def _findable(tap: Tap) -> Tap:
    """The tap under the name that finds it again, which a translator keeps as its layer's."""
    return replace(tap, name=tap.reference)


def _steps(path: Path) -> str:
    neck = path.branch.neck
    named = [type(step).__name__ for step in neck.steps if type(step).__name__ != "Filled"] if neck else []
    return _NECK.format(", ".join(named)) if named else ""


def _checked(run: Trace, given: Tensor, expected: Tensor) -> str:
    error = difference(given, expected)
    return f"Checked on {run.batch_size} image(s): largest relative difference {error:.0e}."
