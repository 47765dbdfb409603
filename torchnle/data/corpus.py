"""Texts about visible objects, to train a text decoder: nouns from WordNet in templates.

The text decoder learns from text alone, so it can only write what its corpus contains: objects, objects with
attributes, objects in settings, lists of two and three objects, and short definitions.
"""

from __future__ import annotations

# ruff: noqa: SIM905  (word lists read better as words)
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from torchnle.language.english.phrases import with_article

#: WordNet's lexicographer files of visible objects (wninput(5WN)): number -> name.
VISIBLE = {
    5: "animal",
    6: "artifact",
    13: "food",
    17: "object",
    20: "plant",
    27: "substance",
}
#: Nouns of these files are named without an article.
MASS = {"substance"}

PEOPLE = (
    "man woman boy girl baby child person crowd family farmer doctor nurse firefighter soldier "
    "sailor dancer singer musician painter chef waiter bride groom cyclist runner swimmer skier "
    "surfer climber diver fisherman hiker astronaut pilot policeman teacher student worker builder "
    "gardener king queen knight clown wizard witch"
).split()
#: The visible phenomena: most nouns in WordNet's file of phenomena are forces, rays and effects.
WEATHER = "cloud flame flood rainbow snowflake storm tornado".split()
WEATHER_MASS = "fire fog hail lightning mist moonlight rain smoke snow sunlight".split()
COLOURS = "red blue green yellow black white brown orange purple pink grey golden silver".split()
MATERIALS = "wooden metal plastic glass stone leather ceramic paper woollen rusty".split()
LOOKS = (
    "small large tiny old new young round long shiny fluffy striped spotted furry broken dark "
    "bright wet dry dirty clean colourful smooth rough curved sharp soft hairy feathery scaly "
    "pointed sleeping flying smiling"
).split()
PLACES = (
    "on grass|on the ground|on a table|on a white background|on a black background|on gravel|"
    "on bricks|on sand|on snow|on water|in the sky|in a forest|in a field|in a room|in a kitchen|"
    "in a city|in the street|in the sea|in a garden|in a box|on a wall|on a rock|on a tree|"
    "in the desert|in the mountains|on a beach|in a bowl|on a plate|on a blue background|"
    "on a green background|on a red background|on a wooden floor|at night|at sunset|in the rain|"
    "in front of a house|under a tree|by a river|in a cage|on a bed|on dry grass|"
    "in front of a brick wall|in front of a gray brick wall|on a gray background|"
    "on a blue and white background|on a yellow background"
).split("|")
RELATIONS = "next to|in front of|behind|on top of|under|beside|near|above".split("|")
#: Words of WordNet that a description should not use.
BLOCKED = frozenset("bitch slut whore nigger negro cock-a-hoop weapon-grade".split())


@dataclass(frozen=True)
class Noun:
    """A noun phrase that names a visible object, with WordNet's facts on its noun.

    Args:
        phrase: The noun with its article: "a hen".
        gloss: WordNet's definition, "" if there is none.
        kind: WordNet's lexicographer file ("noun.animal"), one of `VISIBLE`; "" for another source.
        tagged: Whether WordNet's hand-tagged texts use the noun in its first sense.

    Example:
        >>> Noun("a hen").phrase
        'a hen'
    """

    phrase: str
    gloss: str = ""
    kind: str = ""
    tagged: bool = False


def wordnet_nouns(folder: Path, keep: Iterable[str] | None = None) -> list[Noun]:
    """Read the visible objects from WordNet's database files, each noun in its first sense.

    Args:
        folder: Holds index.noun and data.noun of WordNet 3.x.
        keep: Only these lemmas, written with spaces (a list of common words, say); None keeps all.

    Raises:
        ValueError: If the folder does not hold the database.
    """
    if not (folder / "data.noun").is_file() or not (folder / "index.noun").is_file():
        raise ValueError(
            f"'{folder}' holds no WordNet database; it needs the files data.noun and index.noun."
        )
    wanted = None if keep is None else set(keep)
    synsets = dict(_synsets(folder / "data.noun"))
    nouns = []
    for line in _entries(folder / "index.noun"):
        fields = line.split()
        lemma = fields[0].replace("_", " ")
        tagged, first_sense = fields[5 + int(fields[3]) : 7 + int(fields[3])]
        if first_sense not in synsets or (wanted is not None and lemma not in wanted) or lemma in BLOCKED:
            continue
        kind, words, gloss = synsets[first_sense]
        if fields[0] in words and re.fullmatch(r"[a-z]{2,}([ -][a-z]{2,})?", lemma):
            phrase = lemma if kind in MASS else with_article(lemma)
            nouns.append(Noun(phrase, gloss, kind, tagged != "0"))
    return nouns


