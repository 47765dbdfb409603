"""Prompts for a chat model to summarise captions as one label (A.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


_SIMPLIFY = (
    "Give the main subject of this image caption as one short label. Leave out needless details. Answer with "
    "the label only: no numbering, quotation marks or full stop."
)
_SUMMARISE = (
    "These are captions of images that have something in common. Give one label of 1 to 5 words for what "
    "most of them, not necessarily all, have in common. Do not repeat a caption. Answer with the label only: "
    "no quotation marks or full stop."
)
_SUPERCLASS = (
    "Behind the label, on the same line and in brackets, name the one of these classes that fits best, "
    "without hedging: {names}."
)
#: Two conversations that show what is wanted: captions, and their label.
_EXAMPLES = (
    (
        ("a knitted scarf with orange and blue stripes", "a rug with a pattern of many colours",
         "a pile of towels in pink and green", "a close-up of woven wool", "a curtain with yellow flowers"),
        "colourful textiles",
    ),
    (
        ("a fire engine in front of a house", "a girl in a red coat", "a bowl of cherries on a table",
         "a telephone box in a street", "a red door with a brass handle"),
        "red objects",
    ),
)  # fmt: skip


def simplify(caption: str) -> list[Message]:
    """Build the prompt that asks for a caption's subject without details.

    Example:
        >>> simplify("a hen on grass")[0]["content"].endswith("a hen on grass")
        True
    """
    return [_message("user", f"{_SIMPLIFY}\n{caption}")]


def summarise(captions: Sequence[str], superclasses: Sequence[str] = ()) -> list[Message]:
    """Build the prompt that asks for the common concept of captions, with two worked examples.

    Args:
        captions: The captions.
        superclasses: Ask also for one of these in brackets after the label.

    Example:
        >>> [message["role"] for message in summarise(["a hen", "a duck"])]
        ['user', 'assistant', 'user', 'assistant', 'user']
    """
    classes = f" {_SUPERCLASS.format(names=', '.join(superclasses))}" if superclasses else ""
    messages: list[Message] = []
    for examples, label in _EXAMPLES:
        messages += [_message("user", f"{_SUMMARISE}\n{_listed(examples)}"), _message("assistant", label)]
    return [*messages, _message("user", f"{_SUMMARISE}{classes}\n{_listed(captions)}")]


def look(count: int) -> str:
    """Build the prompt that asks a multimodal model for labels of given images (A.4.4).

    Example:
        >>> "5 labels" in look(5)
        True
    """
    return (
        f"These images excite one unit of a neural network. Give {count} labels of 1 to 5 words, one a line, "
        "for what most of them, not necessarily all, have in common. Answer with the labels only."
    )


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _listed(captions: Sequence[str]) -> str:
    return "\n".join(f"- {caption}" for caption in captions)
