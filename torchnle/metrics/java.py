"""The two caption scores of MS-COCO's evaluation that run in Java: METEOR 1.5 and SPICE."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from torchnle.errors import MissingDependencyError
from torchnle.metrics.captions import References, check_captions, words

_SCORERS = {"meteor_java": ("meteor.meteor", "Meteor"), "spice_java": ("spice.spice", "Spice")}


def java_scores(
    candidates: Sequence[str], references: References, *, names: Sequence[str] = tuple(_SCORERS)
) -> dict[str, float]:
    """Compute METEOR 1.5 ("meteor_java") and SPICE ("spice_java"), as pycocoevalcap runs them.

    SPICE downloads Stanford's parser when it is first used.

    Args:
        candidates: One text per image.
        references: The reference captions of each image.
        names: The scores to compute.

    Raises:
        MissingDependencyError: If pycocoevalcap is not installed.
        FileNotFoundError: If the machine has no Java.
        ValueError: If a name is not known, or as `bleu4`.

    Example:
        >>> java_scores(["a hen"], [["a hen"]], names=["bleu"])
        Traceback (most recent call last):
        ...
        ValueError: unknown scores ['bleu']; there are meteor_java, spice_java.
    """
    if unknown := [name for name in names if name not in _SCORERS]:
        raise ValueError(f"unknown scores {unknown}; there are {', '.join(_SCORERS)}.")
    check_captions(candidates, references)
    if find_spec("pycocoevalcap") is None:
        raise MissingDependencyError("pycocoevalcap", extra="java", purpose="for METEOR 1.5 and SPICE")
    if shutil.which("java") is None:
        raise FileNotFoundError(
            "there is no 'java' on the PATH; METEOR 1.5 and SPICE run in it. Install Java 8 or newer."
        )
    written = {i: [" ".join(words(text))] for i, text in enumerate(candidates)}
    expected = {i: [" ".join(words(text)) for text in texts] for i, texts in enumerate(references)}
    found = {}
    for name in names:
        module, scorer = _SCORERS[name]
        found[name] = float(
            getattr(import_module(f"pycocoevalcap.{module}"), scorer)().compute_score(expected, written)[0]
        )
    return found
