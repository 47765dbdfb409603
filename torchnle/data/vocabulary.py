"""The nouns of a text decoder's corpus: common ones, class names, phrases of captions."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from torchnle.data.corpus import PEOPLE, WEATHER, WEATHER_MASS, Noun, held_out, sentences, wordnet_nouns
from torchnle.errors import optional_package
from torchnle.language.english.phrases import with_article

#: The least frequency of a noun, on the Zipf scale of `wordfreq`, as one word and as two.
_COMMON, _COMMON_PAIR = 3.2, 3.9
#: Kinds that are visible even if untagged; many nouns of the other kinds are ideas in their first sense.
_SEEN = frozenset({"animal", "food", "plant"})
#: How often class names and phrases are drawn, relative to a noun of WordNet.
_CLASS_SHARE, _PHRASE_SHARE = 2, 3


def vocabulary(
    wordnet: Path, *, class_names: Sequence[str] = (), phrases: Sequence[str] = ()
) -> tuple[Noun, ...]:
    """Collect the nouns of a text decoder's corpus; important ones occur, and so are drawn, more often.

    WordNet's nouns are kept if they are common and in everyday use: WordNet's hand-tagged texts use them, or
    they are an animal, a food or a plant of one word. ("Scheme arch" and "pot farm" consist of common words,
    but are not in use.)

    Args:
        wordnet: Holds index.noun and data.noun of WordNet 3.x.
        class_names: Names of classes; text in brackets is left out.
        phrases: Noun phrases with their articles, such as `Cutouts.phrases`.

    Returns:
        The nouns, with repetitions.

    Raises:
        MissingDependencyError: If `wordfreq`, which gives frequencies, is not installed.
        ValueError: If the folder does not hold WordNet.
    """
    zipf = _zipf()
    common = [
        noun for noun in wordnet_nouns(wordnet) if _is_met(noun) and _is_common(_bare(noun.phrase), zipf)
    ]
    names = sorted({re.sub(r" \(.*\)", "", name) for name in class_names})
    more = [*(Noun(with_article(word)) for word in (*PEOPLE, *WEATHER)), *map(Noun, WEATHER_MASS)]
    return (
        *common,
        *[Noun(with_article(name)) for name in names] * _CLASS_SHARE,
        *[Noun(phrase) for phrase in sorted(set(phrases))] * _PHRASE_SHARE,
        *more * _PHRASE_SHARE,
    )


def decoder_texts(nouns: Sequence[Noun], count: int, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Make a corpus of about `count` different texts and every noun alone, split into training and held out.

    Args:
        nouns: The nouns, from `vocabulary`.
        count: The number of texts that the templates generate, duplicates included.
        seed: The seed of all draws.

    Returns:
        The training texts, and the held-out texts (`torchnle.data.corpus.held_out`).

    Example:
        >>> nouns = [Noun("a hen"), Noun("an owl"), Noun("gravel"), Noun("a red kite")]
        >>> train, held = decoder_texts(nouns, 500)
        >>> "a hen" in train + held, bool(set(train) & set(held))
        (True, False)
    """
    texts = sorted({*sentences(nouns, count, seed=seed), *(noun.phrase for noun in nouns)})
    random.Random(seed).shuffle(texts)
    return [text for text in texts if not held_out(text)], [text for text in texts if held_out(text)]


def _bare(phrase: str) -> str:
    return re.sub(r"^an? ", "", phrase)


def _is_met(noun: Noun) -> bool:
    return noun.tagged or (noun.kind in _SEEN and _bare(noun.phrase).isalpha())


def _is_common(name: str, zipf: Callable[[str, str], float]) -> bool:
    return zipf(name, "en") >= (_COMMON_PAIR if " " in name else _COMMON)


def _zipf() -> Callable[[str, str], float]:
    with optional_package("wordfreq", extra="train", purpose="to know which nouns are common"):
        from wordfreq import zipf_frequency
    return zipf_frequency  # type: ignore[no-any-return]
