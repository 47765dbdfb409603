"""A gradient-free beam search over a language model's proposals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.model import LanguageModel
from torchnle.methods.zero_shot.sentences.log_probs import next_log_probs, sequence_log_probs
from torchnle.methods.zero_shot.sentences.words import FUNCTION_WORDS, Words

#: One of so many first words is a noun.
_FIRST_NOUN = 4
#: Scores texts on the evidence, (T,).
Fit = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Search:
    """The settings of the beam search for sentences.

    Args:
        beams: The number of partial sentences that are kept.
        proposals: The number of the language model's most probable words that are considered.
        encoded: How many of these, those that the mapped word vectors rank first, are encoded in their
            sentence, per partial sentence.
        most_words: The longest sentence.
        least_words: The shortest.
        completed: The number of best sentences that are completed by a full stop, and compared with it.
        fluency: The weight of the mean log-probability per token (nats) relative to the cosine.
        prompt: The text before the sentence.
    """

    beams: int = 3
    proposals: int = 512
    encoded: int = 16
    most_words: int = 8
    least_words: int = 2
    completed: int = 24
    fluency: float = 0.15
    prompt: str = "The photo shows"

    def __post_init__(self) -> None:
        words = (self.most_words, self.least_words)
        numbers = (self.beams, self.proposals, self.encoded, *words, self.completed)
        if min(numbers) < 1 or self.least_words > self.most_words:
            raise ValueError(
                f"beams, proposals, encoded, most_words, least_words and completed are {numbers}; pass "
                "positive numbers, and least_words of at most most_words."
            )


@dataclass(frozen=True)
class Beam:
    """A partial sentence of the beam search, with its scores.

    Args:
        ids: Its tokens.
        text: Its words.
        log_prob: The language model's log-probability of the tokens after the prompt.
        fit: Its score on the evidence.
    """

    ids: tuple[int, ...] = ()
    text: str = ""
    log_prob: float = 0.0
    fit: float = 0.0

    @property
    def fluency(self) -> float:
        """The mean log-probability of a token, in nats."""
        return self.log_prob / max(1, len(self.ids))

    @property
    def words(self) -> list[str]:
        """The words so far."""
        return self.text.split()

    def value(self, search: Search) -> float:
        """Compute the objective of the search: score on the evidence plus weighted fluency."""
        return self.fit + search.fluency * self.fluency


@dataclass(frozen=True)
class Candidates:
    """The words from which a sentence on some evidence is composed, with their scores.

    Args:
        words: The words of the language model.
        allowed: The indices of the allowed words.
        nearness: The score of every word on the evidence, (W,).
        fit: Scores sentences on the evidence.
        later: The log-probability of each word's tokens but the first, estimated once; None = all words are
            one token.
    """

    words: Words
    allowed: Int[Tensor, "A"]
    nearness: Float[Tensor, "W"]
    fit: Fit
    later: Float[Tensor, "W"] | None = None


@torch.no_grad()
def write(lm: LanguageModel, candidates: Candidates, search: Search) -> list[Beam]:
    """Search for sentences that describe some evidence and are fluent, best first.

    Every partial sentence that was scored is a candidate, where it is long enough and ends on a noun; else
    those with one of both properties. The best are completed by a full stop, whose probability counts.

    Args:
        lm: The language model, whose most probable words are the proposals.
        candidates: The allowed words and their scores.
        search: The settings.

    Raises:
        ValueError: If no sentence was found: too many words are unwanted.
    """
    beams, found = [Beam()], list[Beam]()
    for step in range(search.most_words):
        log_probs = next_log_probs(lm, [beam.ids for beam in beams], search.prompt)
        grown = grow(candidates, log_probs, beams, search, step)
        if not grown:
            break
        found += grown
        beams = _ranked(grown, search)[: search.beams]
    if not found:
        raise ValueError("no sentence was found: too few words are left. Pass fewer unwanted words.")
    kept = _ranked(ending_well(found, candidates.words, search), search)[: search.completed]
    return _ranked(completed(lm, kept, search.prompt), search)


def _ranked(beams: Sequence[Beam], search: Search) -> list[Beam]:
    return sorted(beams, key=lambda beam: beam.value(search), reverse=True)


def ending_well(found: Sequence[Beam], words: Words, search: Search) -> Sequence[Beam]:
    """Keep sentences that are long enough and end on a noun; else those with one of both properties."""
    named = [beam for beam in found if beam.words[-1] in words.nouns]
    long = [beam for beam in found if len(beam.words) >= search.least_words]
    return [beam for beam in named if len(beam.words) >= search.least_words] or named or long or found


def completed(lm: LanguageModel, beams: Sequence[Beam], prompt: str) -> list[Beam]:
    """Complete sentences by a full stop, with their exact log-probabilities."""
    stop = lm.tokenize(["."])[0][-1]
    rows = [(*beam.ids, stop) for beam in beams]
    found = sequence_log_probs(lm, rows, prompt)
    return [
        replace(beam, ids=row, log_prob=float(each.sum()))
        for beam, row, each in zip(beams, rows, found, strict=True)
    ]


def grow(
    candidates: Candidates,
    log_probs: Float[Tensor, "B V"],
    beams: Sequence[Beam],
    search: Search,
    step: int = 0,
) -> list[Beam]:
    """Extend every beam by the best-ranked words, and score the resulting sentences.

    Args:
        candidates: The allowed words and their scores.
        log_probs: The log-probabilities of the next token of each beam.
        beams: The partial sentences.
        search: The settings.
        step: How many words the beams have. The last word is a noun, and one of the first few is.
    """
    words, grown = candidates.words, list[Beam]()
    for beam, behind in zip(beams, log_probs, strict=True):
        waits = words.nouns.isdisjoint(beam.words)
        due = step == search.most_words - 1 or (waits and step >= _FIRST_NOUN - 1)
        allowed = _in_turn(candidates, nouns_only=due, opening=waits)
        likely = behind[words.tokens[allowed]]
        likely = likely if candidates.later is None else likely + candidates.later[allowed]
        values, order = likely.topk(min(search.proposals, len(allowed)))
        indices = allowed[order]
        means = (beam.log_prob + values) / (len(beam.ids) + words.counts[indices])
        worth = means * search.fluency + candidates.nearness[indices]
        for index in worth.topk(min(search.encoded, len(worth))).indices.tolist():
            number = int(indices[index])
            if not _repeats(beam.text, words.texts[number]):
                ids = (*beam.ids, *words.pieces[number])
                text = f"{beam.text} {words.texts[number]}".strip()
                grown.append(Beam(ids, text, beam.log_prob + float(values[index])))
    fits = candidates.fit([beam.text for beam in grown]).tolist() if grown else []
    return [replace(beam, fit=score) for beam, score in zip(grown, fits, strict=True)]


def _in_turn(candidates: Candidates, *, nouns_only: bool, opening: bool) -> Int[Tensor, "A"]:
    """List the words that may come next: nouns where one is due, and nothing that joins before the first."""
    words, allowed = candidates.words, candidates.allowed
    if nouns_only and words.named[allowed].any():
        return allowed[words.named[allowed]]
    return allowed[~words.joining[allowed]] if opening else allowed


def _repeats(text: str, word: str) -> bool:
    """Return whether a word was said before, in either number; small words may recur, but not at once."""
    words = text.split()
    if word in FUNCTION_WORDS:
        return words[-1:] == [word]
    return any(word.removesuffix("s") == other.removesuffix("s") for other in words)
