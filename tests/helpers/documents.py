"""The documents of the repository, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
#: Everything that shows code to a reader.
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *DOCS.glob("*.md"),
        *DOCS.glob("*/*.md"),
    ]
)
_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$|^<!-- setup\n(.*?)^-->$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """One block of code.

    Args:
        language: "python", "bash", "text", ...
        code: Without the indent of its fence.
        line: Its first line in the document.
    """

    language: str
    code: str
    line: int


def blocks(document: Path) -> list[Block]:
    """List the blocks of a document; code in a comment ``<!-- setup`` is Python that only the tests run."""
    text = document.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        indent, language, shown, hidden = match.groups()
        code = hidden if shown is None else re.sub(f"^{indent}", "", shown, flags=re.M)
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(language or "python", code, line))
    return found


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))
