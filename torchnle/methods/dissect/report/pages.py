"""The report of a dissection: pages of bounded size, sorted and searched in the browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from torchnle.methods.dissect.exemplars.exemplar import Exemplar
from torchnle.methods.dissect.labels import Dissection, UnitLabel
from torchnle.methods.dissect.report.legend import legend
from torchnle.methods.dissect.report.picture_names import PictureNames
from torchnle.views import html

#: So many units a page, and the side of an exemplar in pixels: about 2 megabytes a page.
UNITS, SIDE, SHOWN = 100, 96, 5
#: How bright a picture is where the unit is inactive.
_DIMMED = 0.35


def write_report(
    dissection: Dissection,
    folder: str | os.PathLike[str],
    *,
    units: int = UNITS,
    exemplars: int = SHOWN,
    side: int = SIDE,
) -> list[Path]:
    """Write a dissection as HTML: an index of all labels, and pages with exemplars and masks.

    Every page is one file that needs no network. Tables are sorted by a click on a column, and searched by
    words; the index is also searched by a picture's name, and a click on an exemplar lists the units that the
    same picture excites.

    Args:
        dissection: The result of `dissect`.
        folder: The folder of the pages.
        units: The largest number of units per page.
        exemplars: The number of exemplars per unit.
        side: The side of an exemplar, in pixels.

    Returns:
        The files, the index first.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> import tempfile
        >>> [file.name for file in write_report(Dissection("layer", []), tempfile.mkdtemp())]
        ['index.html']
    """
    if min(units, side) < 1 or exemplars < 0:
        raise ValueError(f"units={units}, exemplars={exemplars}, side={side}; pass positive numbers.")
    target = Path(folder)
    parts = [list(dissection)[start : start + units] for start in range(0, len(dissection), units)]
    names = [f"units-{part[0].unit}-{part[-1].unit}.html" for part in parts]
    files = [html.write(target / "index.html", _index(dissection, parts, names))]
    for part, name in zip(parts, names, strict=True):
        body = (
            f'<p><a href="index.html">all units</a> {_SEARCH}</p>{legend(dissection)}'
            f"{_table(dissection, part, exemplars, side)}"
        )
        title = f"{dissection.layer}, units {part[0].unit} to {part[-1].unit}"
        files.append(html.write(target / name, html.page(title, body, script=html.SORT_AND_SEARCH)))
    return files


_SEARCH = '<input id="search" type="search" placeholder="words of a label, or a picture\'s name">'
#: Searches for what stands behind "#find=" in the address.
_FIND = "const f=decodeURIComponent(location.hash).split('#find=')[1];if(f&&s){s.value=f;s.oninput()}"


def _index(dissection: Dissection, parts: Sequence[Sequence[UnitLabel]], names: Sequence[str]) -> str:
    pictures = PictureNames(dissection)
    rows = [
        [
            f'<a href="{name}#u{label.unit}">{label.unit}</a>',
            f"{_words(label)}<span hidden> {escape(' '.join(map(pictures, label.images)))}</span>",
            _number(label.score),
            _number(label.correlation),
        ]
        for part, name in zip(parts, names, strict=True)
        for label in part
    ]
    named = len([label for label in dissection if label.text])
    facts = f"{len(dissection)} units: {named} labelled, {len(dissection.reliable)} reliably, "
    facts += f"{len(dissection.dead)} dead."
    listing = html.table(["unit", "label", "score", "correlation"], rows)
    body = f"<p>{facts}</p>{legend(dissection)}<p>{_SEARCH}</p>{listing}"
    return html.page(f"Units of {dissection.layer}", body, script=html.SORT_AND_SEARCH + _FIND)


def _picture(names: PictureNames, exemplar: Exemplar, side: int) -> str:
    """An exemplar that links to all units of the same picture."""
    name = names(exemplar.image)
    shown = html.picture(masked(exemplar), side, f"{name}: {exemplar.activation:.3f}")
    return f'<a href="index.html#find={quote(name)}">{shown}</a>'


def _table(dissection: Dissection, part: Sequence[UnitLabel], exemplars: int, side: int) -> str:
    rows, names = [], PictureNames(dissection)
    for label in part:
        shown = (
            []
            if label.dead or not exemplars or dissection.record is None
            else _shown(dissection, label, exemplars)
        )
        pictures = "".join(_picture(names, each, side) for each in shown)
        others = "; ".join(f"{text} {_number(score)}" for text, score in label.candidates[:5])
        details = f'<span class="dim">{escape(others)}<br>{escape(label.note)}</span>'
        rows.append(
            [
                f'<a id="u{label.unit}">{label.unit}</a>',
                _words(label),
                _number(label.score),
                _number(label.correlation),
                pictures,
                details,
            ]
        )
    return html.table(["unit", "label", "score", "correlation", "exemplars", "candidates"], rows)


def masked(exemplar: Exemplar) -> Image.Image:
    """Darken an exemplar where its unit is inactive.

    Example:
        >>> masked(Exemplar(0, 1.0, Image.new("RGB", (2, 2), "white"))).getpixel((0, 0))
        (255, 255, 255)
    """
    pixels = np.asarray(exemplar.picture.convert("RGB")).astype(np.float32)
    weights = np.where(exemplar.mask().numpy(), 1.0, _DIMMED)[..., None]
    return Image.fromarray((pixels * weights).astype(np.uint8))


def _shown(dissection: Dissection, label: UnitLabel, count: int) -> list[Exemplar]:
    try:
        return dissection.exemplars(label, count)
    except ValueError:  # an image that was there when it was probed
        return []


def _words(label: UnitLabel) -> str:
    if label.dead:
        return '<span class="dim">dead</span>'
    texts = [text for text, _ in label.labels] or [label.text or "(no label)"]
    mark = "" if label.reliable else ' <span class="dim">unreliable</span>'
    return escape("; ".join(texts)) + mark


def _number(score: float) -> str:
    return "-" if score != score else f"{score:.3f}"
