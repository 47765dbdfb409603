"""One case: what is given, what is right, and the trial that says what comes out."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurements.fuzz.outcome import is_of_types, is_ours

#: What came out, and whether that is right.
Found = tuple[str, bool]
Trial = Callable[[], Found]
_LONGEST = 160


@dataclass(frozen=True)
class Case:
    """A case.

    Args:
        topic: What it is about.
        name: The case in plain words.
        given: What is given.
        right: The right value, or the right error.
        trial: Tries it.
        needs: Packages without which it is skipped.
    """

    topic: str
    name: str
    given: str
    right: str
    trial: Trial
    needs: tuple[str, ...] = ()

    @property
    def lacking(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


class Topic:
    """The cases on one subject, in the order in which they are written down.

    Args:
        name: The subject.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: list[Case] = []

    def case(self, given: str, right: str, *needs: str) -> Callable[[Trial], Trial]:
        """Add a function as a case; its docstring says it in plain words."""

        def add(trial: Trial) -> Trial:
            name = (trial.__doc__ or "").strip().rstrip(".")
            self.cases.append(Case(self.name, name, given, right, trial, needs))
            return trial

        return add


def refused(call: Any, *facts: str) -> Found:
    """Judge a call right if torchnle refuses it in a sentence of its own that states these facts.

    Args:
        call: The call, without arguments.
        facts: Regular expressions, all of which the message must hold.
    """
    try:
        answer = call()
    except Exception as error:  # noqa: BLE001 - an error of another kind is what is looked for
        message = " ".join(str(error).split())
        if is_of_types(error):  # annotations are checked in the tests alone
            return short(f"{type(error).__name__}: {message}"), True
        ours = isinstance(error, (TypeError, ValueError, OSError, RuntimeError, ImportError)) and is_ours(
            error
        )
        lacking = [fact for fact in facts if not re.search(fact, message, re.IGNORECASE)]
        where = (
            ""
            if ours
            else f" (raised in {Path(traceback.extract_tb(error.__traceback__)[-1].filename).name})"
        )
        why = f" (does not say {', '.join(lacking)})" if lacking else ""
        return short(f"{type(error).__name__}: {message}") + where + why, ours and not lacking
    return f"answered: {short(str(answer))}", False


def refused_each(
    values: Iterable[Any], call: Callable[[Any], object], *facts: str
) -> list[tuple[str, Found]]:
    """Judge a call with each of several values as `refused` does."""
    return [(short(str(value))[-40:], refused(partial(call, value), *facts)) for value in values]


def warned(call: Any, fact: str) -> Found:
    """Judge a call right if it warns and the message states a fact."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    messages = [" ".join(str(each.message).split()) for each in caught]
    found = [each for each in messages if re.search(fact, each)]
    return (f"warned: {short(found[0])}", True) if found else (f"no such warning of {len(caught)}", False)


def near(found: Tensor, expected: Tensor, tolerance: float) -> Found:
    """Judge numbers right if they are near the expected ones, measured by the largest of these."""
    if found.shape != expected.shape:
        return f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}", False
    off = float(
        (found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-30)
    )
    return f"off by {off:.1e} of the largest", off <= tolerance


def equal(found: object, expected: object) -> Found:
    """Judge a value right if it is the expected one."""
    return short(str(found)), bool(found == expected)


def first_wrong(found: Iterator[tuple[str, Found]] | list[tuple[str, Found]]) -> Found:
    """Join several trials: right if all are; shown is the first that is not, else the last."""
    listed = list(found)
    for name, (outcome, holds) in listed:
        if not holds:
            return f"{name}: {outcome}", False
    return f"all {len(listed)} right; {listed[-1][0]}: {listed[-1][1][0]}", bool(listed)


def short(text: str) -> str:
    """Cut a long text, and leave out the folders of the moment."""
    plain = " ".join(text.split()).replace(f"{Path.cwd()}{os.sep}", "")
    plain = re.sub(re.escape(tempfile.gettempdir()) + r"/tmp\w+", "FOLDER", plain)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder for a case, and remove it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def images(count: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Draw images from a seed."""
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


def set_default_device(device: str | None) -> None:
    """Set PyTorch's default device; None removes it wholly, else torch 2.6 cannot read it again."""
    torch.set_default_device(device)
    if device is None:
        vars(torch._GLOBAL_DEVICE_CONTEXT).pop("device_context", None)


@contextmanager
def changed(setting: Callable[[Any], object], value: object, back: object) -> Iterator[None]:
    """Change a setting of PyTorch for a while."""
    setting(value)
    try:
        yield
    finally:
        setting(back)
