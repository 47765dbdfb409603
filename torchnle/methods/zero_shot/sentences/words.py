"""The words of the search: whole words that are one token of a language model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from importlib import resources

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import DETERMINERS, HEAD_ENDS, with_article
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.translators import concept_bank

_WHOLE = re.compile(r" [a-z]{3,}| (?:a|an|at|by|in|is|it|of|on|or|to|up|ox)")
#: Nouns of more tokens are not used.
_MOST_PIECES = 4
_PARTICIPLE = re.compile(r"[a-z]{3,}(?:ing|ed)")
#: Words that carry a sentence on and may not end it.
FUNCTION_WORDS = (
    DETERMINERS
    | HEAD_ENDS
    | frozenset(["and", "or", "that", "is", "are", "as", "its", "his", "her", "their"])
)


class Words:
    """The whole words among a language model's tokens and further nouns, with their sentence embeddings.

    A token is a whole word where it begins with a space and is one of WordNet's nouns, a word of the concept
    bank's colours and attributes, a participle, or one of the small words between these: pieces of words
    ("ing", " medi") are not encoded meaningfully by a sentence encoder.

    Args:
        lm: The language model.
        encoder: The sentence encoder.
        nouns: Further nouns, which may be several tokens; those that WordNet does not know are left out.

    Attributes:
        texts: The words.
        pieces: The tokens of each.
        tokens: The first token of each, (W,).
        counts: The number of tokens of each, (W,).
        named: Which are nouns, (W,).
        nouns: The nouns.
        seen: Which of these name what can be seen, (W,).
        joining: Which join what stands before them to more: prepositions, conjunctions, verbs, (W,).

    Raises:
        ValueError: If the language model has no token that is a whole word.
    """

    def __init__(self, lm: LanguageModel, encoder: TextEncoder, nouns: Iterable[str] = ()) -> None:
        found = whole_words(lm, encoder)
        if not found:
            raise ValueError(
                "the language model has no token that is a whole word with a space before it; pass one whose "
                "tokenizer is made of words (SmolLM2, GPT-2, Llama, ...)."
            )
        spelled = {word: (token,) for word, token in found.items()} | split_nouns(lm, nouns, found)
        self.texts, self.pieces = tuple(spelled), tuple(spelled.values())
        self.tokens = torch.tensor([pieces[0] for pieces in self.pieces], device=lm.device)
        self.counts = torch.tensor([len(pieces) for pieces in self.pieces], device=lm.device)
        self.encoder = encoder
        self.named = torch.tensor([_is_noun(word) for word in self.texts], device=lm.device)
        self.nouns = frozenset(w for w, noun in zip(self.texts, self.named.tolist(), strict=True) if noun)
        self.seen = torch.tensor([_can_be_seen(word) for word in self.texts], device=lm.device)
        joins = FUNCTION_WORDS - DETERMINERS
        self.joining = torch.tensor([word in joins for word in self.texts], device=lm.device)
        self._vectors: Tensor | None = None

    @property
    def vectors(self) -> Float[Tensor, "W k"]:
        """The sentence embeddings of the words, nouns with their article; kept on disk once computed."""
        if self._vectors is None:
            named = zip(self.texts, self.named.tolist(), strict=True)
            phrases = [with_article(word) if noun else word for word, noun in named]
            self._vectors = embed_cached(self.encoder, phrases)
        return self._vectors

    def allowed(self, unwanted: Collection[str]) -> Int[Tensor, "A"]:
        """List the words that are not unwanted, by their numbers.

        Args:
            unwanted: Words in lower case; their plurals are unwanted as well.
        """
        kept = [i for i, word in enumerate(self.texts) if not is_unwanted(word, unwanted)]
        return torch.tensor(kept, dtype=torch.long, device=self.tokens.device)


def whole_words(lm: LanguageModel, encoder: TextEncoder) -> dict[str, int]:
    """Find the tokens of a language model that are whole English words, in the order of its vocabulary."""
    known, found = _encoder_words(encoder), dict[str, int]()
    before = lm.tokenize(["a"])[0][-1]
    start = len(lm.detokenize([before]))
    for token in range(min(lm.vocab_size, len(lm.tokenizer))):
        text = lm.detokenize([before, token])[start:]
        word = text.strip()
        if _WHOLE.fullmatch(text) and (not known or word in known) and _is_word(word):
            found.setdefault(word, token)
    return found


def split_nouns(
    lm: LanguageModel, nouns: Iterable[str], known: Collection[str] = ()
) -> dict[str, tuple[int, ...]]:
    """Find the tokens of nouns that are several tokens of a language model.

    Args:
        lm: The language model.
        nouns: The nouns, single words in lower case; others are left out.
        known: Words that are not wanted again.
    """
    wanted = [noun for noun in dict.fromkeys(nouns) if noun not in known and _is_plain_noun(noun)]
    spelled = lm.tokenize([f" {noun}" for noun in wanted]) if wanted else []
    return {
        noun: tuple(pieces)
        for noun, pieces in zip(wanted, spelled, strict=True)
        if 1 < len(pieces) <= _MOST_PIECES and lm.detokenize(pieces).strip() == noun
    }


def _is_plain_noun(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.islower() and len(word) > 2 and _is_noun(word)


def _is_word(word: str) -> bool:
    if word in FUNCTION_WORDS or word in qualities():
        return True
    return bool(_PARTICIPLE.fullmatch(word) or Nouns.load().senses(word))


def _can_be_seen(word: str) -> bool:
    """Return whether one of a noun's two commonest senses has a place in the world."""
    nouns = Nouns.load()
    return any(nouns.is_physical(sense) for sense in nouns.common_senses(word)[:2])


def _is_noun(word: str) -> bool:
    """Return whether a word is a noun, and no participle, colour or attribute of the concept bank."""
    if word in FUNCTION_WORDS or word in qualities() or word.endswith("ed"):
        return False
    return bool(Nouns.load().senses(word))


@lru_cache(maxsize=1)
def qualities() -> frozenset[str]:
    """Load the words of the concept bank's colours and attributes, which modify a noun."""
    bank = concept_bank.categories()
    return frozenset(word for name in ("attributes", "colours") for p in bank[name] for word in p.split())


def _encoder_words(encoder: TextEncoder) -> frozenset[str]:
    """The whole words of a WordPiece vocabulary; none where the encoder has none."""
    tokenizer = getattr(encoder, "tokenizer", None)
    vocabulary = tokenizer.get_vocab() if tokenizer is not None else {}
    return frozenset(word for word in vocabulary if word.isalpha())


def is_unwanted(text: str, unwanted: Collection[str]) -> bool:
    """Check whether a text holds an unwanted word or its plural.

    Example:
        >>> is_unwanted("two hens", {"hen"}), is_unwanted("a henhouse", {"hen"})
        (True, False)
    """
    words = re.findall(r"[a-z]+", text.lower())
    return any(
        w in unwanted or w.removesuffix("s") in unwanted or w.removesuffix("es") in unwanted for w in words
    )


@lru_cache(maxsize=1)
def unwanted_by_default() -> frozenset[str]:
    """Load the shipped list of words to exclude from explanations (appendix A)."""
    text = resources.files(__package__).joinpath("unwanted_words.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
