"""New classes for a trained classifier, from their names alone (Zero-shot NLE, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.fit import class_phrase
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.zero_shot.classifier import FittedClassifier, HeadReader, fit_classifier, own_bias
from torchnle.vision.arguments import checked

#: Draws of classes that are treated as new ones to find how far new rows stand back.
_DRAWS = 10
#: How many offsets are tried between the least and the largest margin.
_STEPS = 101


class ExtendedClassifier(HeadReader):
    """A classifier with further rows in its head.

    Args:
        source: The classifier, fitted.
        new_names: The names of the new classes.
        weight: Their rows, (n, D).
        bias: Their biases, (n,).
        offset: What the calibration added to these biases.

    Attributes:
        class_names: The old names, then the new ones, as the logits are ordered.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        source: FittedClassifier,
        new_names: Sequence[str],
        weight: Float[Tensor, "n D"],
        bias: Float[Tensor, "n"],
        offset: float,
    ) -> None:
        super().__init__(source.model, source.head)
        self.class_names = (*source.names, *new_names)
        self.offset = offset
        self.register_buffer("weight", torch.cat([source.head.weight.detach().float(), weight]))
        self.register_buffer("bias", torch.cat([own_bias(source.head), bias]))

    def forward(self, images: Float[Tensor, "N channels H W"]) -> Float[Tensor, "N M"]:
        """Compute the logits of all classes, the old ones first and as they were."""
        return self.logits(super().forward(images), self.weight, self.bias)


@checked
def extend_classifier(
    model: nn.Module,
    names: Sequence[str],
    *,
    class_names: Iterable[object] | Mapping[Any, Any] | None = None,
    example: Tensor | None = None,
    images: Iterable[Tensor] | None = None,
    encoder: TextEncoder | str | None = None,
    prompts: Sequence[str] = ("{}",),
) -> ExtendedClassifier:
    """Add classes to a trained classifier by their names, without an image of them.

    The row of a new class is what the map from text gives for its name, as long as the mean row. Seen classes
    lie nearer to every picture than new ones; how far the new biases are raised is found without images, by
    treating classes that the model knows as new ones.

    Args:
        model: The classifier, unmodified; the result runs it and shares its parameters.
        names: The names of the new classes.
        class_names: Those of the model's own, one a row of its head; None = as its configuration states.
        example: A few inputs for the dry run that finds the head.
        images: Unlabelled pictures, batch by batch, for their statistics; None = without.
        encoder: The sentence encoder, or its reference.
        prompts: Templates around a new name with its article, "a photo of {}"; their directions are averaged.

    Raises:
        TypeError: If `names` is one string.
        ValueError: If a name is blank, one of the model's own or given twice; if a prompt has no "{}"; if no
            linear head gives the model's output, or `class_names` do not fit it.

    Example:
        >>> extended = extend_classifier(model, ["red panda"], class_names=names)  # doctest: +SKIP
        >>> extended(images).shape, extended.class_names[-1]  # doctest: +SKIP
        (torch.Size([1, 1001]), 'red panda')
    """
    new = check_texts(names)
    source = fit_classifier(model, class_names, example=example, images=images, encoder=encoder)
    _check_new(new, source.names, prompts)
    directions = new_directions(source, new, prompts)
    center, norm = source.head.weight.detach().float().mean(dim=0), source.fitted.class_norms.mean()
    offset = calibrate(source, len(new))
    bias = own_bias(source.head).mean() + offset
    weight = center + norm * directions.to(center)
    return ExtendedClassifier(source, new, weight, bias.expand(len(new)), offset)


def new_directions(
    source: FittedClassifier, names: Sequence[str], prompts: Sequence[str] = ("{}",)
) -> Float[Tensor, "n D"]:
    """Map new names to unit directions, averaged over prompts."""
    texts = [prompt.replace("{}", class_phrase(name)) for prompt in prompts for name in names]
    found = source.fitted.directions(embed_cached(source.encoder, texts))
    return F.normalize(found.view(len(prompts), len(names), -1).mean(dim=0), dim=1)


@torch.no_grad()
def calibrate(source: FittedClassifier, count: int, *, seed: int = 0) -> float:
    """Find the bias of new classes among the old, from the weights alone.

    Some classes at a time are treated as new: their rows are what the regression predicts without them. A
    picture of a class is stood for by a feature that points along the class's own row. The offset makes the
    harmonic mean of the rates, at which old and new classes are then told, the largest.

    Args:
        source: The classifier, fitted.
        count: How many classes are to be new.
        seed: Draws the classes.
    """
    regression = source.fitted.regression
    if not isinstance(regression, KernelRidge):
        raise ValueError("only a map by kernel ridge regression can be calibrated without images.")
    own = source.fitted.targets
    norms, bias = source.fitted.class_norms, own_bias(source.head)
    old = source.distance * own @ (own * norms[:, None]).T + bias
    new = source.distance * own @ F.normalize(regression.left_out(), dim=1).T * norms.mean() + bias.mean()
    generator = torch.Generator().manual_seed(seed)
    drawn = min(max(count, 1), max(1, len(own) // 3))
    draws = [torch.randperm(len(own), generator=generator)[:drawn].to(own.device) for _ in range(_DRAWS)]
    margins = (old.amax(dim=1) - new.amax(dim=1)).sort().values
    tried = torch.linspace(min(0.0, float(margins[0])), float(margins[-1]), _STEPS).tolist()
    best: float = max(tried, key=lambda offset: sum(_harmonic(old, new, unseen, offset) for unseen in draws))
    return best


def _harmonic(old: Float[Tensor, "C C"], new: Float[Tensor, "C C"], unseen: Tensor, offset: float) -> float:
    """The harmonic mean of the rates at which old classes and those treated as new are told."""
    logits = old.clone()
    logits[:, unseen] = new[:, unseen] + offset
    right = logits.argmax(dim=1) == torch.arange(len(old), device=old.device)
    mark = torch.zeros(len(old), dtype=torch.bool, device=old.device)
    mark[unseen] = True
    seen_rate, unseen_rate = (float(right[m].float().mean()) for m in (~mark, mark))
    return 2 * seen_rate * unseen_rate / max(seen_rate + unseen_rate, 1e-9)


def _check_new(new: Sequence[str], old: Sequence[str], prompts: Sequence[str]) -> None:
    taken = [name for index, name in enumerate(new) if name in old or name in new[:index]]
    if taken:
        raise ValueError(f"{taken[0]!r} is a class already, or is given twice; pass names of new classes.")
    wrong = [prompt for prompt in prompts if "{}" not in prompt]
    if wrong or not prompts:
        raise ValueError(f"prompts are {list(prompts)}; pass templates that hold {{}} for the name.")
