"""The outcomes of a case, and the distinction of a clear error from a crash."""

from __future__ import annotations

import re
import signal
import tempfile
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

#: A case takes milliseconds; one that takes so many seconds hangs.
_SECONDS = 20
#: Where a case's files lie, under another name each time.
_SCRATCH = re.escape(tempfile.gettempdir()) + r"/tmp\w+/"
#: The folders of our code; the checkout around them may have any name.
_OURS = tuple(folder for name in ("torchnle", "torchnle_kernels") for folder in import_module(name).__path__)
#: Errors by which torchnle refuses; the sentence must be its own.
_REFUSALS = (TypeError, ValueError, OSError, RuntimeError, ImportError, FloatingPointError)


@dataclass(frozen=True)
class Outcome:
    """One case.

    Args:
        family: What was tried: "calls", "captions", ...
        kind: How it was drawn: "valid", "odd" (unusual and allowed, or refused) or "bad" (must be refused).
        result: "right", "refused", "accepted" (no oracle), or a fault: "wrong", "nan", "raw", "hang".
        message: The case, and the error if there was one.
    """

    family: str
    kind: str
    result: str
    message: str

    @property
    def is_fault(self) -> bool:
        """True if the outcome is a fault."""
        return self.result in ("wrong", "nan", "raw", "hang")


class WrongError(Exception):
    """An answer that differs from the oracle's, or a bad case that was answered."""


def judge(family: str, kind: str, case: str, run: Callable[[], object]) -> Outcome:
    """Run a case and say what came of it.

    Args:
        family: See `Outcome`.
        kind: See `Outcome`.
        case: Says what is tried.
        run: Tries it; returns True where an oracle agreed, and raises `WrongError` where it did not.
    """
    try:
        with in_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            agreed = run()
    except WrongError as error:
        return Outcome(family, kind, "nan" if "not finite" in str(error) else "wrong", f"{case}: {error}")
    except TimeoutError as error:
        return Outcome(family, kind, "hang", f"{case}: {error}")
    except Exception as error:  # noqa: BLE001 - every accident is counted
        own = (isinstance(error, _REFUSALS) and is_ours(error)) or is_of_types(error)
        if own and kind == "valid":
            return Outcome(family, kind, "wrong", f"{case}: refused: {error}"[:300])
        message = re.sub(_SCRATCH, "", f"{case}: {type(error).__name__}: {error}")[:300]
        return Outcome(family, kind, "refused" if own else "raw", message)
    if kind == "bad":
        return Outcome(family, kind, "wrong", f"{case}: answered")
    return Outcome(family, kind, "right" if agreed is True else "accepted", case)


def finite(values: torch.Tensor) -> torch.Tensor:
    """Return numbers that are finite, or raise `WrongError`."""
    if not bool(values.isfinite().all()):
        raise WrongError("the answer is not finite")
    return values


def same(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-3) -> bool:
    """Return True where two answers agree, or raise `WrongError`."""
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=tolerance, rtol=tolerance):
        raise WrongError(f"differs from the oracle: shapes {tuple(found.shape)}, {tuple(expected.shape)}")
    return True


def is_of_types(error: BaseException) -> bool:
    """Return whether annotations refused it, which are checked in the tests alone."""
    return type(error).__name__ == "TypeCheckError"


def is_ours(error: BaseException) -> bool:
    """Return whether torchnle wrote the message (Python's own on a call's arguments counts too)."""
    frames = traceback.extract_tb(error.__traceback__)
    last = Path(frames[-1].filename)
    signature = "argument" in str(error) and isinstance(error, TypeError)
    ours = last.suffix == ".py" and any(last.is_relative_to(folder) for folder in _OURS)
    return (ours and len(str(error)) > 15) or signature


@contextmanager
def in_time(seconds: int = _SECONDS) -> Iterator[None]:
    """Raise a TimeoutError where a block takes longer."""

    def ring(_: int, __: types.FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
