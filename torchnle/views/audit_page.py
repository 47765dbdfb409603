"""The report of an audit as one HTML file: a section a class, with its words and its shortcuts."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from torchnle.views.plots import INK, PAPER, check_folder

_STYLE = f"""
body {{ font: 16px/1.5 system-ui, sans-serif; color: {INK}; background: {PAPER}; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #ccd; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
img {{ max-width: 100%; }} .pictures img {{ height: 7rem; margin: .2rem; }}
.verdict {{ font-weight: 600; }}
"""


@dataclass(frozen=True)
class Section:
    """What a page says of one class.

    Args:
        title: The class.
        verdict: What was found, in a sentence.
        header: The columns of the table.
        rows: Its cells; numbers get two digits.
        figures: Each with its alternative text.
        pictures: Examples, each with its alternative text.
    """

    title: str
    verdict: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str | float]] = ()
    figures: Sequence[tuple[Figure, str]] = field(default=())
    pictures: Sequence[tuple[Image.Image, str]] = field(default=())


def write_page(file: str | Path, title: str, introduction: str, sections: Sequence[Section]) -> Path:
    """Write a page that needs nothing beside itself, whole or not at all.

    Raises:
        ValueError: If the folder cannot be made or written.

    Example:
        >>> target = Path(tempfile.mkdtemp()) / "audit.html"
        >>> page = write_page(target, "Audit", "", [Section("hen", "no shortcut found")])
        >>> "no shortcut found" in page.read_text()
        True
    """
    target = Path(file)
    check_folder(target.parent)
    body = "\n".join(_section(each) for each in sections)
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n<p>{escape(introduction)}</p>\n{body}\n</body></html>\n"
    )
    handle, temporary = tempfile.mkstemp(suffix=".html", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


def _section(each: Section) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in each.header)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in each.rows)
    table = f"<table><tr>{head}</tr>\n{rows}</table>" if each.rows else ""
    figures = "".join(_image(_png(figure), text) for figure, text in each.figures)
    pictures = "".join(_image(_jpeg(picture), text) for picture, text in each.pictures)
    shown = f'<div class="pictures">{pictures}</div>' if pictures else ""
    title, verdict = escape(each.title), escape(each.verdict)
    return f'<section><h2>{title}</h2>\n<p class="verdict">{verdict}</p>\n{table}\n{figures}{shown}</section>'


def _cell(value: str | float) -> str:
    return f"<td>{escape(value)}</td>" if isinstance(value, str) else f'<td class="number">{value:.2f}</td>'


def _image(source: str, text: str) -> str:
    return f'<img src="{source}" alt="{escape(text)}">'


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, facecolor=PAPER)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _jpeg(picture: Image.Image) -> str:
    small, buffer = picture.convert("RGB"), io.BytesIO()
    small.thumbnail((224, 224))
    small.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
