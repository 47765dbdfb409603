"""Weights from a file, without running anything that the file may hold."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

_PICKLED = frozenset({".pth", ".pt", ".bin"})
#: Prefixes that DataParallel and `torch.compile` put before every name.
WRAPPERS = ("module.", "_orig_mod.")
#: And that training frameworks put there, if the model has no part of this name.
_FRAMEWORKS = ("model.",)


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors, or from pickled weights with ``weights_only=True``.

    Args:
        path: A ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, or a folder that holds exactly one.

    Returns:
        Names and tensors, on the CPU, exactly as stored: nothing is unwrapped or renamed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, is not a dict of tensors, or is a pickle that would run code.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import save_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file({"weight": torch.ones(2)}, Path(folder, "model.safetensors"))
        ...     load_state_dict(Path(folder))
        {'weight': tensor([1., 1.])}
    """
    file = _single_file(Path(path))
    state = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        found = list(state)[:8] if isinstance(state, dict) else type(state).__name__
        raise ValueError(
            f"{file} is not a state dict (names and tensors); it holds {found}. Save the model's "
            "state_dict() alone and pass that file."
        )
    return state


def unwrapped(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Take a wrapper's prefix off the names of a state dict, if every name has it and the model knows none.

    Args:
        state: The state dict.
        names: The names in the model's own state dict.

    Example:
        >>> list(unwrapped({"module.weight": torch.ones(2)}, ["weight"]))
        ['weight']
    """
    found = dict(state)
    for prefix in (*WRAPPERS, *_FRAMEWORKS):
        if found and all(name.startswith(prefix) for name in found) and not found.keys() & set(names):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _single_file(path: Path) -> Path:
    suffixes = _PICKLED | {".safetensors"}
    if path.is_file() and path.suffix in suffixes:
        return path
    if path.is_file():
        raise ValueError(f"{path} does not end in {', '.join(sorted(suffixes))}.")
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist.")
    files = sorted(file for file in path.iterdir() if file.suffix in suffixes)
    if len(files) != 1:
        raise ValueError(
            f"{path} holds {len(files)} weight files ({', '.join(file.name for file in files)}). "
            "Pass the path of one of them."
        )
    return files[0]


def _read_safetensors(file: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}. Download it again.") from error


def _read_pickle(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} holds more than tensors, and reading that would run code from the file, so it was "
            "refused. Ask its author for safetensors."
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{file} is not a whole PyTorch file: {error}. Download it again.") from error
