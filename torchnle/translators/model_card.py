"""The model card: README.md with front matter for the Hub, written from the configuration and given facts."""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING, Any

from torchnle.language.texts import visible

if TYPE_CHECKING:
    from torchnle.translators.base import Translator

_FRONT_MATTER = ("license", "tags", "datasets", "language")
_TAGS = ("torchnle", "interpretability", "explainability", "computer-vision")
_LONGEST = 200
_KINDS = {
    "log_prob": "log-probabilities in nats",
    "cosine": "cosine similarities",
    "projection": "projections on the texts' directions",
}

_BODY = """\
# {title}

A `{cls}` of torchnle: it turns the features of a vision model into words and scores words on features
({kind}).

```python
from torchnle import LanguageAttribution, Translator

translator = Translator.from_pretrained("<this repository or folder>")
LanguageAttribution(model, layers, translator).describe(images)
```

The frozen models that it works with are named here and not part of the weights: {models}.
"""


def model_card(translator: Translator) -> str:
    """Write the card of a translator.

    The front matter holds library, licence ("unknown" unless `translator.card` says), tags, data sets,
    languages and the base models that are Hub repositories; the body shows the configuration and every
    other fact of `translator.card`.
    """
    facts = {key: value for key, value in translator.card.items() if key not in _FRONT_MATTER}
    body = _BODY.format(
        title=plain(facts.pop("title", translator.name)),
        cls=type(translator).__name__,
        kind=_KINDS[translator.score_kind],
        models=", ".join(map(_code, translator.base_models)) or "none",
    )
    sections = [body, _table("Configuration", translator.config)]
    if facts:
        sections.append(_table("Facts", facts))
    return f"---\n{_front_matter(translator)}\n---\n\n" + "\n".join(sections)


def _front_matter(translator: Translator) -> str:
    from huggingface_hub import ModelCardData

    card = {key: _lines(translator.card[key]) for key in _FRONT_MATTER if key in translator.card}
    repositories = [model.split("@")[0] for model in translator.base_models if _is_repository(model)]
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
    r"""A value as one line of Markdown that shows it and does nothing else: no markup, no link, no HTML.

    Example:
        >>> print(plain("a | <b>[link](http://x)"))
        a \| &lt;b&gt;[link]\(http://x)
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    line = escape(_line(short), quote=False)
    return re.sub(r"([\\`*|$]|(?<=\])\()", r"\\\1", line)


def _code(text: str) -> str:
    return f"`{_line(text).replace('`', chr(39))}`"


def _line(text: str) -> str:
    return " ".join(visible(text).split())


def _lines(value: Any) -> Any:
    """A text or a list of them, each on one line: "---" on a line of its own would end the front matter."""
    return _line(value) if isinstance(value, str) else [_lines(each) for each in value or ()]
