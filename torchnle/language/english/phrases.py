"""The grammar of scenes: from captions to noun phrases, and from noun phrases to sentences.

The captions of composed scenes and the corpora of a text decoder come from the same functions, so that a
decoder is trained on texts of the captions' form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words("a an another the some two three four five six seven eight nine ten several many")
_NOT_FIRST = _words(
    "this that these those it it's we you they i my your our his her their no not if when with what there "
    "down up eat see enter remember divided"
)
_INSIDE_A_CLAUSE = _words("the your our at to for of is are and or")
_CLAUSE = re.compile(
    r"\s(?:is|are|was|were|means|lets|resembles|stands|carries|carry|gets|has|have|had"
    r"|called|named|used|known|made|eaten)\b.*"
)
_OTHER_THING = re.compile(r"\s(?:is|are) the\b")  # "An important part of ... is the menorah"
_ASIDE = re.compile(r",\s+(?:also|and|or|from|that|which|who|with|a|an|the|one)\b.*")
_MASS = _words(
    "advice asphalt bacon balsam bark bread broccoli butter cash celery cement champagne chalk cheese "
    "chocolate cloth clothing confetti consomme corn cotton cutlery dirt dough dust eggnog electricity "
    "equipment fabric fire flour fog foliage food fruit fur furniture garbage garlic ginger glass gold "
    "granite grass gravel guacamole hair ham hay honey ice information ivy jewellery jewelry juice ketchup "
    "lace laundry lavender leather lettuce lightning luggage machinery mail marble mayonnaise meat metal "
    "milk money moss mud mustard news paper parsley pasta pavement plastic pork poultry powder produce rain "
    "rice rubber salt sand scenery seafood seaweed silk silver smoke snow soap soccer software soil soup "
    "spaghetti spinach spray steel straw sugar sunlight sunscreen sunshine thyme tinsel tennis toast tofu "
    "traffic transport trash underwear velvet vegetation water wheat wood wool"
)
_PLURALS = _words("children feet firemen geese men mice oxen people policemen teeth women")
_SINGULAR_S = _words("atlas canvas gas lens")
PARTITIVES = _words("bunch cluster couple group handful head heap pair pile piece plant quarter slice string")
HEAD_ENDS = _words(
    "of with in inside on at by for from to under over near without like covered playing dancing wearing "
    "sitting standing holding making eating hatched"
)
#: Beginnings with a vowel letter and a consonant's sound, and the other way round.
_YOO = re.compile(
    r"uni(?!n|m|d(?!ir)|ss)|unanim|us[aeiu]|usb\b|ut[aeio]|ur[aeiou]|url\b|uk[ru]|uk\b|uga|uvu|ubi|ufos?\b|eu|ewe|ewing"
    r"|one(?=\b|s\b|s?ie|ness|self|time)|once\b|oui|oua"
)
_VOWEL_SOUND = re.compile(r"[aeiou]|heir|honest|honou?r|hour|hors\b|html\b|x[^aeioy]|x\b|y[^aeiou]")
#: Read as numbers (8, 18, 80, 800, 11) or by letters (F-22, MP3) an "an" stands before these.
_VOWEL_READ = re.compile(r"8|1[18](?!\d)|[aefhilmnorsx]")
_QUOTES_AND_ASIDES = re.compile(r"[\u201c\u201d\"]|(?<!\w)'|'(?![\w-])|\([^)]*\)")
_SENTENCE_END = re.compile(r"[.!?:;](?:\s|$)|\s*[\u2013\u2014]\s*|\s-\s")


def noun_phrase(caption: str, *, most_words: int = 8) -> str | None:
    """Return the noun phrase that a caption consists of; None if it is not one.

    Keeps the first sentence up to its verb, without quotation marks and brackets, with the right article.

    Args:
        caption: One line, such as Tux Paint writes beside its stamps.
        most_words: Longer phrases are refused: they are sentences more often than names.

    Example:
        >>> noun_phrase("A hen."), noun_phrase("An hippopotamus."), noun_phrase("Measuring tape.")
        ('a hen', 'a hippopotamus', 'a measuring tape')
        >>> noun_phrase("A mince pie is a traditional Christmas food in the UK. It contains fruit.")
        'a mince pie'
        >>> print(noun_phrase("Eat your broccoli!"), noun_phrase("Excited!"), noun_phrase("Zero or more"))
        None None None
    """
    text = _QUOTES_AND_ASIDES.sub("", caption.replace("\u2019", "'"))
    words = text.split()
    if not words:
        return None
    named = words[0].lower() in DETERMINERS
    text = " ".join(words)
    first = _SENTENCE_END.split(text)[0]
    if _OTHER_THING.search(first) or (not named and not _is_bare_name(first, whole=text)):
        return None
    phrase = _CLAUSE.sub("", _ASIDE.sub("", first)).replace(",", "").strip(" .!?")
    if not 1 < len(phrase.split()) + (not named) <= most_words:
        return None
    return with_article(_small_first(phrase))


def _is_bare_name(first: str, *, whole: str) -> bool:
    """Return whether an article-less caption names a thing: short, common, nothing after ("Teddy bear.")."""
    words = first.split()
    if not 0 < len(words) <= 3 or whole.strip(" .") != first.strip(" .") or "!" in whole or "?" in whole:
        return False
    if words[0].lower() in _NOT_FIRST or words[0].endswith("'s") or _INSIDE_A_CLAUSE & set(words):
        return False
    return all(word.isalpha() for word in words) and not any(word[0].isupper() for word in words[1:])


def _small_first(phrase: str) -> str:
    """Lower the first letter, unless the first word is an acronym or a capital by itself."""
    first = phrase.split()[0]
    acronym = len(first) > 1 and first[1:2].isupper()
    return phrase if acronym else phrase[0].lower() + phrase[1:]


def with_article(noun: str) -> str:
    """Put the right article before a noun: "a", "an", or none for plurals and mass nouns.

    Args:
        noun: A common noun with its adjectives, with or without an article; a wrong "a" or "an" is
            corrected, "the", "some" and numbers are kept.

    Raises:
        ValueError: If the noun is blank.

    Example:
        >>> [with_article(noun) for noun in ("owl", "university", "an red hour", "scissors", "grass")]
        ['an owl', 'a university', 'a red hour', 'scissors', 'grass']
    """
    words = noun.split()
    if not words:
        raise ValueError(f"with_article({noun!r}): the noun is blank. Pass at least one word.")
    if words[0].lower() in ("a", "an", "another") and len(words) > 1:
        words = words[1:]
    elif words[0].lower() in DETERMINERS or is_plural(noun) or head_noun(noun) in _MASS:
        return " ".join(words)
    return " ".join([_article(words[0]), *words])


def with_right_articles(text: str) -> str:
    """Make every "a" and "an" of a text agree with the word after it.

    Example:
        >>> with_right_articles("an white owl on a old tower")
        'a white owl on an old tower'
    """
    words = text.split()
    pairs = zip(words, [*words[1:], ""], strict=True)
    return " ".join(_article(after) if word in ("a", "an") and after else word for word, after in pairs)


def _article(word: str) -> str:
    """Choose "a" or "an" by the sound of the next word."""
    low = word.lower()
    if (word.isupper() and len(word) < 4) or not word[1:2].isalpha():  # read by letters: a UK post box
        return "an" if _VOWEL_READ.match(low) else "a"
    vowel = _VOWEL_SOUND.match(low) and not _YOO.match(low)
    return "an" if vowel else "a"


def is_plural(noun: str) -> bool:
    """Return whether a noun phrase is plural ("two flowers", "scissors").

    Example:
        >>> is_plural("big fireworks"), is_plural("a bus"), is_plural("a glass")
        (True, False, False)
    """
    words = noun.lower().split()
    if words[0] in ("a", "an", "another"):
        return False
    head = head_noun(noun).lower()
    return head in _PLURALS or (
        head.endswith("s") and not head.endswith(("ss", "us", "is")) and head not in _SINGULAR_S
    )


def head_noun(phrase: str) -> str:
    """Return the head noun of a phrase: the last word before a preposition or a participle.

    "a pair of pants" counts pants, not pairs.

    Example:
        >>> [head_noun(p) for p in ("a red apple", "a tower with a red flag", "a pair of closed scissors")]
        ['apple', 'tower', 'scissors']
    """
    words = phrase.split()
    end = next((i for i, word in enumerate(words) if i and word.lower() in HEAD_ENDS), len(words))
    if words[end : end + 1] == ["of"] and words[end - 1].lower() in PARTITIVES and words[end + 1 :]:
        return head_noun(" ".join(words[end + 1 :]))
    return words[end - 1]


def listing(phrases: Sequence[str]) -> str:
    """Join phrases to one list in words.

    Raises:
        ValueError: If there is none.

    Example:
        >>> listing(["a hen", "an owl", "a fox"])
        'a hen, an owl and a fox'
    """
    if not phrases:
        raise ValueError("listing() got no phrases. Pass at least one.")
    *head, last = phrases
    return f"{', '.join(head)} and {last}" if head else last


def scene_caption(phrases: Sequence[str], location: str = "") -> str:
    """Compose the caption of a scene: its objects and, if it is named, the background.

    Args:
        phrases: Noun phrases with their articles, at least one.
        location: The phrase for the background ("on grass"), or "" for none.

    Example:
        >>> scene_caption(["a hen", "a compost bin"], "on grass")
        'a hen and a compost bin on grass'
    """
    return f"{listing(phrases)} {location}".strip()


def corpus(
    phrases: Sequence[str], locations: Sequence[str] = (), *, lists: int = 0, most: int = 3, seed: int = 0
) -> list[str]:
    """Generate captions that scenes of these phrases can have, for a decoder trained on text alone.

    Args:
        phrases: Noun phrases with their articles; repeated ones count once.
        locations: The phrases for backgrounds ("on grass"); every noun phrase is combined with each.
        lists: The number of lists of two to `most` different phrases, every second one with a background.
        most: The largest number of phrases in a list.
        seed: The seed of the lists.

    Returns:
        Every phrase, every phrase with every background, and the lists, each text once.

    Raises:
        ValueError: If there are fewer phrases than the longest list needs.

    Example:
        >>> corpus(["a hen", "an owl"], ["on grass"])
        ['a hen', 'an owl', 'a hen on grass', 'an owl on grass']
        >>> corpus(["a hen", "an owl"], lists=1, most=2)[2:]
        ['an owl and a hen']
    """
    single = list(dict.fromkeys(phrases))
    if lists and not 2 <= most <= len(single):
        raise ValueError(
            f"lists of up to {most} phrases cannot be drawn from {len(single)}; pass most=2 or more."
        )
    draw = random.Random(seed)
    texts = [*single, *(scene_caption([phrase], location) for location in locations for phrase in single)]
    for index in range(lists):
        chosen = draw.sample(single, draw.randint(2, most))
        texts.append(scene_caption(chosen, draw.choice(locations) if locations and index % 2 else ""))
    return list(dict.fromkeys(texts))
