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
from torchnle.heads.dense import Enlarging, find_dense
from torchnle.heads.logits import LinearPart, find_linear
from torchnle.heads.path import Path, find_path
from torchnle.heads.readout import Readout
from torchnle.heads.trace import Trace, difference, trace
from torchnle.public_calls import own_defaults
from torchnle.vision.features import Features
from torchnle.vision.outputs import Answer, answers
from torchnle.vision.reading import Reading, read
from torchnle.vision.running import check_weights
from torchnle.vision.taps import Tap

_NECK = ", through {} (exact for whole images; a location is read as if it filled the image)"
#: Images have at most so many channels (satellites' have some dozens).
_MOST_CHANNELS = 16
#: A second run must reproduce the vector of the first up to this, relative to its largest number.
_AGAIN = 1e-2
_NO_PLACES = (
    "No activation with locations has its input as mean, as one of the first tokens, flattened or pooled by "
    "a module (or it is too small in this example), so only whole images can be read."
)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierHead(Readout):
    """The linear head of a classifier, with the readout that computes its input at each location.

    `read` returns the input of the head: ``rows @ weight.T + bias`` are class scores. At a location they are
    the head's scores for an image that has the features of that location everywhere. Without a neck and with
    mean pooling, their mean over all locations equals the model's logits.

    Args:
        weight: The class weights, (classes C, width D), detached; those of averaged heads are concatenated.
        bias: The class biases, (C,), or None.
        head_name: The dotted name of the linear layer; several are joined by " + ".
        clipped: Whether the model sets negative scores to zero at every location before it takes their mean
            (SqueezeNet).
        enlarging: Of a model that scores every location (segmentation): from the layer's grid to the model's
            output, whose mean over locations counts as the logits of an image.
    """

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"] | None
    head_name: str
    clipped: bool = False
    enlarging: Enlarging | None = None

    def logits(self, features: Features) -> Float[Tensor, "N C"]:
        """Recompute the model's logits from the features read at `tap`, in float32."""
        rows = self.read(features, "all" if self.clipped or self.enlarging else None)
        bias = None if self.bias is None else self.bias.float()
        scores = F.linear(rows.tokens.float(), self.weight.float(), bias)
        if self.enlarging is not None:
            return self.enlarging(features.fold(scores).movedim(-1, 1)).mean(dim=(2, 3))
        return (scores.relu() if self.clipped else scores).mean(dim=1)


def example_for(model: nn.Module) -> Tensor:
    """Make two images of noise of the size stated by the model's configuration, else 224 x 224.

    Example:
        >>> example_for(nn.Identity()).shape
        torch.Size([2, 3, 224, 224])
    """
    stated = getattr(model, "pretrained_cfg", None) or getattr(model, "config", None) or {}
    config: Mapping[str, Any] = stated if isinstance(stated, Mapping) else vars(stated)
    side = config.get("image_size") or 224
    height, width = (side, side) if isinstance(side, int) else side
    channels = config.get("num_channels") or _first_channels(model)
    size = config.get("input_size") or (channels, height, width)
    source = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(2, *size, generator=source, device="cpu", dtype=torch.float32)
    return noise.to(next(model.parameters(), noise))


def _first_channels(model: nn.Module) -> int:
    """The channels that the first convolution reads; 3 where there is none, or where it reads features."""
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    return 3 if first is None or first.in_channels > _MOST_CHANNELS else first.in_channels


