"""One thread at a time in one model: hooks, training flags and what a forward keeps belong to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, RLock, get_ident
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
#: How many blocks keep a module in evaluation mode that was training before, by the module's id.
_kept: dict[int, int] = {}
_guard = Lock()


@contextmanager
def alone_in(*things: Any) -> Iterator[None]:
    """Keep other threads of this process out of a model or tokenizer; the thread itself may enter again.

    Args:
        things: Models, tokenizers, functions. What cannot be referred to weakly is not locked. Several are
            locked in one order, so that two threads never wait for each other.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> with alone_in(model), alone_in(model):
        ...     pass
    """
    taken: list[Any] = []
    try:
        for lock in sorted(filter(None, map(_lock_of, things)), key=id):
            lock.acquire()
            taken.append(lock)
        yield
    finally:
        for lock in reversed(taken):
            lock.release()


def _lock_of(thing: Any) -> Any:
    thing = getattr(thing, "__self__", thing)  # of a bound method
    with _guard:
        try:
            return _locks.setdefault(thing, RLock())
        except TypeError:
            return None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a module and all within it in evaluation mode, and restore every flag when the last block ends.

    The flags are set directly: `train()` and `eval()` are overridden in the wild (to merge adapters, to keep
    normalisation frozen) and would not restore what was there. Blocks of several threads may overlap.

    Example:
        >>> model = nn.BatchNorm1d(2)
        >>> with evaluating(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    with _guard:
        held = [module for module in model.modules() if module.training or id(module) in _kept]
        for module in held:
            _kept[id(module)] = _kept.get(id(module), 0) + 1
            module.training = False
    try:
        yield
    finally:
        with _guard:
            for module in held:
                _kept[id(module)] -= 1
                if not _kept[id(module)]:
                    del _kept[id(module)]
                    module.training = True


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Let a hook look at what this thread runs, and not at what others run in the same module meanwhile.

    Example:
        >>> seen = []
        >>> handle = nn.Identity().register_forward_hook(of_this_thread(lambda *given: seen.append(given)))
        >>> handle.remove()
    """
    thread = get_ident()

    def heed(*args: Any, **options: Any) -> Any:
        return hook(*args, **options) if get_ident() == thread else None

    return heed
