"""Proposers: from a unit's exemplars to its candidate labels (step 2 as a whole)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torchnle.methods.dissect.candidates.captioners import Captioner
from torchnle.methods.dissect.candidates.cleaning import clean_labels
from torchnle.methods.dissect.candidates.served_chat import ServedChat
from torchnle.methods.dissect.candidates.summarisers import Extractive, Summariser
from torchnle.methods.dissect.exemplars.exemplar import Exemplar


@dataclass(frozen=True)
class Proposal:
    """Candidate labels of a unit.

    Args:
        labels: The likeliest first; none where nothing was found.
        captions: What the exemplars show, where they were captioned.
        note: What went wrong, "" if nothing did.
    """

    labels: tuple[str, ...]
    captions: tuple[str, ...] = ()
    note: str = ""


@runtime_checkable
class Proposer(Protocol):
    """Makes candidate labels of exemplars."""

    def __call__(self, exemplars: Sequence[Exemplar], count: int, seed: int) -> Proposal:
        """Propose up to `count` labels."""
        ...


@dataclass(frozen=True)
class CaptionAndSummarise:
    """Captions every exemplar and summarises the captions (section 3.2).

    Where the summariser fails or answers nothing of use, the extractive one takes its place, and the
    proposal's note says so. No summariser: the captions themselves are the candidates (ablation A.4.6).

    Args:
        captioner: Captions exemplars.
        summariser: Summarises captions; None = the captions are the candidates.
        fallback: Takes the place of a summariser that fails.

    Example:
        >>> propose = CaptionAndSummarise(lambda exemplars: ["a hen", "a duck"], Extractive())
        >>> propose([], 2, 0).labels
        ('a hen', 'a bird')
    """

    captioner: Captioner
    summariser: Summariser | None
    fallback: Summariser = field(default_factory=Extractive)

    @property
    def fingerprint(self) -> str | None:
        """The identity of all that its proposals depend on; None where a part does not say it."""
        parts = [self.captioner, self.fallback, *([] if self.summariser is None else [self.summariser])]
        marks = [getattr(part, "fingerprint", None) for part in parts]
        return None if None in marks else f"{marks}"

    def __call__(self, exemplars: Sequence[Exemplar], count: int, seed: int) -> Proposal:
        """Propose labels."""
        return self.summarise(self.captioner(exemplars), count, seed)

    def summarise(self, captions: Sequence[str], count: int, seed: int) -> Proposal:
        """Propose labels for captions that are there already."""
        given = tuple(" ".join(caption.split()) for caption in captions)
        said = [caption for caption in given if caption]
        if not said:
            return Proposal((), given, "the captioner said nothing of any exemplar")
        if self.summariser is None:
            return Proposal(tuple(clean_labels(said)[:count] or list(dict.fromkeys(said))[:count]), given)
        try:
            labels = self.summariser(said, count, seed)
        except (TimeoutError, ConnectionError) as error:
            return self._instead(given, said, count, seed, str(error))
        if not labels:
            return self._instead(given, said, count, seed, "the summariser answered nothing that is a label")
        return Proposal(tuple(labels), given)

    def _instead(self, given: tuple[str, ...], said: list[str], count: int, seed: int, why: str) -> Proposal:
        labels = self.fallback(said, count, seed)
        return Proposal(tuple(labels), given, f"summarised without it: {why}")


@dataclass(frozen=True)
class Multimodal:
    """Shows one multimodal model the exemplars, and asks it for the labels (A.4.4).

    Args:
        chat: The model.
    """

    chat: ServedChat

    def __call__(self, exemplars: Sequence[Exemplar], count: int, seed: int) -> Proposal:
        """Propose labels."""
        try:
            labels = self.chat.look(exemplars, count, seed)
        except (TimeoutError, ConnectionError) as error:
            return Proposal((), (), str(error))
        return Proposal(tuple(labels), (), "" if labels else "the model answered nothing that is a label")
