"""Class names in any usual form, as one name per row of the head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torchnle.backbones.class_lists import shipped_class_list
from torchnle.language.texts import shorten

#: The names that transformers gives to unnamed classes.
_NOBODYS = re.compile(r"(?:label|class|category|output)[\s_-]*\d+", re.IGNORECASE)


def as_class_names(class_names: Iterable[object] | Mapping[Any, Any]) -> tuple[str, ...]:
    """Return class names as a tuple in the order of the classes.

    Args:
        class_names: A list or another ordered collection; or a mapping from index to name (transformers'
            `id2label`, whose keys may be written as strings) or from name to index (`label2id`); or the name
            of a known list ("imagenet-1k").

    Raises:
        TypeError: If it has no order (a set), is another mapping, or holds other than strings.
        ValueError: If it is one string and no known list, a name is blank or generated (LABEL_0), or a
            mapping does not number its classes from 0.

    Example:
        >>> as_class_names({"1": "dog", "0": "cat"}), as_class_names({"dog": 1, "cat": 0})
        (('cat', 'dog'), ('cat', 'dog'))
    """
    if isinstance(class_names, str):
        return shipped_class_list(class_names)
    if isinstance(class_names, Mapping):
        return as_class_names(_in_order(_numbered(class_names)))
    if isinstance(class_names, (set, frozenset, bytes)) or not isinstance(class_names, Iterable):
        kind = type(class_names).__name__
        raise TypeError(f"class_names is a {kind}; pass a list in the order of the classes, or a mapping.")
    names = tuple(_check_name(index, name) for index, name in enumerate(class_names))
    if any(_NOBODYS.fullmatch(name) for name in names):
        raise ValueError(
            f"class_names are {', '.join(names[:3])}, ...: the model's configuration does not name its "
            "classes. Pass class_names=[...], a name in words for each class, in the order of its outputs."
        )
    return names


def _numbered(mapping: Mapping[Any, Any]) -> list[tuple[int, Any]]:
    """Return the classes as (index, name), whether the index or the name is the key."""
    keys, values = list(mapping), list(mapping.values())
    if all(map(_is_index, values)) and not all(type(key) is int for key in keys):
        named = not all(map(_is_index, keys)) or all(type(value) is int for value in values)
        if named:
            return [(int(value), key) for key, value in mapping.items()]
    if all(map(_is_index, keys)) and all(isinstance(value, str) for value in values):
        return [(int(key), value) for key, value in mapping.items()]
    key, value = next(iter(mapping.items()), (None, None))
    raise TypeError(
        f"class_names is a mapping of {type(key).__name__} to {type(value).__name__}, such as "
        f"{shorten(f'{key!r}: {value!r}')}; pass index -> name, name -> index, or a list."
    )


def _is_index(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isdecimal())


def _in_order(numbered: list[tuple[int, Any]]) -> list[Any]:
    indices = sorted(index for index, _ in numbered)
    if indices != list(range(len(indices))):
        wrong = [n for n in range(len(indices)) if indices.count(n) != 1][:5]
        raise ValueError(
            f"class_names is a mapping of {len(indices)} classes whose indices are not 0 to "
            f"{len(indices) - 1}, one each: look at {', '.join(map(str, wrong))}."
        )
    return [name for _, name in sorted(numbered, key=lambda pair: pair[0])]


def _check_name(index: int, name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"class_names[{index}] is {name!r}; every class name must be a string.")
    if not name.strip():
        raise ValueError(
            f"class_names[{index}] is {name!r}, which is blank; every class needs a name in words."
        )
    return name
