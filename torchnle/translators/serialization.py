"""How a translator lies on disk: config.json, model.safetensors and README.md; read and written strictly."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from torchnle.version import __version__

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_FIELDS = {"kind": str, "torchnle_version": str, "config": dict, "card": dict}


@dataclass(frozen=True)
class Saved:
    """What a folder holds.

    Args:
        kind: The kind of what was saved (`torchnle.translators.kinds`).
        config: What `from_config` takes.
        tensors: The state dict.
        card: Facts for the model card.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    card: dict[str, Any] = field(default_factory=dict)


def write(folder: Path, saved: Saved, card: str) -> Path:
    """Write a folder beside its final place and then move it there, so that no half of it is ever seen.

    Raises:
        FileExistsError: If `folder` holds anything but a saved translator.
        ValueError: If the configuration or the card holds a value that JSON does not know.
    """
    target = folder.expanduser().resolve()
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = _to_json(saved)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        (new / CONFIG).write_text(text, encoding="utf-8")
        (new / CARD).write_text(card, encoding="utf-8")
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in saved.tensors.items()}
        safetensors.torch.save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
        shutil.copymode(new / CONFIG, new / WEIGHTS)  # safetensors 0.8 keeps it from everybody but its owner
        _swap(new, target, old)
    return folder


def read(folder: Path) -> Saved:
    """Read what `write` wrote.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what it should be, or lies outside the folder.
    """
    config = _parse(_inside(folder, CONFIG))
    _check_version(config.get("torchnle_version"), folder)
    _check_fields(config, folder / CONFIG)
    weights = _inside(folder, WEIGHTS)
    try:
        tensors = safetensors.torch.load_file(weights)
    except SafetensorError as error:
        raise ValueError(
            f"{weights} is not a whole safetensors file ({error}). Pickled weights are never read; download "
            "the file again, or save the translator again with save_pretrained."
        ) from error
    return Saved(config["kind"], config["config"], tensors, config["card"])


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Give a module exactly these tensors, in their own dtype, on the module's devices.

    Raises:
        ValueError: If a tensor is missing, unknown, of another shape, or not of the same kind (floating
            point or not), with the names of all of them.
    """
    expected = module.state_dict()
    shared = [name for name in expected if name in tensors]
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unknown": [name for name in tensors if name not in expected],
        "of another shape or kind": [
            f"{name} {_kind(tensors[name])} instead of {_kind(expected[name])}"
            for name in shared
            if _kind(tensors[name]) != _kind(expected[name])
        ],
    }
    found = [f"{what}: {', '.join(names)}" for what, names in problems.items() if names]
    if found:
        raise ValueError(
            f"the tensors of {folder / WEIGHTS} do not fit {type(module).__name__}; {'; '.join(found)}. "
            "The weights and config.json are not of the same translator, or of another version of torchnle."
        )
    module.load_state_dict({n: t.to(expected[n].device) for n, t in tensors.items()}, assign=True)


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else ' ' + str(tensor.dtype)}"


def _to_json(saved: Saved) -> str:
    content = {
        "kind": saved.kind,
        "torchnle_version": __version__,
        "config": saved.config,
        "card": saved.card,
    }
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"configuration and card of a translator must be plain values: {error}") from error
    return text + "\n"


def _parse(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a translator's: it holds a {type(config).__name__}.")
    # Before there were kinds, files named the module path of the class in this entry.
    return {"kind" if key == "translator" else key: value for key, value in config.items()}


def _check_fields(config: Mapping[str, Any], path: Path) -> None:
    if config.keys() != _FIELDS.keys():
        raise ValueError(
            f"{path} is not a translator's: it holds {sorted(config)} and should hold {sorted(_FIELDS)}."
        )
    wrong = [key for key, kind in _FIELDS.items() if not isinstance(config[key], kind)]
    if wrong:
        raise ValueError(f"{path} holds values of the wrong type under {wrong}.")


def _check_version(saved: object, folder: Path) -> None:
    """A newer minor version is warned of; a newer major version is refused."""
    if not isinstance(saved, str) or not re.match(r"\d+\.\d+", saved):
        raise ValueError(f"{folder / CONFIG} is not a translator's: it names no version of torchnle.")
    theirs, ours = (tuple(map(int, version.split(".")[:2])) for version in (saved, __version__))
    message = f"{folder} was saved by torchnle {saved}, this is {__version__}: pip install -U torchnle"
    if theirs[0] > ours[0]:
        raise ValueError(message)
    if theirs > ours:
        warnings.warn(message, UserWarning, stacklevel=4)


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder; a link may lead to the blobs of the Hub's cache, and nowhere else outside."""
    path = folder / name
    if not path.is_file():
        there = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"{folder} holds no {name} (it holds {there}), so it is not a translator's.")
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
    if others or not _is_translator(target, entries):
        raise FileExistsError(
            f"{target} holds something else than a saved translator ({others or sorted(entries)}) and is not "
            "overwritten. Pass a new or empty folder."
        )


def _is_translator(target: Path, entries: Iterable[str]) -> bool:
    if CONFIG not in entries:
        return False
    try:
        _check_fields(_parse(target / CONFIG), target / CONFIG)
    except ValueError:
        return False
    return True


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put `new` in the place of `target`, or leave all as it was."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
