"""The words from which a sentence on some evidence may be composed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.language.model import LanguageModel
from torchnle.methods.zero_shot.sentences.log_probs import NEUTRAL_PROMPT, sequence_log_probs
from torchnle.methods.zero_shot.sentences.words import Words

#: Where no noun is likely, one is said whose score on the evidence is at least this share of the best noun's.
_NEAR = 0.5
#: And that is known to the map at least this far.
_KNOWN = 0.5
#: So many words of several tokens, the nearest, are considered for a sentence.
_MOST_SPLIT = 32
#: Scores texts on the evidence, (T,).
Fit = Callable[[Sequence[str]], Tensor]


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


@dataclass(frozen=True)
class CandidateWords:
    """All words of a language model with their directions, from which candidates are chosen.

    Args:
        lm: The language model.
        words: Its words.
        directions: Their unit directions, (W, D).
        known: Their reliability, (W,).
    """

    lm: LanguageModel
    words: Words
    directions: Float[Tensor, "W D"]
    known: Float[Tensor, "W"]

    def choose(
        self,
        vector: Float[Tensor, "D"],
        fit: Fit,
        unwanted: Collection[str],
        likely: Bool[Tensor, "W"] | None = None,
        *,
        prompt: str = NEUTRAL_PROMPT,
    ) -> Candidates:
        """Choose the words for a sentence on some evidence.

        Args:
            vector: The unit evidence.
            fit: Scores sentences on it.
            unwanted: Words to exclude.
            likely: The nouns that are likely to be true; None, or none of them = those near to the evidence.
            prompt: The text before the sentence.
        """
        words, allowed = self.words, self.words.allowed(unwanted)
        nearness = self.directions @ vector * self.known
        nouns = words.named & words.seen
        true = nouns if likely is None else nouns & likely
        if likely is not None and true[allowed].any():
            nouns = true
        else:
            nouns = nouns & (self.known >= _KNOWN)
            best = nearness[nouns].max() if nouns.any() else nearness.max()
            nouns = nouns & (nearness >= _NEAR * best)
        may, later = self._spelled(~words.named | nouns, nearness, prompt)
        return Candidates(words, allowed[may[allowed]], nearness, fit, later)

    def _spelled(
        self, may: Bool[Tensor, "W"], nearness: Float[Tensor, "W"], prompt: str
    ) -> tuple[Bool[Tensor, "W"], Float[Tensor, "W"] | None]:
        """Keep the nearest of the words of several tokens, and estimate their tokens but the first.

        The estimate is after an article; a word's tokens depend on each other far more.
        """
        words = self.words
        split = (may & (words.counts > 1)).nonzero().flatten()
        if not len(split):
            return may & (words.counts == 1), None
        kept = split[nearness[split].topk(min(_MOST_SPLIT, len(split))).indices]
        article = self.lm.tokenize([" a"])[0]
        rows = [[*article, *words.pieces[i]] for i in kept.tolist()]
        found = sequence_log_probs(self.lm, rows, prompt)
        may = may & (words.counts == 1)
        may[kept] = True
        later = torch.zeros_like(nearness)
        later[kept] = torch.stack([each[len(article) + 1 :].sum() for each in found]).to(later)
        return may, later
