"""Hooks of the documentation site: lists made from the code, and no setup code of the tests in the pages.

A page asks for a list with a comment: ``<!-- generated: recipe keys -->``, ``<!-- generated: command line
-->``, ``<!-- generated: names of torchnle.data -->`` or ``<!-- generated: document SECURITY.md -->``.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from typing import Any

_SETUP = re.compile(r"^<!-- setup\n.*?^-->\n", re.S | re.M)
_GENERATED = re.compile(r"^<!-- generated: (.+?) -->$", re.M)
#: One entry of a Google section: a name and its text, which goes on in deeper lines.
_ENTRY = re.compile(r"^    (\w+): (.+(?:\n     +.+)*)", re.M)

#: The folder of the pages, and documents of the repository's top with the pages that show them.
_PAGES = Path(__file__).parent
_DOCUMENTS = {
    "SECURITY.md": "promises.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the lists that a page asks for, and remove the setup code of its tests."""
    return _GENERATED.sub(lambda found: generated(found[1]), _SETUP.sub("", markdown))


def generated(what: str) -> str:
    """Make one list.

    Raises:
        ValueError: If no list has this name.
    """
    if what == "recipe keys":
        return "\n\n".join(_recipe_tables())
    if what == "command line":
        return "\n\n".join(_commands())
    if what.startswith("names of "):
        package = what.removeprefix("names of ")
        names = [name for name in import_module(package).__all__ if not name.startswith("_")]
        return "\n\n".join(f"::: {package}.{name}" for name in names)
    if what.startswith("document "):
        return _document(what.removeprefix("document "))
    raise ValueError(
        f"there is no list {what!r}; known: recipe keys, command line, names of PACKAGE, document FILE."
    )


def _document(name: str) -> str:
    """Return a document of the repository's top, with its links to others of them as links to pages."""
    text = (_PAGES.parent / name).read_text(encoding="utf-8")
    for file, page in _DOCUMENTS.items():
        text = text.replace(f"]({file})", f"]({page})")
    return text.replace("](docs/", "](")


def recipe_classes() -> dict[str, type]:
    """Return the class of every table of a recipe, by the table's heading."""
    from torchnle.data.recipe_tables import KINDS
    from torchnle.methods.devil.training.run import TABLES
    from torchnle.methods.texplain.training.settings import Network
    from torchnle.training.recipe import LoopRecipe

    tables = {f"[{name}]": table for name, table in TABLES.items()}
    kinds = {f'[[data]] kind = "{kind}"': table for kind, table in KINDS.items()}
    texplain = {"[network] of TExplain": Network, "[training] and [finetuning] of TExplain": LoopRecipe}
    return {**tables, **kinds, **texplain}


def _recipe_tables() -> Iterator[str]:
    for heading, table in recipe_classes().items():
        first = (getdoc(table) or "").split("\n\n")[0].replace("\n", " ")
        texts = meanings(table)
        rows = [
            f"| `{field.name}` | {_cell(str(field.type))} | {_default(field)} | {texts.get(field.name, '')} |"
            for field in fields(table)
        ]
        head = ["| key | type | default | meaning |", "|---|---|---|---|"]
        yield "\n".join([f"## `{heading}`", "", first, "", *head, *rows])


def meanings(table: type) -> dict[str, str]:
    """Read what a class's fields mean from its docstring, those of its bases and of the class it names."""
    from torchnle import data

    named = re.findall(r"`(\w+)`", (getdoc(table) or "").split("\n\n")[0])
    opened = [getattr(data, name) for name in named if hasattr(data, name)]
    found: dict[str, str] = {}
    for cls in (*opened, *reversed(table.__mro__)):
        found |= {name: " ".join(text.split()) for name, text in _ENTRY.findall(_arguments(cls))}
    return found


def _arguments(cls: type) -> str:
    """Return the section Args of a class's own docstring."""
    doc = (getdoc(cls) or "") if "__doc__" in vars(cls) else ""
    found = re.search(r"^Args:\n((?:    .*\n?|\n)+)", doc, re.M)
    return found[1] if found else ""


def _default(field: Field[Any]) -> str:
    return "needed" if field.default is MISSING else _cell(repr(field.default))


def _cell(text: str) -> str:
    return "`" + text.replace("|", r"\|") + "`"


def _commands() -> Iterator[str]:
    from torchnle.cli.main import build_parser

    os.environ["COLUMNS"] = "100"  # that of argparse's lines
    yield from _helps(build_parser(), "##")


def _helps(parser: argparse.ArgumentParser, level: str) -> Iterator[str]:
    yield f"{level} {parser.prog}\n\n```text\n{parser.format_help()}```"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _helps(command, "##")