def sentences(nouns: Sequence[Noun], count: int, *, seed: int = 0) -> Iterator[str]:
    """Generate `count` texts from templates, the same ones for the same seed.

    Args:
        nouns: The nouns; repeated ones are drawn more often.
        count: The number of texts; duplicates occur.
        seed: The seed of all draws.

    Example:
        >>> nouns = [Noun("a hen"), Noun("an owl"), Noun("gravel")]
        >>> list(sentences(nouns, 3, seed=4)) == list(sentences(nouns, 3, seed=4))
        True
    """
    source = random.Random(seed)
    makers, weights = zip(*_TEMPLATES, strict=True)
    for maker in source.choices(makers, weights, k=count):
        yield maker(source, nouns)


def held_out(text: str, *, fraction: float = 0.02) -> bool:
    """Return whether a text belongs to the held-out set; its hash decides, the same in every process.

    Args:
        text: The text.
        fraction: The expected share of held-out texts, 0 to 1.

    Example:
        >>> 0 < sum(held_out(f"text {i}") for i in range(1000)) < 60
        True
    """
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") < fraction * 2**32


def _entries(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        yield from (line for line in lines if not line.startswith(" "))


def _synsets(path: Path) -> Iterator[tuple[str, tuple[str, list[str], str]]]:
    for line in _entries(path):
        data, _, gloss = line.partition("|")
        fields = data.split()
        kind = VISIBLE.get(int(fields[1]))
        if kind is not None:
            count = int(fields[3], 16)
            yield fields[0], (kind, [fields[4 + 2 * i] for i in range(count)], gloss.split(";")[0].strip())


def _thing(source: random.Random, nouns: Sequence[Noun]) -> str:
    return source.choice(nouns).phrase


def _described(source: random.Random, nouns: Sequence[Noun]) -> str:
    adjective = source.choice(source.choice((COLOURS, MATERIALS, LOOKS)))
    phrase = _thing(source, nouns)
    article, _, name = phrase.partition(" ")
    return with_article(f"{adjective} {name}") if article in ("a", "an") else f"{adjective} {phrase}"


def _somewhere(source: random.Random, nouns: Sequence[Noun]) -> str:
    return f"{source.choice((_thing, _described))(source, nouns)} {source.choice(PLACES)}"


def _two(source: random.Random, nouns: Sequence[Noun]) -> str:
    return f"{_thing(source, nouns)} and {_thing(source, nouns)}"


def _two_somewhere(source: random.Random, nouns: Sequence[Noun]) -> str:
    return f"{_two(source, nouns)} {source.choice(PLACES)}"


def _three(source: random.Random, nouns: Sequence[Noun]) -> str:
    return f"{_thing(source, nouns)}, {_two(source, nouns)}"


def _related(source: random.Random, nouns: Sequence[Noun]) -> str:
    return f"{_thing(source, nouns)} {source.choice(RELATIONS)} {_thing(source, nouns)}"


def _gloss(source: random.Random, nouns: Sequence[Noun]) -> str:
    gloss = source.choice(nouns).gloss
    return gloss if 3 <= len(gloss.split()) <= 8 and "(" not in gloss else _thing(source, nouns)


_TEMPLATES = (
    (_thing, 20),
    (_described, 20),
    (_somewhere, 20),
    (_two, 15),
    (_two_somewhere, 10),
    (_three, 5),
    (_related, 5),
    (_gloss, 5),
)
