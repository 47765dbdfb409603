"""Phrases for the surroundings of objects that an audit compares, and what cannot be compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torchnle.language.english.content_words import content_words
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.texplain.audit.class_words import ClassWords
from torchnle.translators.base import Translator

_log = logging.getLogger(__name__)

#: A map that was fitted to fewer texts can tell few words apart.
FEW_TEXTS = 100
_SHOWN = 4


def check_contexts(contexts: Sequence[str]) -> tuple[str, ...]:
    """Return the phrases, each once and without blanks around it.

    Raises:
        TypeError: If they are one string.
        ValueError: If there are none, or one is blank.

    Example:
        >>> check_contexts(["a yellow corner", " a yellow corner"])
        ('a yellow corner',)
    """
    if isinstance(contexts, str):
        raise TypeError(f"contexts={contexts!r} is one string; pass a list of phrases: [{contexts!r}].")
    found = tuple(dict.fromkeys(each.strip() for each in contexts))
    if not found or "" in found:
        raise ValueError(f"contexts={list(contexts)}; pass phrases for surroundings, as 'a brick wall'.")
    return found


def usable_contexts(contexts: Sequence[str], class_words: ClassWords) -> tuple[str, ...]:
    """Leave out the phrases whose nouns name a class, with a warning that says which and why.

    Args:
        contexts: The phrases.
        class_words: The classes.

    Raises:
        ValueError: If fewer than two are left, which are compared with one another.

    Example:
        >>> usable_contexts(["a lake", "a white hen", "sand"], ClassWords(["land bird", "water bird"]))
        ('a lake', 'sand')
    """
    named = {each: _classes_named(each, class_words) for each in contexts}
    kept = tuple(each for each, classes in named.items() if not classes)
    told = "; ".join(f"{each!r} names {', '.join(classes)}" for each, classes in named.items() if classes)
    if len(kept) < 2:
        raise ValueError(
            f"contexts are compared with one another, and {len(kept)} of {len(contexts)} can be used"
            f"{': ' if told else ''}{told}; pass two or more phrases for what is around objects."
        )
    if told:
        _log.warning("contexts that name a class are left out, since they are no surroundings: %s.", told)
    return kept


def context_nouns(contexts: Sequence[str]) -> tuple[str, ...]:
    """Find the nouns of the phrases, by which sentences are compared, and warn of what is not looked for.

    Raises:
        ValueError: If there is no noun.

    Example:
        >>> context_nouns(["a lake", "grass"])
        ('lake', 'grass')
    """
    nouns = tuple(dict.fromkeys(noun for each in contexts for noun in content_words(each)))
    if not nouns:
        raise ValueError(f"contexts={list(contexts)} hold no noun, and sentences are compared by nouns.")
    dropped = {
        word: each
        for each in contexts
        for word in content_words(each, ("noun", "modifier", "verb"))
        if word not in nouns
    }
    if dropped:
        listed = ", ".join(f"'{word}' of '{each}'" for word, each in dropped.items())
        _log.warning("sentences are compared by their nouns, so that %s is not looked for.", listed)
    return nouns


def warn_of_few_texts(translator: Translator, contexts: Sequence[str]) -> bool:
    """Warn if a map was fitted to few texts, most contexts not among them; returns whether it did.

    Such a map places every other text between its few classes, wherever it is seen in images.

    Args:
        translator: The translator.
        contexts: The phrases that are compared.
    """
    if not isinstance(translator, MapTranslator):
        return False
    fitted = tuple(dict.fromkeys([*translator.phrases, *translator.class_texts]))
    if len(fitted) >= FEW_TEXTS:
        return False
    known = {noun for text in fitted for noun in content_words(text)}
    unknown = [each for each in contexts if not known & set(content_words(each))]
    if 2 * len(unknown) <= len(contexts):
        return False
    _log.warning(
        "the translator was fitted to %d texts (%s, ...) and knows %d of the %d context words: it places the "
        "others (%s, ...) between its texts, wherever they are seen, so that the verdicts mean little. Read "
        "the words with a translator that knows them: one fitted to captions that name the surroundings "
        "(from_captions), one that writes sentences (n=...), or another model (torchnle audit --reader "
        "efficientnet-lite0).",
        len(fitted),
        ", ".join(fitted[:_SHOWN]),
        len(contexts) - len(unknown),
        len(contexts),
        ", ".join(unknown[:_SHOWN]),
    )
    return True


def _classes_named(phrase: str, class_words: ClassWords) -> list[str]:
    about = {index for noun in content_words(phrase) for index in class_words.about(noun)}
    return [class_words.class_names[index] for index in sorted(about)]
