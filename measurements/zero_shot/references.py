"""Compose the sentences among which explanations find their percentile: one a class of ImageNet.

Run as ``python -m measurements.zero_shot.references``; it rewrites the file that ships. A sentence names a
class and, drawn by a seed, a part or a scene of the concept bank, so that the best of them are about what the
evidence shows, and a percentile near 100 is no matter of course.
"""

from __future__ import annotations

import random
from pathlib import Path

import torchnle.methods.zero_shot as room
from torchnle.backbones import imagenet_class_names
from torchnle.language.english.phrases import with_article
from torchnle.methods.aligned.fit import class_phrase
from torchnle.translators import concept_bank

FILE = Path(room.__file__).parent / "reference_sentences.txt"
_HEAD = "# Composed by `python -m measurements.zero_shot.references`: one a class of ImageNet.\n"
_LINKS = {"parts": "with", "scenes": "in front of"}


def compose(seed: int = 0) -> list[str]:
    """Compose one sentence a class, in the order of the classes."""
    draw = random.Random(seed)
    bank = concept_bank.categories()
    found = []
    for name in imagenet_class_names():
        kind, link = draw.choice(list(_LINKS.items()))
        found.append(f"{class_phrase(name)} {link} {with_article(draw.choice(bank[kind]))}")
    return found


def main() -> None:
    """Write the file."""
    FILE.write_text(_HEAD + "\n".join(compose()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
