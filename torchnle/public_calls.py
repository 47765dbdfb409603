"""Wrappers of public functions: arguments checked by one table, torch defaults and autocast set aside.

A message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from threading import local
from typing import Any, SupportsFloat, TypeVar

import torch
from torch import Tensor, nn

_Class = TypeVar("_Class", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Characters of a value that a message shows.
_SHOWN = 60
_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
_CHECKED = ("attribute", "saliency", "describe", "top_texts", "top_locations", "text_score", "__init__")
_CPU = torch.device("cpu")
#: What the user had set where this thread entered torchnle.
_users = local()


def checks_arguments(cls: _Class) -> _Class:
    """Wrap the public methods of a class (decorator) so that they check their arguments first.

    Example:
        >>> @checks_arguments
        ... class Ranks:
        ...     def top_texts(self, k=5):
        ...         return k
        >>> Ranks().top_texts(k="5")
        Traceback (most recent call last):
        ...
        TypeError: k='5' is a str; pass how many to find, 1 or more.
    """
    for name in _CHECKED:
        method = getattr(cls, name, None)
        if inspect.isfunction(method) and not hasattr(method, "checked_arguments"):
            setattr(cls, name, checked(method))
    return cls


def checked(method: _Function) -> _Function:
    """Wrap a public function (decorator) so that it checks its arguments first and uses torchnle's defaults.

    Example:
        >>> @checked
        ... def draw(seed=0):
        ...     return seed
        >>> draw(seed="1")
        Traceback (most recent call last):
        ...
        TypeError: seed='1' is a str; pass a whole number, 0 or more.
    """
    signature = inspect.signature(method)
    tested = [name for name in signature.parameters if name in _TABLE]

    @wraps(method)
    @own_defaults
    def check(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)  # a TypeError as Python's own
        given = bound.arguments
        for name in tested:
            if name in given and not (name == "inputs" and _takes_pictures(args, given[name])):
                _TABLE[name](name, given[name])
                given[name] = _plain(given[name])
        return method(*bound.args, **bound.kwargs)

    check.checked_arguments = True  # type: ignore[attr-defined]
    check.__wrapped__ = getattr(method, "__wrapped__", method)
    return check  # type: ignore[return-value]


def _refuse(name: str, value: object, allowed: str, error: type[Exception] = ValueError) -> Exception:
    shown = repr(value) if not isinstance(value, Tensor) else f"tensor of shape {tuple(value.shape)}"
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
    kind = f" is a {type(value).__name__}" if error is TypeError else ""
    return error(f"{name}={shown}{kind}; pass {allowed}.")


def _takes_pictures(args: tuple[Any, ...], inputs: object) -> bool:
    """Return whether inputs are pictures and not tensors; raise if the object cannot convert them."""
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    tensors = all(isinstance(part, Tensor) for part in parts)
    return not tensors and bool(args) and hasattr(args[0], "preprocess")


def _plain(value: Any) -> Any:
    """NumPy's whole numbers as Python's."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_count, value)):
        return tuple(map(operator.index, value))
    return operator.index(value) if is_count(value) else value


def is_count(value: object) -> bool:
    """Return whether a value is a whole number, of Python or NumPy, and no bool.

    Example:
        >>> is_count(3), is_count(True), is_count(3.0)
        (True, False, False)
    """
    if isinstance(value, (bool, Tensor)) or type(value).__name__ in ("bool", "bool_"):
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _count(allowed: str, *, optional: bool) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if value is None and optional:
            return
        if not is_count(value):
            raise _refuse(name, value, allowed, TypeError)
        if operator.index(value) < 1:  # type: ignore[arg-type]
            raise _refuse(name, value, allowed)

    return check


def _whole(name: str, value: object) -> None:
    allowed = "a whole number, 0 or more"
    if not is_count(value):
        raise _refuse(name, value, allowed, TypeError)
    if operator.index(value) < 0:  # type: ignore[arg-type]
        raise _refuse(name, value, allowed)


def _process(name: str, value: object) -> None:
    if value is not None:
        _whole(name, value)


def _number(least: float, most: float, allowed: str) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, (bool, str, Tensor)) or not isinstance(value, SupportsFloat):
            raise _refuse(name, value, allowed, TypeError)
        if not least < float(value) <= most:
            raise _refuse(name, value, allowed)

    return check


def _path(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, (str, os.PathLike)) or not os.fspath(value)):
        raise _refuse(name, value, "the path of a file or folder", TypeError)


def _several(allowed: str, *, optional: bool = False) -> Callable[[str, object], None]:
    """Any iterable but one text, one tensor or a mapping."""

    def check(name: str, value: object) -> None:
        if value is None and optional:
            return
        if isinstance(value, (str, bytes, Mapping, Tensor)) or not isinstance(value, Iterable):
            raise _refuse(name, value, allowed, TypeError)

    return check


def _files(name: str, value: object) -> None:
    """A path, or several; anything else than a path in there is told when it is met."""
    if isinstance(value, (bytes, Mapping, Tensor)) or not isinstance(value, (os.PathLike, Iterable)):
        raise _refuse(name, value, "a folder, or a list of the paths of files", TypeError)


def _classifier(name: str, value: object) -> None:
    if not isinstance(getattr(value, "model", value), nn.Module):
        raise _refuse(name, value, "the classifier, an nn.Module or a Backbone", TypeError)


