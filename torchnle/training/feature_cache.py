"""Features on disk: the vision model runs once over all images, and training reads a memory map.

Whole maps are stored, not their means, so that locations can still be dropped. A cache stores digests of
everything that its features depend on, and is refused if one of them differs.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchnle.data.captions import digest
from torchnle.hub import manifest
from torchnle.hub.digest import digest_module
from torchnle.hub.filelock import alone_in_folder
from torchnle.training.supply import Batch, LiveFeatures

_META, _PROGRESS, _CAPTIONS = "cache.json", "progress.json", "captions.jsonl"
_VERSION = 1
_BATCH = 32
_ZEROS = 1 << 20
#: Errors of a full disk, a quota, or the largest size of a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_STORED = {
    "float32": (torch.float32, np.float32),
    "float16": (torch.float16, np.float16),
    "bfloat16": (torch.bfloat16, np.int16),  # numpy has no bfloat16: its bits
}
Stored = Literal["float32", "float16", "bfloat16"]
#: (locations, width) of each layer.
_Shapes: TypeAlias = Mapping[str, tuple[int, int]]


class CachedFeatures:
    """A finished cache, open for reading.

    Args:
        folder: The folder from `build`.

    Raises:
        ValueError: If the folder holds no finished cache, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / _META).is_file():
            raise ValueError(f"{folder} holds no finished feature cache ({_META}).")
        _check_whole(self.folder)
        self.meta = json.loads((self.folder / _META).read_text())
        lines = (self.folder / _CAPTIONS).read_text(encoding="utf-8").split("\n")[:-1]
        self.captions = [tuple(json.loads(line)) for line in lines]
        self._maps = _open_maps(self.folder, self.meta["shapes"], self.meta["dtype"], len(self), "r")

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def location_counts(self) -> dict[str, int]:
        """The number of locations of each layer."""
        return {layer: shape[0] for layer, shape in self.meta["shapes"].items()}

    @property
    def widths(self) -> dict[str, int]:
        """The number of channels of each layer."""
        return {layer: shape[1] for layer, shape in self.meta["shapes"].items()}

    @property
    def unreadable(self) -> dict[str, str]:
        """The errors of images that could not be read; the next readable pairs replace them."""
        return dict(self.meta["unreadable"])

    def batches(self, numbers: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Read batches from the memory map."""
        return (
            Batch(
                {layer: self._read(layer, chosen) for layer in self._maps},
                [self.captions[number] for number in chosen],
                list(chosen),
            )
            for chosen in numbers
        )

    def _read(self, layer: str, numbers: Sequence[int]) -> Tensor:
        rows = torch.from_numpy(self._maps[layer][list(numbers)])
        return rows.view(_STORED[self.meta["dtype"]][0]).float()


def cached(folder: str | Path, live: LiveFeatures, *, dtype: Stored = "bfloat16") -> CachedFeatures:
    """Open the cache of these features, or build it; a killed build is resumed.

    Args:
        folder: Its own folder, new or the cache's.
        live: The source of the features.
        dtype: The stored dtype; bfloat16 takes 2 bytes a number and has the range of float32.

    Raises:
        ValueError: If the cache there is of another model, layers, preprocessing, data or dtype; the message
            says which.
        OSError: If the disk has too little space; no files are left behind.
    """
    target, parts = Path(folder), {**cache_key(live), "dtype": dtype}
    if (target / _META).is_file():
        found = CachedFeatures(target)
        _check_parts(found.meta["parts"], parts, target)
        return found
    _build(target, live, dtype, parts)
    return CachedFeatures(target)


def cache_key(live: LiveFeatures) -> dict[str, str]:
    """Compute the digest of each input that features depend on."""
    return {
        "format": str(_VERSION),
        "model": digest_module(live.model),
        "layers": digest(f"{tap.name} {tap.at}" for tap in live.taps),
        "preprocessing": digest([repr(live.preprocess)]),
        "reading": digest([repr(live.reading)]),
        "data": live.source.fingerprint,
        **({"tokens": "class and register tokens too"} if live.extra else {}),
    }


def _check_whole(folder: Path) -> None:
    torn = manifest.damaged(folder)
    if torn is None or torn:
        named = ", ".join(torn or [manifest.NAME])
        raise ValueError(
            f"the feature cache in {folder} is damaged: {named} is missing or not as it was written. Delete "
            "the folder, and it is built anew."
        )


def _check_parts(theirs: Mapping[str, str], ours: Mapping[str, str], folder: Path) -> None:
    other = [part for part in ours if theirs.get(part) != ours[part]]
    if other:
        raise ValueError(
            f"the feature cache in {folder} is of another {', '.join(other)}. Name another folder, "
            "or delete it."
        )


def _build(target: Path, live: LiveFeatures, dtype: Stored, parts: Mapping[str, str]) -> None:
    """Fill files of the final size in a temporary folder, then rename it."""
    unfinished = target.with_name(target.name + ".unfinished")
    shapes = {layer: (live.location_counts[layer], live.widths[layer]) for layer in live.location_counts}
    with alone_in_folder(unfinished):
        if (target / _META).is_file():  # another process was first
            _empty(unfinished)
            unfinished.rmdir()
            return
        _build_alone(target, unfinished, live, dtype, parts, shapes)


def _build_alone(
    target: Path,
    unfinished: Path,
    live: LiveFeatures,
    dtype: Stored,
    parts: Mapping[str, str],
    shapes: _Shapes,
) -> None:
    try:
        done = _begin(unfinished, len(live), shapes, dtype, parts)
        _fill(unfinished, live, dtype, shapes, done)
        meta = {"parts": dict(parts), "dtype": dtype, "shapes": shapes, "unreadable": done["unreadable"]}
        _write_json(unfinished / _META, meta)
        kept = {unfinished / _META, unfinished / _CAPTIONS, *_files(unfinished, shapes)}
        for path in set(unfinished.iterdir()) - kept:  # the progress, and what a kill left of it
            path.unlink()
        manifest.write(unfinished, sorted(kept))
        os.replace(unfinished, target)
    except OSError as error:
        if error.errno in _FULL:
            _empty(unfinished)
            unfinished.rmdir()
        raise


def _begin(
    folder: Path, count: int, shapes: _Shapes, dtype: Stored, parts: Mapping[str, str]
) -> dict[str, Any]:
    """Return the progress of a killed build, or start a new one with all disk space allocated."""
    progress = folder / _PROGRESS
    if progress.is_file():
        done = _progress(progress)
        if done.get("parts") == parts:
            return done
    _empty(folder)
    for path, (locations, width) in zip(_files(folder, shapes), shapes.values(), strict=True):
        _take_room(path, count * locations * width * _STORED[dtype][0].itemsize)
    (folder / _CAPTIONS).touch()
    return {"parts": dict(parts), "read": 0, "bytes": 0, "unreadable": {}}


def _take_room(path: Path, size: int) -> None:
    """Allocate the disk space now, since a full disk would kill a process that writes to a memory map."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(0, size, _ZEROS):
                file.write(bytes(min(_ZEROS, size - start)))


def _fill(folder: Path, live: LiveFeatures, dtype: Stored, shapes: _Shapes, done: dict[str, Any]) -> None:
    maps = _open_maps(folder, shapes, dtype, len(live), "r+")
    starts = range(done["read"], len(live), _BATCH)
    numbers = [list(range(start, min(start + _BATCH, len(live)))) for start in starts]
    with open(folder / _CAPTIONS, "r+b") as captions:
        captions.truncate(done["bytes"])
        captions.seek(done["bytes"])
        for batch in live.batches(numbers):
            for layer, tokens in batch.tokens.items():
                maps[layer][batch.items[0] : batch.items[-1] + 1] = _bits(tokens, dtype, layer)
            captions.writelines(json.dumps(texts).encode() + b"\n" for texts in batch.captions)
            captions.flush()
            done["read"], done["bytes"] = batch.items[-1] + 1, captions.tell()
            done["unreadable"].update({str(number): why for number, why in batch.unreadable.items()})
            _write_json(folder / _PROGRESS, done)


def _open_maps(
    folder: Path, shapes: _Shapes, dtype: Stored, count: int, mode: Literal["r", "r+"]
) -> dict[str, Any]:
    files = zip(shapes.items(), _files(folder, shapes), strict=True)
    return {
        layer: np.memmap(path, _STORED[dtype][1], mode, shape=(count, *shape))
        for (layer, shape), path in files
    }


def _bits(tokens: Tensor, dtype: Stored, layer: str) -> np.ndarray[Any, Any]:
    stored = tokens.cpu().to(_STORED[dtype][0])
    if not torch.isfinite(stored).all():
        raise ValueError(f"layer '{layer}' has numbers too large for {dtype}. Store the cache as bfloat16.")
    bits: np.ndarray[Any, Any] = (stored.view(torch.int16) if dtype == "bfloat16" else stored).numpy()
    return bits


def _files(folder: Path, shapes: _Shapes) -> list[Path]:
    return [folder / f"layer{number}.bin" for number in range(len(shapes))]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content))
    os.replace(beside, path)


def _progress(file: Path) -> dict[str, Any]:
    """Return the stored progress; nothing if the file is damaged."""
    try:
        done = json.loads(file.read_text())
    except ValueError:
        return {}
    return done if isinstance(done, dict) else {}


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
