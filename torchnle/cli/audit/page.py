"""The HTML report of ``torchnle audit``: a section per class, with words, shortcuts and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from torchnle.data.image_folders import LabelledImages
from torchnle.views.audit_page import Section, write_page
from torchnle.views.words import plot_bars, plot_cloud

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchnle.methods.texplain.audit.run import Audit
    from torchnle.methods.texplain.audit.shortcuts import ClassShortcuts

_PICTURES = 6
_INTRODUCTION = (
    "{subject}: {count} images of {classes} classes. Words come from features of {reader} alone. 'Data': the "
    "probability that an image of the class says the word more than one of another class. 'Model': the "
    "probability that the model is more confident in an image whose context indicates its class than in one "
    "whose context contradicts it. A shortcut is a word that the data offer and the model takes."
)


def write_report(
    folder: Path,
    title: str,
    subject: str,
    reader: str,
    listed: LabelledImages,
    found: Audit,
    more: Sequence[str] = (),
) -> Path:
    """Write the report as ``audit.html``.

    Args:
        folder: Where.
        title: The page's title.
        subject: What is audited, in words.
        reader: The model whose features the words come from.
        listed: The audited images.
        found: The audit.
        more: Sentences for the introduction.
    """
    introduction = _INTRODUCTION.format(
        subject=subject, count=len(listed.images), classes=len(found.shortcuts.classes), reader=reader
    )
    sections = [_section(label, each, listed, found) for label, each in enumerate(found.shortcuts.classes)]
    return write_page(folder / "audit.html", title, " ".join([introduction, *more]), sections)


def _section(label: int, each: ClassShortcuts, listed: LabelledImages, found: Audit) -> Section:
    top = found.of_class(label)
    own = [word.text for word in top if label in found.class_words.about(word.text)]
    bars = plot_bars(
        [word.text for word in top],
        [word.frequency for word in top],
        [(word.low, word.high) for word in top],
        own=own,
        title=f"dominant words of {each.class_name}",
    )
    against = found.shortcuts.conflict_scores
    order = torch.where(found.labels == label, against, -torch.inf).argsort(descending=True)
    pictures = [
        (listed.images[i].image, f"an image of {each.class_name} whose context contradicts it")
        for i in order[: min(_PICTURES, each.conflicting)].tolist()
    ]
    rows: list[list[str | float]] = [[word.word, word.kind, word.dataset, word.low] for word in each.words]
    verdict = each.verdict
    if each.tested:
        verdict += f" (model {each.model:.2f}, at least {each.model_low:.2f})"
    header = ["context word", "kind", "data", "at least"]
    figures = [(bars, "bars of words"), *_cloud(found, label, own)]
    return Section(each.class_name, verdict, header, rows, figures, pictures)


def _cloud(found: Audit, label: int, own: Sequence[str]) -> list[tuple[Figure, str]]:
    """The cloud of a class's words, where wordcloud is installed and a word has a score."""
    scores = {word.text: word.score for word in found.of_class(label, 40) if word.score > 0}
    if find_spec("wordcloud") is None or not scores:
        return []
    title = f"words of {found.class_words.class_names[label]}"
    return [(plot_cloud(scores, own=own, title=title), "cloud of words")]
