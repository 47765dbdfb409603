"""The files of a saved folder (config.json, model.safetensors, README.md), written and read strictly."""

from __future__ import annotations

import json
import math
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from torchnle.hub.naming import naming
from torchnle.translators.saving import replace_folder
from torchnle.translators.tensors import check_finite
from torchnle.version import __version__

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_FIELDS = {"kind": str, "torchnle_version": str, "config": dict, "card": dict}
_OPTIONAL = {"reading": dict}
_NAMES = {str: "a string", dict: "an object"}
_AGAIN = "Download it again, or save it again, into a new folder."


@dataclass(frozen=True)
class Saved:
    """The contents of a saved folder.

    Args:
        kind: The kind of the saved class (`torchnle.translators.kinds`).
        config: The argument of `from_config`.
        tensors: The state dict.
        card: Facts for the model card.
        reading: The reading of the vision model's layers; empty if it was not stored.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    card: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def longest_side(self) -> int:
        """The longest side of all tensors, which no size in the configuration exceeds."""
        return max((side for tensor in self.tensors.values() for side in tensor.shape), default=1)


def write(folder: Path, saved: Saved, card: str) -> Path:
    """Write a folder atomically: a killed save leaves the old one or the new one.

    Raises:
        FileExistsError: If `folder` holds anything but an earlier save.
        OSError: If a file cannot be written, with its name; nothing half-written is left.
        ValueError: If the configuration or the card holds a value that JSON does not know, or a tensor NaN or
            infinite numbers.
    """
    target = folder.expanduser().resolve()
    text = _to_json(saved)
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in saved.tensors.items()}
    check_finite(tensors, target / WEIGHTS)

    def fill(new: Path) -> None:
        for name, content in ((CONFIG, text), (CARD, card)):
            with naming(target / name):
                (new / name).write_text(content, encoding="utf-8")
        with naming(target / WEIGHTS):
            safetensors.torch.save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
            shutil.copymode(new / CONFIG, new / WEIGHTS)  # safetensors 0.8 restricts it to its owner

    replace_folder(target, lambda: _check_replaceable(target), fill)
    return folder


def read(folder: Path) -> Saved:
    """Read a folder that `write` wrote.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or invalid, or lies outside the folder.
    """
    config = _parse(_inside(folder, CONFIG))
    _check_version(config.get("torchnle_version"), folder)
    _check_fields(config, folder / CONFIG)
    weights = _inside(folder, WEIGHTS)
    try:
        tensors = safetensors.torch.load_file(weights)
    except SafetensorError as error:
        raise ValueError(
            f"{weights} is not a whole safetensors file ({error}; it has {weights.stat().st_size} bytes). "
            f"Pickled weights are never read. {_AGAIN}"
        ) from error
    return Saved(config["kind"], config["config"], tensors, config["card"], config.get("reading", {}))


def _to_json(saved: Saved) -> str:
    content = {
        "kind": saved.kind,
        "torchnle_version": __version__,
        "config": saved.config,
        "card": saved.card,
        **({"reading": saved.reading} if saved.reading else {}),
    }
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"configuration and card must be plain values: {error}") from error
    return text + "\n"


def _parse(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} ({path.stat().st_size} bytes) is not JSON: {error}. {_AGAIN}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not one of torchnle's: it holds a {type(config).__name__}.")
    # Before kinds existed, files named the module path of the class in this entry.
    return {"kind" if key == "translator" else key: value for key, value in config.items()}


def _check_fields(config: Mapping[str, Any], path: Path) -> None:
    if config.keys() - _OPTIONAL.keys() != _FIELDS.keys():
        raise ValueError(
            f"{path} is not one of torchnle's: it holds {sorted(config)} and should hold {sorted(_FIELDS)}."
        )
    for key, kind in {**_FIELDS, **_OPTIONAL}.items():
        if key in config and not isinstance(config[key], kind):
            raise ValueError(f"{path}: '{key}' is {config[key]!r}; it must be {_NAMES[kind]}. {_AGAIN}")
    endless = [f"{name} = {value}" for name, value in _numbers(config) if not math.isfinite(value)]
    if endless:
        raise ValueError(f"{path} holds numbers that are not finite: {', '.join(endless)}. {_AGAIN}")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield all floating numbers in plain values, with the names of their keys."""
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(entry, f"{name}.{key}" if name else str(key))


def _check_version(saved: object, folder: Path) -> None:
    """Warn of a newer minor version, and refuse a newer major version."""
    if not isinstance(saved, str) or not re.match(r"\d+\.\d+", saved):
        raise ValueError(f"{folder / CONFIG} is not one of torchnle's: it names no version of torchnle.")
    theirs, ours = (tuple(map(int, re.findall(r"\d+", version)[:2])) for version in (saved, __version__))
    message = f"{folder} was saved by torchnle {saved}, this is {__version__}: pip install -U torchnle"
    if theirs[0] > ours[0]:
        raise ValueError(message)
    if theirs > ours:
        warnings.warn(message, UserWarning, stacklevel=4)


def _inside(folder: Path, name: str) -> Path:
    """Return a file of the folder; a link may lead to the Hub's cache, and nowhere else outside."""
    path = folder / name
    if not path.is_file():
        there = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"{folder} holds no {name} (it holds {there}), so it is not one of torchnle's."
        )
    allowed = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        allowed.append(folder.resolve().parents[1] / "blobs")
    if not any(path.resolve().is_relative_to(root) for root in allowed):
        raise ValueError(f"{path} leads out of its folder, to {path.resolve()}; it is not read.")
    return path


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"{target} is a file; pass a folder.")
    entries = {entry.name for entry in target.iterdir()}
    if not entries:
        return
    others = sorted(entries - {CONFIG, WEIGHTS, CARD})
    if others or not _is_saved(target, entries):
        raise FileExistsError(
            f"{target} holds something else than a saved translator ({others or sorted(entries)}) and is not "
            "overwritten. Pass a new or empty folder."
        )


def _is_saved(target: Path, entries: Iterable[str]) -> bool:
    if CONFIG not in entries:
        return False
    try:
        _check_fields(_parse(target / CONFIG), target / CONFIG)
    except ValueError:
        return False
    return True
