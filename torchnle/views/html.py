"""Self-contained HTML pages: escaped texts, embedded pictures, no external addresses."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from torchnle.hub import leftovers

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem;color:#10182b;background:#fff}
table{border-collapse:collapse}td,th{padding:.3rem .6rem;text-align:left;vertical-align:top}
th{cursor:pointer;border-bottom:2px solid #10182b;white-space:nowrap}tr+tr td{border-top:1px solid #d5d9e2}
img{margin:1px;display:inline-block}.dim{color:#6a7288}input[type=search]{padding:.3rem;width:20rem}
"""


def page(title: str, body: str, *, script: str = "", style: str = "") -> str:
    """Build a complete HTML page from its body.

    Args:
        title: The title, which is escaped here.
        body: HTML with escaped texts.
        script: JavaScript at the page's end.
        style: CSS in addition to the common one.

    Example:
        >>> page("<units>", "<p>a car</p>").count("&lt;units&gt;")
        2
    """
    code = f"<script>{script}</script>" if script else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_STYLE}{style}</style></head><body><h1>{escape(title)}</h1>{body}{code}</body></html>\n"
    )


def picture(image: Image.Image, side: int, text: str = "") -> str:
    """Embed a picture in a page as a JPEG no larger than `side`.

    Args:
        image: Any mode.
        side: The longest side, in pixels.
        text: Its alternative text.

    Example:
        >>> picture(Image.new("RGB", (8, 8)), 4, 'a "cat"')[:40]
        '<img width="4" height="4" alt="a &quot;c'
    """
    small = image.convert("RGB")
    small.thumbnail((side, side))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    data = base64.b64encode(content.getvalue()).decode()
    size = f'width="{small.width}" height="{small.height}"'
    return f'<img {size} alt="{escape(text)}" title="{escape(text)}" src="data:image/jpeg;base64,{data}">'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, name: str = "table") -> str:
    """Build an HTML table whose rows are sorted by clicking a column.

    Args:
        header: The columns' names, escaped here.
        rows: One HTML cell per column.
        name: The table's id.

    Example:
        >>> table(["a<b"], [["<b>1</b>"]]).count("a&lt;b")
        1
    """
    heads = "".join(f"<th>{escape(text)}</th>" for text in header)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table id="{escape(name)}"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'


#: Sorts a table by the column that is clicked, and shows the rows that hold all words of #search.
SORT_AND_SEARCH = """
for(const t of document.querySelectorAll('table')){const b=t.tBodies[0];
t.querySelectorAll('th').forEach((h,i)=>h.onclick=()=>{const d=h.dataset.d=h.dataset.d==='1'?'-1':'1';
const v=r=>r.cells[i].dataset.v??r.cells[i].textContent;
[...b.rows].sort((x,y)=>{const p=v(x),q=v(y),n=p-q;return d*(isNaN(n)?p.localeCompare(q):n)})
.forEach(r=>b.append(r))})}
const s=document.getElementById('search');if(s)s.oninput=()=>{const w=s.value.toLowerCase().split(/\\s+/);
for(const r of document.querySelectorAll('tbody tr'))
r.hidden=!w.every(x=>r.textContent.toLowerCase().includes(x))};
"""


def write(file: str | os.PathLike[str], content: str) -> Path:
    """Write a page atomically, and create its parent folders.

    Example:
        >>> import tempfile
        >>> write(Path(tempfile.mkdtemp(), "pages", "a.html"), page("a", "")).name
        'a.html'
    """
    target = Path(file)
    with leftovers.replacing(target) as scratch:
        scratch.write_text(content, encoding="utf-8")
    return target
