"""Cut-outs: small pictures with transparency, each with the noun phrase that names it."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, overload

import numpy as np
from PIL import Image

from torchnle import images
from torchnle.language.english.phrases import noun_phrase

_log = logging.getLogger(__name__)

#: The stamps of Tux Paint that are not objects: letters, coins, signs and mirrored copies.
NOT_THINGS = (
    "*alphabets/*",
    "*money/*",
    "*roadsigns/*",
    "*symbols/math/*",
    "*symbols/music/*",
    "*symbols/chess/*",
    "*symbols/faces/*",
    "*_mirror.png",
)


@dataclass(frozen=True)
class Cutout:
    """An object with transparency around it, to be composed into scenes, and its noun phrase.

    Args:
        phrase: Its name with the article, such as "a compost bin".
        image: RGBA, cropped to the visible part.
        source: The file relative to its folder, or the name of a procedural shape.

    Example:
        >>> Cutout("a red square", Image.new("RGBA", (8, 8), "red")).phrase
        'a red square'
    """

    phrase: str
    image: Image.Image
    source: str = ""


class Cutouts(Sequence[Cutout]):
    """Cut-outs in a fixed order, and the skipped files with reasons.

    Args:
        cutouts: The cut-outs.
        skipped: The reason for each file that could not be used.

    Example:
        >>> dot = Image.new("RGBA", (8, 8), "red")
        >>> names = ("a hen", "an owl", "a fox", "a saw")
        >>> cutouts = Cutouts([Cutout(name, dot) for name in names])
        >>> cutouts.split("test", share=0.5).phrases, cutouts.split("train", share=0.5).phrases
        (('a hen', 'a fox', 'a saw'), ('an owl',))
    """

    def __init__(self, cutouts: Sequence[Cutout], skipped: Mapping[str, str] | None = None) -> None:
        self._cutouts = tuple(cutouts)
        self.skipped = dict(skipped or {})

    def __len__(self) -> int:
        return len(self._cutouts)

    @overload
    def __getitem__(self, index: int) -> Cutout: ...
    @overload
    def __getitem__(self, index: slice) -> Cutouts: ...
    def __getitem__(self, index: int | slice) -> Cutout | Cutouts:
        """Return one cut-out, or several as `Cutouts`."""
        return Cutouts(self._cutouts[index]) if isinstance(index, slice) else self._cutouts[index]

    @property
    def phrases(self) -> tuple[str, ...]:
        """Every phrase once, in order."""
        return tuple(dict.fromkeys(cutout.phrase for cutout in self))

    def split(self, part: Literal["train", "test"], *, share: float = 0.2) -> Cutouts:
        """Return the cut-outs of one part; a phrase belongs to the same part in every folder and process.

        Args:
            part: "train", or "test" for the held-out phrases.
            share: The share of phrases held out, from 0 to 1, on average, since a hash decides.

        Raises:
            ValueError: If the part has another name or the share lies outside 0 to 1.
        """
        if part not in ("train", "test") or not 0 <= share <= 1:
            raise ValueError(
                f"split({part!r}, share={share}): pass 'train' or 'test' and a share from 0 to 1."
            )
        return Cutouts([cutout for cutout in self if (_chance(cutout.phrase) < share) == (part == "test")])

    def report(self) -> str:
        """Summarise the skipped files: their number for each reason, and the first names."""
        by_reason: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.skipped.items():
            by_reason[reason].append(name)
        return "; ".join(
            f"{len(names)} {reason} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for reason, names in sorted(by_reason.items())
        )


def load_cutouts(
    folder: str | Path,
    *,
    exclude: Sequence[str] = NOT_THINGS,
    smallest: int = 24,
    largest: int = 512,
) -> Cutouts:
    """Read every PNG with transparency that has a caption file with it.

    The format is that of Tux Paint's stamps (Debian: tuxpaint-stamps-default): `hen.png` and `hen.txt`, whose
    first line names the object ("A hen."). Unusable files are skipped; `Cutouts.skipped` holds the reason for
    each, and one line of the log summarises them.

    Args:
        folder: Searched with all its subfolders.
        exclude: Glob patterns over paths relative to `folder`; matching files are left out.
        smallest: The least length of the longer visible side, in pixels.
        largest: Longer sides are reduced to this, in pixels.

    Raises:
        NotADirectoryError: If the folder does not exist.
        ValueError: If the folder holds no usable cut-out.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(
            f"'{root}' is no folder. Pass one that holds PNG files with .txt files of the same name."
        )
    cutouts, skipped = [], {}
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() == ".png"):
        name = path.relative_to(root).as_posix()
        if any(fnmatch(name, pattern) for pattern in exclude):
            skipped[name] = "left out by `exclude`"
            continue
        try:
            cutouts.append(
                Cutout(_read_phrase(path.with_suffix(".txt")), _read_image(path, smallest, largest), name)
            )
        except _UnusableError as reason:
            skipped[name] = str(reason)
    loaded = Cutouts(cutouts, skipped)
    if not cutouts:
        raise ValueError(
            f"'{root}' holds no usable cut-out. Skipped: {loaded.report() or 'nothing, no PNG there'}."
        )
    if skipped:
        _log.warning("%s: %d cut-outs; skipped %d: %s", root, len(cutouts), len(skipped), loaded.report())
    return loaded


class _UnusableError(Exception):
    """The reason for which a file gives no cut-out."""


def _read_phrase(path: Path) -> str:
    if not path.is_file():
        raise _UnusableError("without a caption file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise _UnusableError("with a caption that is not UTF-8") from error
    if not lines or not lines[0].strip():
        raise _UnusableError("with a blank caption")
    phrase = noun_phrase(lines[0])
    if phrase is None:
        raise _UnusableError("whose caption is no noun phrase")
    return phrase


def _read_image(path: Path, smallest: int, largest: int) -> Image.Image:
    try:
        image = images.open_transparent(path)
    except ValueError as error:
        raise _UnusableError("unreadable") from error
    alpha = np.asarray(image)[..., 3]
    share = (alpha >= 128).mean()
    if share > 0.99:
        raise _UnusableError("without transparency")
    if share < 0.02:
        raise _UnusableError("with next to nothing visible")
    rows, columns = np.flatnonzero((alpha >= 16).any(1)), np.flatnonzero((alpha >= 16).any(0))
    image = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    if max(image.size) < smallest:
        raise _UnusableError(f"smaller than {smallest} pixels")
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    return image


def _chance(phrase: str) -> float:
    """Return a number from 0 to 1 that depends on the phrase alone."""
    return int.from_bytes(hashlib.sha256(phrase.encode()).digest()[:8], "big") / 2**64