@own_defaults
def find_head(model: nn.Module, example: Tensor, num_classes: int | None = None) -> ClassifierHead:
    """Find a classifier's linear head and the features before pooling, by numbers from one dry run.

    The head is the last linear layer (or 1x1 convolution) whose output equals the model's logits; or a few of
    them whose weighted sum does; or a matrix of the model that is multiplied without a module
    (`find_linear`). The features are the latest activation with locations from which the head's input can be
    computed, directly or through the modules in between (`find_path`). No name of a model or layer is used.
    The result is accepted only if it reproduces the model's logits on images that the search has not used.

    Args:
        model: The classifier; its output is (N, classes), or holds that as `logits`, as first tensor or, with
            `num_classes`, as the tensor of that width; or (N, classes, H, W) if it scores every location.
        example: A few images, (N, channels, height, width), as the model takes them.
        num_classes: The number of class names; None = do not check.

    Returns:
        The head.

    Raises:
        TypeError: If the example is no tensor.
        ValueError: If no linear layer gives the logits, the head has another number of classes, its parts
            read different layers, or the recomputed logits differ.

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
    check_weights(model)
    shown = varied(example)
    run = trace(model, shown, answer=lambda output, _: torch.empty(0))
    tried = answers(run.output, type(run.root).__name__, num_classes)
    for number, answer in enumerate(tried):
        run.answer = answer(run.output, type(run.root).__name__)
        try:
            if run.answer.ndim == 4:
                return _dense(model, example, shown, run, answer, num_classes)
            return _by_parts(model, example, run, answer, num_classes)
        except ValueError:
            if number == len(tried) - 1:
                raise
    raise AssertionError


def _dense(
    model: nn.Module, example: Tensor, shown: Tensor, run: Trace, answer: Answer, num_classes: int | None
) -> ClassifierHead:
    """Find the head of a model that scores every location, and check it on other images."""
    found = find_dense(run, model, shown, answer)
    weight, bias = found.module.weight.detach().flatten(1), found.module.bias
    _check_count(found.name, len(weight), num_classes)
    head = ClassifierHead(
        **vars(found.readout),
        weight=weight,
        bias=None if bias is None else bias.detach(),
        head_name=found.name,
        enlarging=found.enlarging,
    )
    compared = _compared(model, head, example, run, answer)
    if compared is None or not compared.agree:
        raise ValueError(
            f"'{found.name}' seems to score the locations of {type(run.root).__name__}, but on other images "
            "its scores are not the model's. Pass a translator, or fit captions."
        )
    return head


def _by_parts(
    model: nn.Module, example: Tensor, run: Trace, answer: Answer, num_classes: int | None
) -> ClassifierHead:
    parts = find_linear(run)
    _check_count(_name(parts), len(parts[0].weight), num_classes)
    return _first_that_agrees(model, example, run, parts, answer)


def _check_count(name: str, classes: int, num_classes: int | None) -> None:
    if num_classes not in (None, classes):
        given = f"{num_classes} class names were given" if num_classes else "no class names are known"
        raise ValueError(
            f"the head '{name}' has {classes} classes, but {given}. Pass class_names=[...], one name a row "
            "of the head's weight, in its order."
        )


def _first_that_agrees(
    model: nn.Module, example: Tensor, run: Trace, parts: Sequence[LinearPart], answer: Answer
) -> ClassifierHead:
    """Return the head with the first readout that reproduces the model's logits on other images too."""
    biases = [part.bias for part in parts if part.bias is not None]
    weight = torch.cat([part.weight for part in parts], dim=1)
    bias = torch.stack(biases).sum(0) if biases else None
    error = float("inf")
    for readout in _readouts(run, parts):
        head = ClassifierHead(
            **vars(readout), weight=weight, bias=bias, head_name=_name(parts), clipped=parts[0].clipped
        )
        found = _compared(model, head, example, run, answer)
        if found is not None and found.agree and (readout.pooling == "none" or max(found.grid or (1,)) > 1):
            return head
        error = error if found is None else found.error
    raise _rejected(run, parts, error)


def _compared(
    model: nn.Module, head: ClassifierHead, example: Tensor, run: Trace, answer: Answer
) -> Comparison | None:
    """Compare a head with the model; None if the layer has no locations (queries)."""
    try:
        return compare(model, head.tap, head.reading, head.logits, example, run.tolerance, answer)
    except ValueError:
        return None


