"""Context words that a class goes with: what the data offer as a shortcut, and whether the model takes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.methods.texplain.audit.class_words import ClassWords, Kind
from torchnle.methods.texplain.repair.linear import fit_linear
from torchnle.methods.texplain.words.table import WordTable
from torchnle.metrics.ranking import auroc, auroc_error

#: The data offer a word from here on: Cohen's d = 0.8, a large effect, as an area under the curve.
LARGE = 0.714
#: The model goes by the context from here on: Cohen's d = 0.5, a medium effect.
MEDIUM = 0.638
_Z = 1.96
#: Shares below this are one and the same: a word that is hardly said.
_FLOOR = 1e-6
#: Of the classifier of words; 0.01 finds as many conflicting images on composed waterbirds.
_PENALTY = 0.1


@dataclass(frozen=True)
class Shortcut:
    """A word that is not about a class, and how the class's images go with it.

    Args:
        word: The word.
        kind: What it is to the class: "other" (about another class), "background" or "unrelated".
        dataset: The probability that an image of the class says it more than an image of another class does.
        low: The lower end of that one's 95 % interval.
        offered: Whether `low` is a large effect: the data set is biased.
    """

    word: str
    kind: Kind
    dataset: float
    low: float
    offered: bool


@dataclass(frozen=True)
class ClassShortcuts:
    """The shortcuts of one class.

    Args:
        class_name: The class.
        words: The context words that go with it most, strongest first.
        model: The probability that the model is more confident in an image of the class whose context
            indicates the class than in one whose context indicates another; NaN where all contexts agree, or
            all disagree.
        model_low: The lower end of its 95 % interval.
        taken: Whether that is at least a medium effect: the model is biased.
        conflicting: How many images of the class have a context that indicates another one.
    """

    class_name: str
    words: tuple[Shortcut, ...]
    model: float
    model_low: float
    taken: bool
    conflicting: int

    @property
    def alarms(self) -> tuple[Shortcut, ...]:
        """The words that the data offer, if the model takes them; none = no shortcut found."""
        return tuple(each for each in self.words if each.offered and self.taken)

    @property
    def verdict(self) -> str:
        """The finding, in a sentence."""
        offered = ", ".join(each.word for each in self.words if each.offered)
        if not offered:
            return "no shortcut found"
        if not self.taken:
            return f"the data set is biased ({offered}), and the model does not go by it"
        return f"shortcut: {offered}"


@dataclass(frozen=True)
class ShortcutReport:
    """The shortcuts of every class, and how far each image's context contradicts its class.

    Args:
        classes: One a class, in order.
        conflict_scores: Minus the log-probability of an image's own class given its context words alone,
            (N,).
        context_class: The class that the context words alone indicate, (N,).
    """

    classes: tuple[ClassShortcuts, ...]
    conflict_scores: Float[Tensor, "N"]
    context_class: Int[Tensor, "N"]

    @property
    def alarms(self) -> tuple[tuple[str, Shortcut], ...]:
        """The class and word of every alarm."""
        return tuple((each.class_name, word) for each in self.classes for word in each.alarms)

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
    """Rank the context words of every class, and tell a bias of the data set from a bias of the model.

    *Do the data offer it?* A context word is said more of images of the class than of others. *Does the model
    take it?* A logistic regression guesses the class of every image from its context words alone; where it
    errs, the context indicates another class. Among images of one class, the model is then more confident in
    those whose context agrees. An alarm needs both, beyond the 95 % interval.

    A word counts by its share among context words, so that an object in plain view does not hide what is
    behind.

    Args:
        table: The words of every image.
        labels: The classes of the images.
        logits: The model's, one row an image, one column a class.
        class_words: Which words are about which class, and which are context.
        k: How many words a class.

    Raises:
        ValueError: If the numbers of images differ, there is no context word, or a class has fewer than two
            images.
    """
    _check(table, labels, logits, class_words)
    columns, shares = context_shares(table, class_words)
    names = class_words.class_names
    areas = torch.stack([auroc(shares, labels == c) for c in range(len(names))])
    lows = torch.stack([_low(area, labels == c) for c, area in enumerate(areas)])
    best = lows.topk(min(k, len(columns)), dim=1).indices
    verdicts = _guess(shares[:, torch.unique(best)], labels, len(names))
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
    """Find the context words of a table, and each one's share among them on every image.

    Context words are background words; where the table has none, all words that are about no class.

    Raises:
        ValueError: If there is none of either.
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


def _shortcut(word: str, label: int, area: float, low: float, class_words: ClassWords) -> Shortcut:
    return Shortcut(word, class_words.kind(word, label), area, low, low > LARGE)


def _guess(shares: Float[Tensor, "N W"], labels: Int[Tensor, "N"], classes: int) -> Float[Tensor, "N C"]:
    """The log-probability of every class given the context words alone."""
    x = shares.clamp_min(_FLOOR).log()
    guessed: Tensor = fit_linear(x, labels, classes, penalty=_PENALTY)(x).log_softmax(dim=1)
    return guessed


def _low(area: Float[Tensor, "W"], positive: Bool[Tensor, "N"]) -> Float[Tensor, "W"]:
    count = int(positive.sum())
    return area - _Z * auroc_error(area, count, len(positive) - count)


def _use(margin: Float[Tensor, "n"], agrees: Bool[Tensor, "n"]) -> tuple[float, float]:
    if agrees.all() or not agrees.any():
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
