"""The nouns that are probably true of a picture, by the posterior over a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.language.english.head_nouns import last_word
from torchnle.language.english.nouns import Nouns
from torchnle.methods.aligned.probability.vocabulary import MOST_KINDS, Vocabulary

#: So many of a word's commonest senses count.
_SENSES = 3
#: Bits that being right is worth beside what a word says, as in descriptions (`aligned.text_choice`).
_WORTH = 5.0
#: Of several probable nouns, those with at least this share of the best one's expected information are used.
_NEARLY = 0.8


@dataclass(frozen=True)
class LikelyNouns:
    """The phrases of a vocabulary that make each noun true: WordNet hyponyms, or phrases that end in it.

    Args:
        about: One where a phrase makes a word true, (W, P); sparse.
        information: Each word's information content, in bits: minus log2 of the share of phrases that make
            it true; 0 for none or all.

    Example:
        >>> words = ["dog", "poodle", "cat", "sky"]
        >>> likely = LikelyNouns.of(words, Vocabulary(["a tabby cat", "a poodle", "a beagle"]))
        >>> shares = torch.tensor([0.1, 0.5, 0.4])
        >>> [round(p, 1) for p in likely.probabilities(shares).tolist()]
        [0.9, 0.5, 0.1, 0.0]
        >>> chosen = likely.most_informative(shares, sure_above=0.4).tolist()
        >>> [word for word, is_chosen in zip(words, chosen) if is_chosen]
        ['dog']
        >>> chosen = likely.most_informative(shares, 1.1, phrase=0).tolist()
        >>> [word for word, is_chosen in zip(words, chosen) if is_chosen]
        ['cat']
    """

    about: Float[Tensor, "W P"]
    information: Float[Tensor, "W"]

    @classmethod
    def of(cls, words: Sequence[str], vocabulary: Vocabulary) -> LikelyNouns:
        """Find the phrases below every word.

        Args:
            words: Nouns; other words are about nothing.
            vocabulary: Its phrases are counted.
        """
        rows, nouns = _by_meaning(words), Nouns.load()
        numbers = {word: index for index, word in enumerate(words)}
        linked = [(i, synset) for i, synset in enumerate(vocabulary.synsets) if synset is not None]
        pairs = {
            (row, column)
            for column, synset in linked
            for noun in nouns.ancestors(synset) | {synset}
            for row in rows.get(noun, ())
        }
        for column, text in enumerate(vocabulary.phrases):
            row = numbers.get(last_word(text))
            if row is not None and words[row]:
                pairs.add((row, column))
        indices = torch.tensor(sorted(pairs), dtype=torch.long).reshape(-1, 2).T
        size = (len(words), len(vocabulary))
        below = torch.bincount(indices[0], minlength=len(words)).float()
        bits = torch.log2(max(1, len(linked)) / below.clamp(min=1))
        about = torch.sparse_coo_tensor(
            indices, torch.ones(len(pairs)), size, check_invariants=False
        ).coalesce()
        return cls(about, torch.where(below > 0, bits, 0.0))

    def probabilities(self, shares: Float[Tensor, "P"]) -> Float[Tensor, "W"]:
        """Sum the probabilities of the phrases that make each word true, on the device of `shares`."""
        found: Tensor = torch.sparse.mm(self.about.to(shares.device), shares.float()[:, None])[:, 0]
        return found.clamp(max=1)

    def most_informative(
        self,
        shares: Float[Tensor, "P"],
        sure_above: float,
        phrase: int | None = None,
        among: Bool[Tensor, "W"] | None = None,
    ) -> Bool[Tensor, "W"]:
        """Mark the nouns of the largest expected information, of those of sufficient probability if any are.

        Expected information is the probability times the bits, as in `choose_texts`; nouns with nearly as
        much as the best are marked too where one is sufficiently probable.

        Args:
            shares: The probability of each phrase.
            sure_above: The least probability of a noun; that of sure descriptions.
            phrase: Where no noun is likely enough, the phrase, of the predicted class, that the noun must be
                about, if any is.
            among: The nouns that may be marked, if any of these is probable at all; None = all.
        """
        known, bits = self.probabilities(shares), self.information.to(shares.device)
        worth = known * (bits + _WORTH) * (bits > 0)
        if among is not None and (worth * among).any():
            worth = worth * among
        sure = worth * (known >= sure_above)
        if sure.any():
            return sure >= _NEARLY * sure.max()
        if phrase is not None and (own := worth * self._about(phrase).to(worth.device)).any():
            worth = own
        return (worth >= worth.max()) & (worth > 0)

    def _about(self, phrase: int) -> Bool[Tensor, "W"]:
        rows, columns = self.about.indices().cpu()
        found = torch.zeros(len(self.about), dtype=torch.bool)
        found[rows[columns == phrase]] = True
        return found


def _by_meaning(words: Sequence[str]) -> dict[int, list[int]]:
    """The numbers of the words that mean each synset, by their common senses that can be seen."""
    nouns, found = Nouns.load(), dict[int, list[int]]()
    for index, word in enumerate(words):
        senses = nouns.common_senses(word) if nouns.exact_senses(word) else ()
        for synset in senses[:_SENSES]:
            if nouns.is_physical(synset) and nouns.kinds(synset) <= MOST_KINDS:
                found.setdefault(synset, []).append(index)
    return found
