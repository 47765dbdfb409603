"""The files of torchnle that one call passes, by a profile hook: how far a reader has to follow it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchnle
from torchnle import LanguageAttribution
from torchnle.evaluation import record
from torchnle.language.text_encoder import TextEncoder

_PACKAGE = Path(torchnle.__file__).parent
_TEXTS = ["a red cat", "grass"]


def files_passed(call: Callable[[], object]) -> list[str]:
    """List the files of torchnle that a call passes, in order, one entry a change of file.

    Example:
        >>> files_passed(lambda: torchnle.Reading().of("layer"))
        ['vision/reading.py']
    """
    passed: list[str] = []

    def enter(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(_PACKAGE):
            name = file.relative_to(_PACKAGE).as_posix()
            if passed[-1:] != [name]:
                passed.append(name)

    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        call()
    finally:
        sys.setprofile(before)
    return passed


class Letters(TextEncoder):
    """A sentence encoder that counts letters: no file of torchnle runs when it encodes."""

    reference, width, device = "letters", 26, torch.device("cpu")

    def __init__(self) -> None:
        """Load nothing."""

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Count the letters of each text, as unit vectors."""
        counts = [[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts]
        return F.normalize(torch.tensor(counts).float(), dim=1)


def ordinary() -> tuple[LanguageAttribution, Tensor]:
    """Build the ordinary case: one layer of a small convolutional model, mapped from captions; and images."""
    source = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
    images = torch.rand(8, 3, 32, 32, generator=source)
    captions = ["a red cat on grass", "a dog and a house"] * 4
    lang = LanguageAttribution.from_captions(
        model, "2", [(images, captions)], encoder=Letters(), vocabulary=["a bird"]
    )
    return lang, images[:2]


def measure() -> dict[str, Any]:
    """Count the files of `describe` and `saliency`, in the first call and in every later one.

    In the first call the layer's layout is found and the phrases are encoded.
    """
    lang, images = ordinary()
    calls: dict[str, Callable[[], object]] = {
        "describe": lambda: lang.describe(images),
        "describe, where='all'": lambda: lang.describe(images, where="all"),
        "saliency": lambda: lang.saliency(images, _TEXTS),
    }
    found = {}
    for name, call in calls.items():
        first, later = files_passed(call), files_passed(call)
        found[name] = {
            "first_call": len(set(first)),
            "files": len(set(later)),
            "changes": len(later) - 1,
            "passed": list(dict.fromkeys(later)),
        }
    return {**record.setting(), "calls": found}


def page(found: dict[str, Any]) -> str:
    """Write the counts as a table, and the files below it."""
    lines = ["| call | files | changes of file | files in the first call |", "|---|---|---|---|"]
    for name, each in found["calls"].items():
        lines.append(f"| {name} | {each['files']} | {each['changes']} | {each['first_call']} |")
    for name, each in found["calls"].items():
        lines += ["", f"{name}: {', '.join(each['passed'])}"]
    return "\n".join(lines)
