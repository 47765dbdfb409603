"""The model card of a saved folder: README.md with front matter for the Hub."""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING, Any

from torchnle.language.texts import visible
from torchnle.translators import kinds

if TYPE_CHECKING:
    from torchnle.translators.pretrained import Pretrained

_FRONT_MATTER = ("license", "tags", "datasets", "language")
_TAGS = ("torchnle", "interpretability", "explainability", "computer-vision")
_LONGEST = 200


def model_card(saved: Pretrained) -> str:
    """Write the model card of a saved folder.

    The front matter holds library, licence ("unknown" unless `saved.card` says), tags, data sets, languages
    and the base models that are Hub repositories; the body shows how to load and use it, the frozen models,
    the configuration and every other fact of `saved.card`.

    Raises:
        ValueError: If the tags are no list of strings.
    """
    facts = {key: value for key, value in saved.card.items() if key not in _FRONT_MATTER}
    models = ", ".join(map(code, saved.base_models)) or "none"
    sections = [
        f"# {plain(facts.pop('title', saved.name))}\n\n{saved.summary}\n",
        *([f"```python\n{_imported(type(saved))}{saved.usage}\n```\n"] if saved.usage else []),
        f"The frozen models that it works with are named here and not part of the weights: {models}.\n",
        _table("Configuration", saved.config),
        *([_table("Facts", facts)] if facts else []),
    ]
    return f"---\n{_front_matter(saved)}\n---\n\n" + "\n".join(sections)


def _imported(cls: type) -> str:
    """Return the import that registers a class that is not torchnle's own."""
    if kinds.is_ours(cls):
        return ""
    named = f"{cls.__name__}, of the kind '{kinds.kind_of(cls)}'"
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        return f"# First run the code that defines {named}.\n"
    return f"import {cls.__module__}  # it defines {named}\n"


def _front_matter(saved: Pretrained) -> str:
    from huggingface_hub import ModelCardData

    tags = saved.card.get("tags", [])
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError(f"the card's 'tags' is {tags!r}; it must be a list of strings.")
    card = {key: _lines(saved.card[key]) for key in _FRONT_MATTER if key in saved.card}
    repositories = [model.split("@")[0] for model in saved.base_models if _is_repository(model)]
    data = ModelCardData(
        library_name="torchnle",
        license=card.get("license", "unknown"),
        tags=list(dict.fromkeys([*_TAGS, *card.get("tags", [])])),
        datasets=card.get("datasets"),
        language=card.get("language"),
        base_model=repositories or None,
    )
    text: str = data.to_yaml()
    return text


def _is_repository(reference: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+(@.+)?", reference) is not None


def _table(title: str, values: dict[str, Any]) -> str:
    rows = "".join(f"| {plain(key)} | {plain(value)} |\n" for key, value in values.items())
    return f"## {title}\n\n| | |\n|---|---|\n{rows}"


def plain(value: object) -> str:
    r"""Escape a value as one line of Markdown without markup, links or HTML.

    Example:
        >>> print(plain("a | <b>[link](http://x)"))
        a \| &lt;b&gt;[link]\(http://x)
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    line = escape(one_line(short), quote=False)
    return re.sub(r"([\\`*|$]|(?<=\])\()", r"\\\1", line)


def code(text: str) -> str:
    """Format a text as a code span of Markdown.

    Example:
        >>> print(code("org/lm`<b>`"))
        `org/lm'<b>'`
    """
    return f"`{one_line(text).replace('`', chr(39))}`"


def one_line(text: str) -> str:
    r"""Return a text on one line, with control characters escaped.

    Example:
        >>> one_line("org/model\n```\x1b[2J")
        'org/model ```\\x1b[2J'
    """
    return " ".join(visible(text).split())


def _lines(value: Any) -> Any:
    """Return a text or a list of them, each on one line, since a line "---" would end the front matter."""
    if isinstance(value, list | tuple):
        return [_lines(each) for each in value]
    return one_line(value) if isinstance(value, str) else value
