"""The explorer's page: served as it lies in ``static``, or written as one file with its data inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

#: The page's files, written by hand: they are served as they are.
STATIC = Path(__file__).with_name("static")
#: The page's modules, each after those that it imports.
MODULES = (
    "dom", "colours", "address", "answers", "stage", "words", "layers", "maps", "concepts", "photos", "main",
)  # fmt: skip
_HEAD, _FOOT = "<!--head-->", "<!--foot-->"


def live_page(token: str) -> str:
    """Fill the page for the server.

    Args:
        token: The token of this run, which the page's questions carry.

    Example:
        >>> '<meta name="torchnle-token" content="a&quot;b">' in live_page('a"b')
        True
    """
    head = f'<meta name="torchnle-token" content="{escape(token)}">'
    head += '<link rel="stylesheet" href="static/explorer.css">'
    return _filled(head, '<script type="module" src="static/main.js"></script>')


def static_page(data: Mapping[str, Any]) -> str:
    """Fill the page with its answers, its style and its code: one file that opens from disk.

    Browsers load no modules from disk, so they are joined into one script.

    Args:
        data: What `torchnle.explorer.export.answers` collects.

    Example:
        >>> "</script><b>" in static_page({"name": "</script><b>"})
        False
    """
    embedded = json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    head = f"<style>{_text('explorer.css')}</style>"
    foot = f'<script type="application/json" id="answers">{embedded}</script><script>{joined()}</script>'
    return _filled(head, foot)


def joined() -> str:
    """Join the modules into one strict script; their top-level names must differ.

    Example:
        >>> "import " in joined().split("*/")[-1]
        False
    """
    parts = (_text(f"{name}.js") for name in MODULES)
    code = "\n".join(_IMPORTS.sub("", part) for part in parts)
    return f'(() => {{\n"use strict";\n{_EXPORTS.sub("", code)}\n}})();\n'


_IMPORTS = re.compile(r"^import\s[^;]*;\n", re.MULTILINE)
_EXPORTS = re.compile(r"^export (?=(?:async )?(?:function|const|class)\b)", re.MULTILINE)


def _filled(head: str, foot: str) -> str:
    return _text("index.html").replace(_HEAD, head).replace(_FOOT, foot)


def _text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
