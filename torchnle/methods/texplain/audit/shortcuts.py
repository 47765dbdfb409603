"""Shortcuts: context words that are associated with a class in the data, and whether the model uses them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.methods.texplain.audit.class_words import ClassWords, Kind
from torchnle.methods.texplain.repair.linear import deal, fit_linear
from torchnle.methods.texplain.words.table import WordTable
from torchnle.metrics.ranking import auroc, auroc_error

#: The data offer a word from here on: Cohen's d = 0.8, a large effect, as an area under the curve.
LARGE = 0.714
#: The model goes by the context from here on: Cohen's d = 0.5, a medium effect.
MEDIUM = 0.638
_Z = 1.96
#: The standard error of an area under the curve does not hold for fewer images of a kind.
LEAST = 4
#: Shares below this are one and the same: a word that is hardly said.
_FLOOR = 1e-6
#: Of the classifier of words; 0.01 finds as many conflicting images on composed waterbirds.
_PENALTY = 0.1
#: In which the class is guessed from the context words.
_FOLDS = 5


@dataclass(frozen=True)
class Shortcut:
    """A context word, and the strength of its association with a class in the data.

    Args:
        word: The word.
        kind: Its relation to the class: "other" (it names another class), "background" or "unrelated".
        dataset: The probability (AUROC) that the word's share is larger in an image of the class than in an
            image of another class; 0.5 = no association.
        low: The lower end of its 95 % interval.
        in_data: Whether `low` is a large effect: the data set is biased.
    """

    word: str
    kind: Kind
    dataset: float
    low: float
    in_data: bool


@dataclass(frozen=True)
class ClassShortcuts:
    """The context words of one class, and how much the model depends on them.

    Args:
        class_name: The class.
        words: The context words of strongest association: those of a large effect first, by how much larger
            their mean share is in images of the class; then others by `low`.
        model: The probability (AUROC) that the model is more confident in an image of the class whose context
            indicates the class than in one whose context indicates another; NaN if fewer than four images are
            of one kind.
        model_low: The lower end of its 95 % interval.
        used_by_model: Whether that is at least a medium effect: the model uses the context.
        conflicting: The number of images of the class whose context indicates another class.
    """

    class_name: str
    words: tuple[Shortcut, ...]
    model: float
    model_low: float
    used_by_model: bool
    conflicting: int

    @property
    def found(self) -> tuple[Shortcut, ...]:
        """The shortcuts found: words associated with the class, if the model uses context; else ()."""
        return tuple(each for each in self.words if each.in_data and self.used_by_model)

    @property
    def tested(self) -> bool:
        """True if there were four images of both kinds, so that the model's dependence could be measured."""
        return not math.isnan(self.model)

    @property
    def verdict(self) -> str:
        """The result for the class, in one sentence."""
        biased = ", ".join(each.word for each in self.words if each.in_data)
        if not biased:
            return "no shortcut found"
        if not self.tested:
            return (
                f"the data set is biased ({biased}); whether the model uses it cannot be told: "
                f"{self.conflicting} images have a context that contradicts the class; add such images until "
                f"{LEAST} or more have one, and as many that agree with it"
            )
        if not self.used_by_model:
            return f"the data set is biased ({biased}), and the model does not go by it"
        return f"shortcut: {biased}"


@dataclass(frozen=True)
class ShortcutReport:
    """The shortcuts of every class, and how strongly each image's context contradicts its class.

    Args:
        classes: One entry per class, in order.
        conflict_scores: Minus the log-probability of an image's own class given its context words alone,
            (N,).
        context_class: The class that the context words alone indicate, (N,).
    """

    classes: tuple[ClassShortcuts, ...]
    conflict_scores: Float[Tensor, "N"]
    context_class: Int[Tensor, "N"]

    @property
    def found(self) -> tuple[tuple[str, Shortcut], ...]:
        """The (class name, shortcut) of every shortcut found."""
        return tuple((each.class_name, word) for each in self.classes for word in each.found)

    def conflicting(self, labels: Int[Tensor, "N"]) -> Bool[Tensor, "N"]:
        """Return a mask of the images whose context indicates another class."""
        return self.context_class != labels

    def __str__(self) -> str:
        return "\n".join(f"{each.class_name}: {each.verdict}" for each in self.classes)


