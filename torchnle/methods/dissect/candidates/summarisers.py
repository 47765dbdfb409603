"""Summarisers: candidate labels from captions (Describe-and-Dissect, step 2B)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch

from torchnle.errors import MissingDependencyError
from torchnle.language.english.captions import phrases_of
from torchnle.methods.aligned.probability.vocabulary import Vocabulary
from torchnle.methods.aligned.text_choice import noun_mass
from torchnle.methods.dissect.candidates import prompts
from torchnle.methods.dissect.candidates.cleaning import clean_labels
from torchnle.methods.dissect.candidates.prompts import Message


@runtime_checkable
class Summariser(Protocol):
    """Summarises captions as candidate labels."""

    def __call__(self, captions: Sequence[str], count: int, seed: int = 0) -> list[str]:
        """Propose up to `count` clean labels, the likeliest first; none where no label fits."""
        ...


#: Answers a conversation; the number tells several answers to the same one apart.
Chat = Callable[[Sequence[Message], int], str]


class Extractive:
    """Summarises captions without a language model: the most frequent phrases, and their common hypernyms.

    Args:
        share: The least share of captions that a hypernym must cover.

    Example:
        >>> Extractive()(["a poodle", "a beagle", "a beagle on grass", "a bus"], 3)
        ['a beagle', 'a dog', 'a domestic animal']
    """

    def __init__(self, share: float = 0.6) -> None:
        self.share = share

    @property
    def fingerprint(self) -> str:
        """The identity of all that its summaries depend on."""
        return f"extractive {self.share}"

    def __call__(self, captions: Sequence[str], count: int, seed: int = 0) -> list[str]:
        """Propose labels; a phrase counts once a caption."""
        named = [list(dict.fromkeys(_phrases(caption))) for caption in captions if caption.strip()]
        counts = Counter(phrase for phrases in named for phrase in phrases)
        if not counts:
            return []
        scored = {phrase: number / len(named) for phrase, number in counts.items()}
        common = sorted(scored, key=lambda phrase: -scored[phrase])
        above = self._above(named, common)
        best = common[:1] + above[:2] + common[1:] + above[2:]
        return list(dict.fromkeys(best))[:count]

    def _above(self, named: list[list[str]], phrases: list[str]) -> list[str]:
        """Nouns above most captions, the most special first."""
        vocabulary = Vocabulary(phrases)
        column = {phrase: i for i, phrase in enumerate(vocabulary.phrases)}
        marks = torch.zeros(len(named), len(vocabulary))
        for row, listed in enumerate(named):
            marks[row, [column[phrase] for phrase in listed]] = 1.0
        covered = (noun_mass(marks, vocabulary) > 0).float().mean(dim=0)
        information = vocabulary.information
        order = (information + 1e-3 * covered).argsort(descending=True).tolist()
        return [
            vocabulary.nouns[i]
            for i in order
            if covered[i] >= self.share and vocabulary.nouns[i] not in column
        ]


class ChatSummariser:
    """Summarises captions by a chat model, one label per call, with the captions shuffled anew (A.1.3).

    Args:
        chat: The model: `LocalChat`, `ServedChat`, or any function.
        simplify: Simplify every caption first, by a call of its own, as in the paper.
        superclasses: Ask also for one of these in brackets after each label.

    Example:
        >>> ChatSummariser(lambda messages, number: "Birds.", simplify=False)(["a hen", "a duck"], 5)
        ['birds']
    """

    def __init__(self, chat: Chat, *, simplify: bool = True, superclasses: Sequence[str] = ()) -> None:
        self.chat, self.simplify, self.superclasses = chat, simplify, tuple(superclasses)

    @property
    def fingerprint(self) -> str | None:
        """The identity of all that its summaries depend on; None where the model does not say it."""
        mark = getattr(self.chat, "fingerprint", None)
        return None if mark is None else f"{mark} {self.simplify} {self.superclasses}"

    def __call__(self, captions: Sequence[str], count: int, seed: int = 0) -> list[str]:
        """Propose labels; an answer with commas is summarised again, as a list of captions."""
        given = [caption for caption in captions if caption.strip()]
        if self.simplify:
            given = [self._simplified(caption) for caption in given]
        if not given:
            return []
        draws = random.Random(seed)
        answers = []
        for number in range(count):
            shuffled = draws.sample(given, len(given))
            answer = self.chat(prompts.summarise(shuffled, self.superclasses), number)
            parts = [part.strip() for part in answer.splitlines()[0].split(",")] if answer.strip() else []
            if len(parts) > 1:
                answer = self.chat(prompts.summarise(parts, self.superclasses), number)
            answers.append(answer)
        return clean_labels(answers)

    def _simplified(self, caption: str) -> str:
        cleaned = clean_labels([self.chat(prompts.simplify(caption), 0)])
        return cleaned[0] if cleaned else caption


def parted(label: str, superclasses: Sequence[str]) -> tuple[str, str | None]:
    """Split a label from the superclass in brackets after it; None if it names none of them.

    Example:
        >>> parted("green rows (grapes)", ["grapes", "corn"]), parted("a (red) door", ["corn"])
        (('green rows', 'grapes'), ('a (red) door', None))
    """
    head, _, rest = label.rpartition("(")
    named = rest.rstrip(") ").strip().lower()
    found = next((name for name in superclasses if name.lower() == named), None)
    return (head.strip(), found) if found and head.strip() else (label, None)


@lru_cache(maxsize=65536)
def _phrases(caption: str) -> tuple[str, ...]:
    """The noun phrases of a caption, or the caption where none is found or the tagger is not installed."""
    try:
        return phrases_of(caption) or (caption,)
    except MissingDependencyError:
        return tuple(caption.split(" or "))