def _rejected(run: Trace, parts: Sequence[LinearPart], error: float) -> ValueError:
    name, model = _name(parts), type(run.root).__name__
    if error == float("inf"):
        where = (
            "different layers, or layers without locations" if len(parts) > 1 else "no layer with locations"
        )
        return ValueError(
            f"the logits of {model} come from '{name}', reading {where}. "
            "Pass the class weights and the layer yourself."
        )
    return ValueError(
        f"'{name}' ({'x'.join(map(str, parts[0].weight.shape))}) seems to be the head of {model}, but on "
        f"other images its features x weight + bias differ from the model's logits by {error:.1%}: more than "
        "a linear layer is between them, or it differs from call to call. Pass the class weights and the "
        "layer yourself, or fit captions: LanguageAttribution.from_captions(model, layers, captions)."
    )


@own_defaults
def find_readout(
    model: Callable[..., Any], example: Tensor, answer: Callable[[Any, str], Tensor] | None = None
) -> Readout:
    """Find the features with locations from which an image encoder computes its vector, as `find_head` does.

    If there are none, the vector itself is read, for whole images only.

    Args:
        model: The encoder, or a bound method such as `clip.encode_image`.
        example: A few images, as the encoder takes them.
        answer: Selects the vectors (N, D) in the encoder's output; None = its first tensor.

    Returns:
        The readout of that layer.

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
        description = f"{start} {path.start}{_steps(path)}. {_checked(run, path.given, vector)}"
        readout = _of_paths([path], description)
        if _reads(model, readout, example, vector):
            return readout
    tap = run.giver(vector)
    if tap is None:
        raise ValueError(
            f"no layer of {type(run.root).__name__} gives its {vector.shape[1]} features, nor are they made "
            "of an activation with locations. Pass the layer yourself."
        )
    return Readout(_findable(tap), "none", summary=f"{start} what '{tap.name}' gives. {_NO_PLACES}")


def _reads(model: Callable[..., Any], readout: Readout, example: Tensor, vector: Tensor) -> bool:
    """Return whether the layer has locations and reproduces the vector when read in the usual way."""
    reading = Reading(layout=readout.layout, num_prefix_tokens=readout.num_prefix_tokens)
    try:
        with torch.no_grad():
            (features,) = read(model, [readout.tap], example, None, reading)
            given = readout.read(features).rows.float()
    except ValueError:
        return False
    return features.grid is not None and max(features.grid) > 1 and difference(given, vector) < _AGAIN


def _readouts(run: Trace, parts: Sequence[LinearPart]) -> Iterator[Readout]:
    """Yield the readout of a layer with locations, then of the vector that the head receives."""
    name, (classes, width) = _name(parts), parts[0].weight.shape
    start = f"The head is '{name}' ({classes} classes on {width} features)."
    paths = [find_path(run, part.received, part.time) for part in parts]
    found = [path for path in paths if path is not None]
    if len(found) == len(parts) and len({path.tap for path in found}) == 1:
        received = torch.cat([part.received for part in parts], dim=1)
        given = torch.cat([path.given for path in found], dim=1)
        ways = "; ".join(f"{path.start}{_steps(path)}" for path in found)
        clip = (
            ", at every location; negative scores become zero before their mean" if parts[0].clipped else ""
        )
        readout = _of_paths(found, f"{start} It receives {ways}{clip}. {_checked(run, given, received)}")
        yield readout
        if readout.num_prefix_tokens is not None and readout.layout == "NLD":
            yield replace(readout, num_prefix_tokens=None)  # the averaged tokens may be in another order
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
    """Name a tap by its reference, which a translator stores as the name of its layer."""
    return replace(tap, name=tap.reference)


def _steps(path: Path) -> str:
    neck = path.branch.neck
    named = [type(step).__name__ for step in neck.steps if type(step).__name__ != "Filled"] if neck else []
    return _NECK.format(", ".join(named)) if named else ""


def _checked(run: Trace, given: Tensor, expected: Tensor) -> str:
    error = difference(given, expected)
    return f"Checked on {run.batch_size} image(s): largest relative difference {error:.0e}."
