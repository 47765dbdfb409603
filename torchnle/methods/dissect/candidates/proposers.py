"""Proposers: candidate labels from a unit's exemplars (the whole of step 2)."""

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
    """Candidate labels of one unit, with the captions that they summarise.

    Args:
        labels: The labels, most probable first; possibly none.
        captions: The captions of the exemplars, if they were captioned.
        note: The reason of a failure; "" if there was none.
    """

    labels: tuple[str, ...]
    captions: tuple[str, ...] = ()
    note: str = ""


@runtime_checkable
class Proposer(Protocol):
    """Proposes candidate labels from a unit's exemplars."""

    def __call__(self, exemplars: Sequence[Exemplar], count: int, seed: int) -> Proposal:
        """Propose up to `count` labels."""
        ...


@dataclass(frozen=True)
class CaptionAndSummarise:
    """Proposes labels by captioning every exemplar and summarising the captions (section 3.2).

    If the summariser fails or returns no label, `fallback` is used, and the proposal's note says so. Without
    a summariser the captions themselves are the candidates (ablation A.4.6).

    Args:
        captioner: Captions exemplars.
        summariser: Summarises captions; None = the captions are the candidates.
        fallback: Replaces a summariser that fails.

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
        """The identity of everything that its proposals depend on; None if a part has no identity."""
        parts = [self.captioner, self.fallback, *([] if self.summariser is None else [self.summariser])]
        marks = [getattr(part, "fingerprint", None) for part in parts]
        return None if None in marks else f"{marks}"

    def __call__(self, exemplars: Sequence[Exemplar], count: int, seed: int) -> Proposal:
        """Propose labels."""
        return self.summarise(self.captioner(exemplars), count, seed)

    def summarise(self, captions: Sequence[str], count: int, seed: int) -> Proposal:
        """Propose labels from given captions."""
        cleaned = tuple(" ".join(caption.split()) for caption in captions)
        nonempty = [caption for caption in cleaned if caption]
        if not nonempty:
            return Proposal((), cleaned, "the captioner said nothing of any exemplar")
        if self.summariser is None:
            return Proposal(
                tuple(clean_labels(nonempty)[:count] or list(dict.fromkeys(nonempty))[:count]), cleaned
            )
        try:
            labels = self.summariser(nonempty, count, seed)
        except (TimeoutError, ConnectionError) as error:
            return self._instead(cleaned, nonempty, count, seed, str(error))
        if not labels:
            return self._instead(
                cleaned, nonempty, count, seed, "the summariser answered nothing that is a label"
            )
        return Proposal(tuple(labels), cleaned)

    def _instead(
        self, captions: tuple[str, ...], nonempty: list[str], count: int, seed: int, why: str
    ) -> Proposal:
        labels = self.fallback(nonempty, count, seed)
        return Proposal(tuple(labels), captions, f"summarised without it: {why}")


@dataclass(frozen=True)
class Multimodal:
    """Proposes labels by a multimodal model that is shown the exemplars (A.4.4).

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
