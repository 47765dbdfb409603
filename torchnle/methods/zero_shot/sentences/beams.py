"""A gradient-free beam search over a language model's proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Self

from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import DETERMINERS, with_right_articles
from torchnle.language.model import LanguageModel
from torchnle.methods.zero_shot.sentences.candidates import Candidates
from torchnle.methods.zero_shot.sentences.log_probs import next_log_probs, sequence_log_probs
from torchnle.methods.zero_shot.sentences.words import FUNCTION_WORDS, Words, qualities

#: One of so many first words is a noun.
_FIRST_NOUN = 4
#: So many words may make no sentence better before the search ends: enough for "on the grass".
_PATIENCE = 3
#: So many of a noun's commonest senses are compared with those of nouns before it.
_SENSES = 2


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
        prompt: The text before the sentence; "{}" stands for the class that is explained.
    """

    beams: int = 3
    proposals: int = 512
    encoded: int = 16
    most_words: int = 8
    least_words: int = 2
    completed: int = 24
    fluency: float = 0.15
    prompt: str = "This is {}, because the photo shows"

    def about(self, title: str) -> Self:
        """Name the class in the prompt.

        Example:
            >>> Search(prompt="This is {}, as it has").about("a hen").prompt
            'This is a hen, as it has'
        """
        return replace(self, prompt=self.prompt.replace("{}", title))

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
    found = _explored(lm, candidates, search)
    if not found:
        raise ValueError("no sentence was found: too few words are left. Pass fewer unwanted words.")
    kept = _ranked(ending_well(found, candidates.words, search), search)[: search.completed]
    kept = needed(kept, candidates) or kept[:1]
    return _ranked(completed(lm, kept, search.prompt), search)


def _explored(lm: LanguageModel, candidates: Candidates, search: Search) -> list[Beam]:
    """Score partial sentences, word by word, until some more words have made no sentence better."""
    beams, found, best, waited = [Beam()], list[Beam](), -float("inf"), 0
    for step in range(search.most_words):
        log_probs = next_log_probs(lm, [beam.ids for beam in beams], search.prompt)
        grown = grow(candidates, log_probs, beams, search, step)
        if not grown:
            break
        found += grown
        beams = _ranked(grown, search)[: search.beams]
        long = grown if step + 1 >= search.least_words else []
        ended = [beam.value(search) for beam in long if beam.words[-1] in candidates.words.nouns]
        waited = 0 if max(ended, default=best) > best else waited + 1
        best = max([best, *ended])
        if waited >= _PATIENCE and best > -float("inf"):
            break
    return found


def _ranked(beams: Sequence[Beam], search: Search) -> list[Beam]:
    return sorted(beams, key=lambda beam: beam.value(search), reverse=True)


def ending_well(found: Sequence[Beam], words: Words, search: Search) -> Sequence[Beam]:
    """Keep sentences that are long enough and end on a noun; else those with one of both properties."""
    named = [beam for beam in found if beam.words[-1] in words.nouns]
    long = [beam for beam in found if len(beam.words) >= search.least_words]
    return [beam for beam in named if len(beam.words) >= search.least_words] or named or long or found


def needed(beams: Sequence[Beam], candidates: Candidates) -> list[Beam]:
    """Keep sentences of which every modifier, and everything after the first noun, raises the score."""
    shorter = [_shortened(beam.words, candidates.words) for beam in beams]
    texts = list(dict.fromkeys(text for each in shorter for text in each))
    fits = dict(zip(texts, candidates.fit(texts).tolist(), strict=True)) if texts else {}
    return [b for b, each in zip(beams, shorter, strict=True) if all(fits[text] < b.fit for text in each)]


def _shortened(sentence: Sequence[str], words: Words) -> list[str]:
    """Leave out each modifier, and what a joining word and all after it add."""
    found = []
    for i, word in enumerate(sentence):
        if word in FUNCTION_WORDS:
            if word not in DETERMINERS and words.nouns & set(sentence[:i]):
                found.append(" ".join(sentence[:i]))
        elif i + 1 < len(sentence) and sentence[i + 1] not in FUNCTION_WORDS:
            found.append(with_right_articles(" ".join([*sentence[:i], *sentence[i + 1 :]])))
    return found


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
            if not repeats(beam.words, words.texts[number]):
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


def repeats(before: Sequence[str], word: str) -> bool:
    """Return whether a word names what an earlier word named; function words may recur, but not at once.

    Colours and attributes before another word name nothing: "a whole" may become "a whole bird".

    Example:
        >>> repeats(["a", "hen", "with", "a"], "bird"), repeats(["a", "hen", "on", "the"], "grass")
        (True, False)
    """
    if word in FUNCTION_WORDS:
        return list(before[-1:]) == [word]
    following = [*before, word][1:]
    pairs = [pair for pair in zip(before, following, strict=True) if pair[0] not in FUNCTION_WORDS]
    if any(word.removesuffix("s") == other.removesuffix("s") for other, _ in pairs):
        return True
    named = [other for other, after in pairs if after in FUNCTION_WORDS or other not in qualities()]
    return any(_related(word, other) for other in named)


@lru_cache(maxsize=65536)
def _related(word: str, other: str) -> bool:
    """Return whether a common sense of one noun is the same as, or a kind of, one of the other."""
    nouns, ones, others = Nouns.load(), _senses(word), _senses(other)
    return any(a in nouns.ancestors(b) or b in nouns.ancestors(a) for a in ones for b in others)


def _senses(word: str) -> list[int]:
    """The commonest senses of a noun, without those of persons ("a tiger": a fierce one) if it has others."""
    nouns = Nouns.load()
    person, common = nouns.senses("person")[0], nouns.common_senses(word)[:_SENSES]
    things = [sense for sense in common if person not in nouns.ancestors(sense)]
    return things or list(common)