def _example(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise _refuse(name, value, "one tensor, a few images (N, C, H, W)", TypeError)
    if value.ndim < 2 or not value.numel() or not value.is_floating_point():
        raise _refuse(name, value, f"a few images (N, C, H, W) of floating numbers, not {value.dtype}")


def _unordered(name: str, value: object) -> None:
    """Texts whose order does not matter: sets are welcome."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _refuse(name, value, "a list of words", TypeError)


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _refuse(name, value, "True or False", TypeError)


def _inputs(name: str, value: object) -> None:
    parts = value if isinstance(value, tuple) else (value,)
    if not parts:
        raise _refuse(name, value, "a tensor (N, C, H, W), or a tuple of at least one")
    for part in parts:
        if not isinstance(part, Tensor):
            allowed = (
                "a torch.Tensor (N, 3, H, W) or a tuple of tensors, made with the model's own transforms"
            )
            raise _refuse(name, part, allowed, TypeError)
        if part.is_complex():
            raise _refuse(name, part, f"real numbers, not {part.dtype}", TypeError)


def _where(name: str, value: object) -> None:
    allowed = "None, 'all', (row, column) or a mask (H, W) or (N, H, W)"
    if value is None or (isinstance(value, str) and value == "all"):
        return
    if isinstance(value, Tensor):
        if value.is_complex() or value.ndim not in (2, 3) or not value.numel():
            raise _refuse(name, value, f"{allowed}, of real numbers, not {value.dtype}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise _refuse(name, value, f"{allowed}, without NaN or infinite numbers")
    elif not isinstance(value, (tuple, list)):
        raise _refuse(name, value, allowed, ValueError if isinstance(value, str) else TypeError)
    elif len(value) != 2 or not all(map(is_count, value)):
        raise _refuse(name, value, f"{allowed}: a location is two whole numbers")


def _mode(name: str, value: object) -> None:
    if value is not None and value not in _MODES:
        raise _refuse(name, value, f"one of {', '.join(_MODES)}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _refuse(name, value, "one text", TypeError)


def _texts(name: str, value: object) -> None:
    if isinstance(value, (bytes, dict, set, frozenset)) or not isinstance(value, Iterable):
        raise _refuse(name, value, "a text, or a list of texts in an order", TypeError)


def _contrast(name: str, value: object) -> None:
    if value is not None and (isinstance(value, (bytes, str)) or not isinstance(value, Sequence)):
        raise _refuse(name, value, "a list of other texts, or None", TypeError)


def _normalize(name: str, value: object) -> None:
    if value is not None and value != "length":
        raise _refuse(name, value, "'length' or None")


def _selector(name: str, value: object) -> None:
    if not callable(value) and not is_count(value):
        raise _refuse(name, value, "a channel's number, or a function from (N, L, D) to (N, L)", TypeError)


_TABLE: dict[str, Callable[[str, Any], None]] = {
    "inputs": _inputs,
    "texts": _texts,
    "text": _text,
    "contrast": _contrast,
    "normalize": _normalize,
    "where": _where,
    "k": _count("how many to find, 1 or more", optional=False),
    "internal_batch_size": _count(
        "a whole number of at least 1, or None for what suits the device", optional=True
    ),
    "joint": _flag,
    "prior": _flag,
    "attribute_to_layer_input": _flag,
    "attribute_to_neuron_input": _flag,
    "interpolate_mode": _mode,
    "neuron_selector": _selector,
    "n": _count("how many sentences to draw, or None", optional=True),
    "count": _count("how many, 1 or more", optional=False),
    "batch_size": _count("how many pictures are read at once, 1 or more, or None", optional=True),
    "max_new_tokens": _count("how many tokens a sentence may have, 1 or more, or None", optional=True),
    "seed": _whole,
    "workers": _whole,
    "process": _process,
    "processes": _count("how many processes share the work, 1 or more, or None", optional=True),
    "top_p": _number(0, 1, "a share of the probability, above 0 and up to 1"),
    "temperature": _number(0, float("1e6"), "a positive number"),
    "replacement": _flag,
    "without_image": _flag,
    "progress": _flag,
    "folder": _path,
    "journal": _path,
    "files": _files,
    "batches": _several("batches (images, labels), one after the other"),
    "unwanted": _unordered,
    "model": _classifier,
    "example": _example,
}


def own_defaults(function: _Function) -> _Function:
    """Wrap a public function (decorator) so that torch's defaults in it are float32 and the CPU.

    Devices and dtypes of results follow the model and the inputs. If the user has changed no default, this
    costs a microsecond.

    Example:
        >>> @own_defaults
        ... def zeros():
        ...     return torch.zeros(1).device
        >>> with torch.device("meta"):
        ...     zeros()
        device(type='cpu')
    """

    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        dtype, device = torch.get_default_dtype(), torch.empty(0).device
        if dtype == torch.float32 and device == _CPU:
            return function(*args, **options)
        before = getattr(_users, "defaults", None)
        _users.defaults = (dtype, device)
        try:
            with _set(torch.float32, _CPU):
                return function(*args, **options)
        finally:
            _users.defaults = before

    return run  # type: ignore[return-value]


def without_autocast(method: _Function) -> _Function:
    """Wrap a method (decorator) so that it computes in its own dtype: autocast is for the model that is read.

    Example:
        >>> @without_autocast
        ... def product(x):
        ...     return (x @ x).dtype
        >>> with torch.autocast("cpu"):
        ...     product(torch.ones(2, 2))
        torch.float32
    """

    @wraps(method)
    def exact(*args: Any, **options: Any) -> Any:
        with ExitStack() as off:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    off.enter_context(torch.autocast(device, enabled=False))
            return method(*args, **options)

    return exact  # type: ignore[return-value]


@contextmanager
def users_defaults() -> Iterator[None]:
    """Restore the user's defaults while the user's own code runs within torchnle.

    Example:
        >>> with users_defaults():
        ...     torch.zeros(1).dtype
        torch.float32
    """
    found = getattr(_users, "defaults", None)
    if found is None:
        yield
        return
    with _set(*found):
        yield


@contextmanager
def _set(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    before = torch.get_default_dtype()
    with device:
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
