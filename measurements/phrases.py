"""Default texts for measurements: templates filled with ImageNet's class names."""

from __future__ import annotations

from collections.abc import Sequence

from torchnle.backbones import imagenet_class_names
from torchnle.data.corpus import Noun, sentences
from torchnle.language.english.phrases import with_article


def phrases(count: int, *, names: Sequence[str] | None = None, seed: int = 0) -> list[str]:
    """Make `count` different texts, the same for the same seed.

    Args:
        count: The number of texts.
        names: The nouns of the texts; None = ImageNet's classes.
        seed: The seed.

    Raises:
        ValueError: If the templates do not give so many different texts.

    Example:
        >>> len(set(phrases(40, names=["hen", "owl", "teapot"])))
        40
    """
    nouns = [Noun(with_article(name.split(" (")[0])) for name in names or imagenet_class_names()]
    found = list(dict.fromkeys(sentences(nouns, 2 * count + 100, seed=seed)))
    if len(found) < count:
        raise ValueError(f"{len(nouns)} names gave {len(found)} different texts; ask for no more of them.")
    return found[:count]
