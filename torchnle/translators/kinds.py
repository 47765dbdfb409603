"""Kinds: stable names of saved classes, independent of their modules' paths.

A saved folder names a kind, and the table here maps it to a class; no other module is imported because of a
file. A user-defined class states its kind in its definition: ``class Mine(Translator, kind="mine")``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any, TypeVar

from torchnle.version import __version__

_Class = TypeVar("_Class")

#: Kind -> "module:Class", imported on first use, one line a class of torchnle.
KINDS = {
    "map": "torchnle.methods.aligned.translator:MapTranslator",
    "clip": "torchnle.methods.clip.translator:ClipTranslator",
    "prefix": "torchnle.translators.prefix:PrefixTranslator",
    "text_decoder": "torchnle.methods.aligned.decoder.text_decoder:TextDecoder",
    "map_start": "torchnle.methods.devil.map_start:MapStart",
    "devil_network": "torchnle.methods.devil.network:DeViLNetwork",
    "texplain_network": "torchnle.methods.texplain.network:TExplainNetwork",
    "texplain_cross_attention": (
        "torchnle.methods.texplain.cross_attention.translator:CrossAttentionTranslator"
    ),
}
#: The module paths that folders named before kinds existed.
OLD_PATHS = {
    f"torchnle.translators.{path}": kind
    for path, kind in {
        "clip_space.ClipTranslator": "clip",
        "prefix.PrefixTranslator": "prefix",
        "text_decoder.TextDecoder": "text_decoder",
        "devil_network.DeViLNetwork": "devil_network",
        "texplain_network.TExplainNetwork": "texplain_network",
    }.items()
}
_registered: dict[str, type] = {}


class HasKind:
    """Registers every subclass that states a kind: ``class Mine(Translator, kind="mine")``.

    Raises:
        ValueError: As `register`.
    """

    def __init_subclass__(cls, *, kind: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind is not None:
            register(kind, cls)


def register(kind: str, cls: type) -> None:
    """Register a class by its kind; the same class may be defined again, as in a notebook.

    Raises:
        ValueError: If the kind is torchnle's own, another class's, or no lower-case name.

    Example:
        >>> register("map", dict)
        Traceback (most recent call last):
        ...
        ValueError: the kind 'map' is torchnle's own
        (torchnle.methods.aligned.translator:MapTranslator); give builtins:dict another one.
    """
    if not isinstance(kind, str) or re.fullmatch(r"[a-z][a-z0-9_-]*", kind) is None:
        raise ValueError(f"kind={kind!r} of {_where(cls)}: pass a name of a-z, 0-9, '_' and '-', as 'mine'.")
    if KINDS.get(kind, _where(cls)) != _where(cls):
        raise ValueError(
            f"the kind {kind!r} is torchnle's own ({KINDS[kind]}); give {_where(cls)} another one."
        )
    if kind in _registered and _where(_registered[kind]) != _where(cls):
        raise ValueError(
            f"the kind {kind!r} is that of {_where(_registered[kind])}; give {_where(cls)} another one."
        )
    _registered[kind] = cls


def kind_of(cls: type) -> str:
    """Find the kind under which a class is saved.

    Raises:
        ValueError: If it has none.

    Example:
        >>> from torchnle.translators.prefix import PrefixTranslator
        >>> kind_of(PrefixTranslator)
        'prefix'
    """
    kinds = {**{_where(mine): kind for kind, mine in _registered.items()}, **{w: k for k, w in KINDS.items()}}
    if _where(cls) not in kinds:
        raise ValueError(
            f"{_where(cls)} has no kind, by which a saved file could name it. Give it one: "
            f'class {cls.__name__}(..., kind="{cls.__name__.lower()}").'
        )
    return kinds[_where(cls)]


def is_ours(cls: type) -> bool:
    """Return whether a class is in torchnle's table, so that it needs no import before loading."""
    return _where(cls) in KINDS.values()


def find(name: str, base: type[_Class]) -> type[_Class]:
    """Find the class that a saved file names, by its kind or, in old files, by its module path.

    Args:
        name: The name in the file.
        base: The class itself or a base of it.

    Raises:
        ValueError: If the name is unknown, or its class is no (concrete) `base`.
    """
    old = {_where(cls).replace(":", "."): kind for kind, cls in _registered.items()} | OLD_PATHS
    kind = old.get(name, name)
    if kind in KINDS:
        module, _, attribute = KINDS[kind].partition(":")
        found: type = getattr(importlib.import_module(module), attribute)
    elif kind in _registered:
        found = _registered[kind]
    else:
        raise ValueError(
            f"the kind {name!r} is not known; torchnle {__version__} knows {sorted({*KINDS, *_registered})}. "
            "If it is that of a class of your own, import the module that defines it first, with "
            f"class ...({base.__name__}, kind={name!r}): torchnle imports no module that a file names."
        )
    if not issubclass(found, base) or inspect.isabstract(found):
        raise ValueError(
            f"the kind {name!r} is that of {_where(found)}, which is no {base.__name__} that can be built."
        )
    return found


def _where(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
