"""The report of an audit as one HTML file: a section per class, with its words and its shortcuts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from torchnle.views import html
from torchnle.views.plots import INK, PAPER, check_folder

_STYLE = f"""
body {{ font: 16px/1.5 system-ui, sans-serif; color: {INK}; background: {PAPER}; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }}
table {{ margin: 1rem 0; }}
th, td {{ text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #ccd; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
img {{ max-width: 100%; }} .pictures img {{ height: 7rem; width: auto; margin: .2rem; }}
.verdict {{ font-weight: 600; }}
"""


@dataclass(frozen=True)
class Section:
    """The results of one class, as one section of a page.

    Args:
        title: The class.
        verdict: The result in a sentence.
        header: The names of the table's columns.
        rows: The table's cells; numbers are shown with two digits.
        figures: Figures, each with its alternative text.
        pictures: Example pictures, each with its alternative text.
    """

    title: str
    verdict: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str | float]] = ()
    figures: Sequence[tuple[Figure, str]] = field(default=())
    pictures: Sequence[tuple[Image.Image, str]] = field(default=())


def write_page(file: str | Path, title: str, introduction: str, sections: Sequence[Section]) -> Path:
    """Write a self-contained HTML page atomically.

    Args:
        file: The file to write.
        title: The page's title.
        introduction: The paragraph below the title.
        sections: One section per class.

    Returns:
        The file.

    Raises:
        ValueError: If the folder cannot be made or written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "audit.html"
        >>> page = write_page(target, "Audit", "", [Section("hen", "no shortcut found")])
        >>> "no shortcut found" in page.read_text()
        True
    """
    target = Path(file)
    check_folder(target.parent)
    body = "\n".join(_section(each) for each in sections)
    return html.write(target, html.page(title, f"<p>{escape(introduction)}</p>\n{body}", style=_STYLE))


def _section(each: Section) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in each.header)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in each.rows)
    table = f"<table><tr>{head}</tr>\n{rows}</table>" if each.rows else ""
    figures = "".join(f'<img src="{_png(figure)}" alt="{escape(text)}">' for figure, text in each.figures)
    pictures = "".join(html.picture(picture, 224, text) for picture, text in each.pictures)
    shown = f'<div class="pictures">{pictures}</div>' if pictures else ""
    title, verdict = escape(each.title), escape(each.verdict)
    return f'<section><h2>{title}</h2>\n<p class="verdict">{verdict}</p>\n{table}\n{figures}{shown}</section>'


def _cell(value: str | float) -> str:
    return f"<td>{escape(value)}</td>" if isinstance(value, str) else f'<td class="number">{value:.2f}</td>'


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, facecolor=PAPER)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
