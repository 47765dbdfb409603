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
#: So many of the best sentences with words of several tokens get their exact log-probabilities.
_EXACT = 8
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
        fluency: The weight of the mean log-probability per token (nats) relative to the cosine.
        prompt: The text before the sentence.
    """

    beams: int = 3
    proposals: int = 512
    encoded: int = 16
    most_words: int = 8
    least_words: int = 2
    fluency: float = 0.1
    prompt: str = "The photo shows"

    def __post_init__(self) -> None:
        numbers = (self.beams, self.proposals, self.encoded, self.most_words, self.least_words)
        if min(numbers) < 1 or self.least_words > self.most_words:
            raise ValueError(
                f"beams, proposals, encoded, most_words and least_words are {numbers}; pass positive "
                "numbers, and least_words of at most most_words."
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

    A sentence ends where it is worth most with the probability of a full stop counted in, and on a noun: its
    last word can be nothing else, and where no beginning that is long enough does, a shorter one is taken.

    Args:
        lm: The language model, whose most probable words are the proposals.
        candidates: The allowed words and their scores.
        search: The settings.

    Raises:
        ValueError: If no sentence was found: too many words are unwanted.
    """
    stop = lm.tokenize(["."])[0][-1]
    beams, finished = [Beam()], list[Beam]()
    for step in range(search.most_words + 1):
        log_probs = next_log_probs(lm, [beam.ids for beam in beams], search.prompt)
        if step:
            finished += ended(beams, stop, log_probs[:, stop].tolist())
        grown = grow(candidates, log_probs, beams, search, step) if step < search.most_words else []
        if not grown:
            break
        beams = sorted(grown, key=lambda beam: beam.value(search), reverse=True)[: search.beams]
    if not finished:
        raise ValueError("no sentence was found: too few words are left. Pass fewer unwanted words.")
    best = sorted(ending_well(finished, candidates.words, search), key=_value(search), reverse=True)
    if candidates.later is not None:
        best = sorted(exactly(lm, best[:_EXACT], search.prompt), key=_value(search), reverse=True)
    return best


def _value(search: Search) -> Callable[[Beam], float]:
    return lambda beam: beam.value(search)


def ending_well(finished: Sequence[Beam], words: Words, search: Search) -> Sequence[Beam]:
    """Keep sentences that are long enough and end on a noun; else those with one of both properties."""
    named = [beam for beam in finished if beam.words[-1] in words.nouns]
    long = [beam for beam in finished if len(beam.words) >= search.least_words]
    return [beam for beam in named if len(beam.words) >= search.least_words] or named or long or finished


def exactly(lm: LanguageModel, beams: Sequence[Beam], prompt: str) -> list[Beam]:
    """Compute the log-probabilities of complete sentences anew, without estimates."""
    found = sequence_log_probs(lm, [beam.ids for beam in beams], prompt)
    return [replace(beam, log_prob=float(each.sum())) for beam, each in zip(beams, found, strict=True)]


def ended(beams: Sequence[Beam], stop: int, ends: Sequence[float]) -> list[Beam]:
    """Complete partial sentences by a full stop."""
    return [
        replace(beam, ids=(*beam.ids, stop), log_prob=beam.log_prob + end)
        for beam, end in zip(beams, ends, strict=True)
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
