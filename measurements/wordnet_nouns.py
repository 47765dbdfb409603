"""Build the noun table that torchnle ships, from the files of WordNet 3.0.

    python -m measurements.wordnet_nouns [/usr/share/wordnet] [torchnle/language/english/wordnet]

Needs Debian's wordnet-base, and timm for the list of ImageNet's classes (their WordNet offsets). It writes
`nouns.npz`:

=============  ==========================================================================================
spellings      the different spellings in order of first use, one a line, UTF-8
plurals        irregular plurals and their singulars ("feet foot"), one pair a line, UTF-8
offsets        (S) differences of the synsets' offsets in data.noun, which are ImageNet's ids
word_counts    (S) words a synset
words          (W) rows of `spellings`, synset by synset; 0 = the next one that was not used before
ranks          (W) the rank of the synset among the senses of that word; 0 = the commonest
parent_counts  (S) hypernyms and instance hypernyms a synset
parents        (P) rows of the parents, as differences from the row of the child
kinds          (S) synsets below, itself included
common         a bit a spelling: whether WordNet's own texts use it (`_common`)
imagenet_1k    (1000) rows of ImageNet's classes, in the order of a classifier's head
=============  ==========================================================================================
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

#: A noun is kept that occurs in the texts that WordNet counted, or each of its words in this many glosses.
COMMON = 10


def main(source: str = "/usr/share/wordnet", target: str = "torchnle/language/english/wordnet") -> None:
    """Read WordNet and write the table."""
    folder = Path(source)
    lines = [line.split("|")[0].split() for line in _lines(folder / "data.noun")]
    row = {fields[0]: index for index, fields in enumerate(lines)}
    words = [_words(fields) for fields in lines]
    parents = [[row[offset] for offset in _parents(fields)] for fields in lines]
    rank = _ranks(folder / "index.noun", row)
    new: dict[str, int] = {"": 0}  # row 0 is free, since 0 means the next new spelling
    used = []
    for group in words:
        for word in group:
            used.append(new.get(word, 0))
            new.setdefault(word, len(new))
    np.savez_compressed(
        Path(target) / "nouns.npz",
        spellings=_bytes("\n".join(new)),
        plurals=_bytes("\n".join(_plurals(folder / "noun.exc"))),
        offsets=np.diff([int(fields[0]) for fields in lines], prepend=0).astype(np.int32),
        word_counts=np.array([len(group) for group in words], np.uint8),
        words=np.array(used, np.int32),
        ranks=np.array(
            [rank[word.lower(), index] for index, group in enumerate(words) for word in group], np.uint8
        ),
        parent_counts=np.array([len(above) for above in parents], np.uint8),
        parents=np.array([i - parent for i, above in enumerate(parents) for parent in above], np.int32),
        kinds=_kinds(parents),
        common=np.packbits(_common(folder, list(new))),
        imagenet_1k=np.array([row[wnid[1:]] for wnid in _imagenet()], np.int32),
    )
    numbered = (folder / "data.noun").read_text().splitlines()[:29]
    licence = "\n".join(line.split(maxsplit=1)[1].rstrip() if line.split()[1:] else "" for line in numbered)
    (Path(target) / "LICENSE").write_text(licence + "\n")


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


def _words(fields: list[str]) -> list[str]:
    return [word.replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]


def _parents(fields: list[str]) -> list[str]:
    start = 4 + 2 * int(fields[3], 16)
    pointers = [fields[start + 1 + 4 * i : start + 3 + 4 * i] for i in range(int(fields[start]))]
    return [offset for kind, offset in pointers if kind in ("@", "@i")]


def _ranks(index: Path, row: dict[str, int]) -> dict[tuple[str, int], int]:
    ranks = {}
    for fields in map(str.split, _lines(index)):
        for rank, offset in enumerate(fields[-int(fields[2]) :]):
            ranks[fields[0].replace("_", " "), row[offset]] = rank
    return ranks


def _plurals(path: Path) -> list[str]:
    pairs = [line.replace("_", " ").split() for line in path.read_text().splitlines()]
    return [" ".join(pair[:2]) for pair in pairs]


def _kinds(parents: list[list[int]]) -> np.ndarray:
    above: dict[int, frozenset[int]] = {}

    def closed(index: int) -> frozenset[int]:
        if index not in above:
            above[index] = frozenset([index]).union(*(closed(parent) for parent in parents[index]))
        return above[index]

    below = Counter(node for index in range(len(parents)) for node in closed(index))
    return np.array([below[index] for index in range(len(parents))], np.int32)


def _common(folder: Path, spellings: list[str]) -> list[bool]:
    """Mark the spellings that people use, by WordNet alone.

    Such a noun was met in the texts in which WordNet's senses were counted, or each of its words stands in at
    least `COMMON` glosses.
    """
    tagged = {
        fields[0].replace("_", " ")
        for fields in map(str.split, _lines(folder / "index.noun"))
        if int(fields[-int(fields[2]) - 1]) > 0
    }
    parts = ("noun", "verb", "adj", "adv")
    glosses = [line.partition("|")[2] for part in parts for line in _lines(folder / f"data.{part}")]
    met = Counter(word for gloss in glosses for word in set(re.findall("[a-z]+", gloss.lower())))

    def is_common(spelling: str) -> bool:
        words = re.findall("[a-z]+", spelling.lower())
        return spelling.lower() in tagged or min((met[word] for word in words), default=0) >= COMMON

    return [is_common(spelling) for spelling in spellings]


def _imagenet() -> list[str]:
    import timm.data

    return (Path(timm.data.__file__).parent / "_info" / "imagenet_synsets.txt").read_text().split()


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


if __name__ == "__main__":
    main(*sys.argv[1:])
