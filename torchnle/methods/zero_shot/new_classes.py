"""Add classes to a trained classifier by their names (Zero-shot NLE, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.fit import class_phrase
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.zero_shot.classifier import FittedClassifier, HeadReader, fit_classifier, own_bias
from torchnle.public_calls import checked

#: Draws of classes that are treated as new ones to find how far new rows stand back.
_DRAWS = 10
#: The offsets that are tried, in logits.
_OFFSETS = tuple(step / 4 for step in range(-20, 61))
#: The head's mean confidence on features that stand for pictures; 0.5 to 0.9 give the same offset to 1.
_CONFIDENCE = 0.7


class ExtendedClassifier(HeadReader):
    """A classifier with additional classes, as further rows of its head.

    Args:
        source: The classifier, fitted.
        new_names: The names of the new classes.
        weight: Their rows, (n, D).
        bias: Their biases, (n,).
        offset: The calibration offset in these biases.

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
        """Compute the logits of all classes, the original ones first and unchanged."""
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

    The row of a new class is the map's direction of its name, with the mean row's norm. Trained classes score
    higher on every picture than new ones; the biases of the new classes are calibrated without labels, by
    treating trained classes as new ones: on `images`, or on features drawn from the weights.

    Args:
        model: The classifier, unmodified; the result runs it and shares its parameters.
        names: The names of the new classes.
        class_names: Those of the model's own, one per row of its head; None = as its configuration states.
        example: A few inputs for the dry run that finds the head.
        images: Unlabelled pictures of the kind to be read, batch by batch; some dozens find more new ones.
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
    """Calibrate the bias of new classes relative to the trained ones, without labels.

    Some classes at a time are treated as new, with the rows that the regression predicts without them. The
    offset maximises the harmonic mean of the rates at which the model's own predictions of trained and of new
    classes are reproduced.

    Args:
        source: The classifier, fitted.
        count: The number of new classes.
        seed: The seed of the draws of classes.

    Returns:
        The offset.
    """
    regression = source.fitted.regression
    if not isinstance(regression, KernelRidge):
        raise ValueError("only a map by kernel ridge regression can be calibrated without labels.")
    generator = torch.Generator().manual_seed(seed)
    rows = source.sample
    if rows is None or len(set(_decided(source, rows).tolist())) < 2:
        rows = synthetic_features(source, generator)
    truth = _decided(source, rows)
    old, classes = _old_logits(source, rows), torch.tensor(sorted(set(truth.tolist())))
    norm, bias = source.fitted.class_norms.mean(), own_bias(source.head).mean()
    left_out = F.normalize(regression.left_out(), dim=1)
    new = rows @ left_out.T * norm + bias
    drawn = min(max(count, 1), max(1, len(classes) // 3))
    score = torch.zeros(len(_OFFSETS))
    for _ in range(_DRAWS):
        unseen = classes[torch.randperm(len(classes), generator=generator)[:drawn]].to(truth.device)
        score += _harmonic(old, new[:, unseen], truth, unseen)
    return _OFFSETS[int(score.argmax())]


def synthetic_features(source: FittedClassifier, generator: torch.Generator) -> Float[Tensor, "C D"]:
    """Draw a synthetic pooled feature for every class, from the weights only.

    It is a sum of the class's row and a random mixture of all rows, scaled so that the head's mean confidence
    is that of classifiers on pictures.
    """
    own = source.fitted.targets
    mixed = F.normalize(torch.randn(len(own), len(own), generator=generator).to(own) @ own, dim=1)

    def drawn(share: float) -> Tensor:
        found: Tensor = source.fitted.center + source.distance * (share * own + (1 - share**2) ** 0.5 * mixed)
        return found

    def surprise(share: float) -> float:
        confidence = _old_logits(source, drawn(share)).softmax(dim=1).amax(dim=1).mean()
        return abs(float(confidence) - _CONFIDENCE)

    return drawn(min((step / 50 for step in range(1, 51)), key=surprise))


def _old_logits(source: FittedClassifier, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
    """The head's logits but for a constant a row, which new rows have not either."""
    weight = source.fitted.targets * source.fitted.class_norms[:, None]
    return F.linear(rows, weight, own_bias(source.head))


def _decided(source: FittedClassifier, rows: Float[Tensor, "N D"]) -> Int[Tensor, "N"]:
    return _old_logits(source, rows).argmax(dim=1)


def _harmonic(
    old: Float[Tensor, "N C"], new: Float[Tensor, "N n"], truth: Int[Tensor, "N"], unseen: Int[Tensor, "n"]
) -> Float[Tensor, "offsets"]:
    """The harmonic mean, by offset, of the rates at which old classes and those treated as new are told."""
    best, kept = old.index_fill(1, unseen, -torch.inf).max(dim=1)
    top, told = new.max(dim=1)
    is_new, right_new = torch.isin(truth, unseen), unseen[told] == truth
    rates = []
    for offset in _OFFSETS:
        wins = top + offset > best
        seen = (~wins & (kept == truth))[~is_new].float().mean()
        unseen_rate = (wins & right_new)[is_new].float().mean()
        rates.append(2 * seen * unseen_rate / (seen + unseen_rate).clamp(min=1e-9))
    found: Tensor = torch.stack(rates).cpu().nan_to_num()
    return found


def _check_new(new: Sequence[str], old: Sequence[str], prompts: Sequence[str]) -> None:
    taken = [name for index, name in enumerate(new) if name in old or name in new[:index]]
    if taken:
        raise ValueError(f"{taken[0]!r} is a class already, or is given twice; pass names of new classes.")
    wrong = [prompt for prompt in prompts if "{}" not in prompt]
    if wrong or not prompts:
        raise ValueError(f"prompts are {list(prompts)}; pass templates that hold {{}} for the name.")
