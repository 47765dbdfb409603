"""Parts of speech and vocabulary of a set of descriptions (DeViL, table 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torchnle.errors import optional_package
from torchnle.metrics.captions import words


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary statistics of a set of descriptions.

    Args:
        adjectives: The share of words that are adjectives, 0 to 1.
        verbs: The share of words that are verbs, 0 to 1.
        unique: The number of different words.
        total: The number of words.
    """

    adjectives: float
    verbs: float
    unique: int
    total: int


def vocabulary(texts: Sequence[str]) -> Vocabulary:
    """Count adjectives, verbs and different words.

    Parts of speech come from TextBlob's pattern tagger, whose lexicon and rules (Brill's) are part of that
    package: nothing is downloaded, and the same text always has the same tags. It tags the words of MS-COCO's
        tokenizer. The paper does not name its tagger, so shares are comparable only for one tagger.

    Args:
        texts: The descriptions; they need not be sentences.

    Raises:
        MissingDependencyError: If textblob is not installed.
        ValueError: If there is no word in any text.

    Example:
        >>> vocabulary(["a red hen sits on green grass"])
        Vocabulary(adjectives=0.2857..., verbs=0.1428..., unique=7, total=7)
    """
    with optional_package("textblob", extra="eval", purpose="to tag parts of speech"):
        from textblob.en import tag
    cut = [words(text) for text in texts]
    total = sum(map(len, cut))
    if not total:
        raise ValueError(f"there is no word in the {len(cut)} texts; pass at least one description.")
    kinds = Counter(kind[:2] for text in cut if text for _, kind in tag(" ".join(text), tokenize=False))
    return Vocabulary(
        kinds["JJ"] / total, kinds["VB"] / total, len({word for text in cut for word in text}), total
    )