def find_shortcuts(
    table: WordTable,
    labels: Int[Tensor, "N"],
    logits: Float[Tensor, "M C"],
    class_words: ClassWords,
    *,
    k: int = 10,
) -> ShortcutReport:
    """Rank the context words of every class, and test for a bias of the data set and of the model.

    Bias of the data set: the share of a context word is larger in images of the class than in others (AUROC).
    Bias of the model: a logistic regression, fitted to the other folds, predicts the class of every image
    from its context words only; if its prediction is another class, the context conflicts. The model is
    biased if, among images of one class, it is more confident in those without conflict (AUROC). A shortcut
    needs both, by the lower end of the 95 % interval.

    A word's share is relative to the context words only, so that it does not depend on how prominent the
    object is.

    Args:
        table: The words of every image.
        labels: The classes of the images.
        logits: The model's logits, one row per image, one column per class.
        class_words: Classifies words as class names or context.
        k: The number of words per class.

    Returns:
        The report.

    Raises:
        ValueError: If the numbers of images differ, there is no context word, or a class has fewer than two
            images.
    """
    _check(table, labels, logits, class_words)
    columns, shares = context_shares(table, class_words)
    names = class_words.class_names
    areas = torch.stack([auroc(shares, labels == c) for c in range(len(names))])
    lows = torch.stack([_low(area, labels == c) for c, area in enumerate(areas)])
    count = min(k, len(columns))
    verdicts = _guess(shares[:, torch.unique(lows.topk(count, dim=1).indices)], labels, len(names))
    best = _strength(shares, labels, lows).topk(count, dim=1).indices
    context_class = verdicts.argmax(dim=1)
    margins = _margins(logits)
    found = []
    for label, name in enumerate(names):
        words = [
            _shortcut(
                table.words[columns[i]], label, float(areas[label, i]), float(lows[label, i]), class_words
            )
            for i in best[label].tolist()
        ]
        own = labels == label
        agrees = context_class[own] == label
        model, low = _use(margins[own, label], agrees)
        found.append(ClassShortcuts(name, tuple(words), model, low, low > MEDIUM, int((~agrees).sum())))
    scores: Tensor = -verdicts.gather(1, labels[:, None])[:, 0]
    return ShortcutReport(tuple(found), scores, context_class)


def context_shares(table: WordTable, class_words: ClassWords) -> tuple[list[int], Float[Tensor, "N W"]]:
    """Find the context words of a table, and compute each one's share of them in every image.

    Context words are background words; if the table has none, all words that name no class.

    Raises:
        ValueError: If the table has neither.
    """
    free = [i for i, word in enumerate(table.words) if not class_words.about(word)]
    columns = [i for i in free if class_words.is_background(table.words[i])] or free
    if not columns:
        raise ValueError(
            f"all {len(table.words)} words are about the classes {list(class_words.class_names)}; a "
            f"shortcut is another "
            "word. Let the translator say more: vocabulary=..., or sentences with n=..."
        )
    chosen = table.frequencies[:, columns]
    return columns, chosen / chosen.sum(dim=1, keepdim=True).clamp_min(1e-12)


def _strength(
    shares: Float[Tensor, "N W"], labels: Int[Tensor, "N"], lows: Float[Tensor, "C W"]
) -> Float[Tensor, "C W"]:
    """Rank words of large effect by how much larger their mean share is in images of the class.

    The AUROC of words that only resemble the context reaches 1 as well, with shares of less than a percent.
    """
    own = torch.stack([labels == label for label in range(len(lows))])
    means = torch.stack([shares[mask].mean(dim=0) - shares[~mask].mean(dim=0) for mask in own])
    return torch.where(lows > LARGE, 1 + means, lows)


def _shortcut(word: str, label: int, area: float, low: float, class_words: ClassWords) -> Shortcut:
    return Shortcut(word, class_words.kind(word, label), area, low, low > LARGE)


def _guess(shares: Float[Tensor, "N W"], labels: Int[Tensor, "N"], classes: int) -> Float[Tensor, "N C"]:
    """The log-probability of every class given the context words alone, by a fit to the other folds.

    A fit to all images would know the class of each one, and would find hardly a conflict among few images.
    """
    x = shares.clamp_min(_FLOOR).log()
    count = min(_FOLDS, int(torch.bincount(labels, minlength=classes).min()))
    folds, guessed = deal(labels, count), torch.empty(len(x), classes)
    for fold in range(count):
        held = folds == fold
        layer = fit_linear(x[~held], labels[~held], classes, penalty=_PENALTY)
        guessed[held] = layer(x[held]).log_softmax(dim=1)
    return guessed


def _low(area: Float[Tensor, "W"], positive: Bool[Tensor, "N"]) -> Float[Tensor, "W"]:
    count = int(positive.sum())
    return area - _Z * auroc_error(area, count, len(positive) - count)


def _use(margin: Float[Tensor, "n"], agrees: Bool[Tensor, "n"]) -> tuple[float, float]:
    if min(int(agrees.sum()), int((~agrees).sum())) < LEAST:
        return float("nan"), float("nan")
    area = auroc(margin[:, None], agrees)
    return float(area), float(_low(area, agrees))


def _margins(logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """By how much each class's logit exceeds the largest other one."""
    best = logits.topk(2, dim=1).values
    return torch.where(logits == best[:, :1], logits - best[:, 1:], logits - best[:, :1])


def _check(table: WordTable, labels: Tensor, logits: Tensor, class_words: ClassWords) -> None:
    names = class_words.class_names
    if not len(table) == len(labels) == len(logits) or logits.shape[1] != len(names) or len(names) < 2:
        raise ValueError(
            f"{len(table)} rows of words, {len(labels)} labels, logits of {tuple(logits.shape)} and "
            f"{len(names)} class "
            "names; pass one row and label an image, and a logit a class, of two classes or more."
        )
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    few = [name for name, count in zip(names, counts, strict=False) if count < 2]
    if few:
        raise ValueError(
            f"the classes {few} have fewer than two images; an audit compares images within a class."
        )
