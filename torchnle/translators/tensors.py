"""Checks of the tensors of a saved folder, on saving and on loading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

#: The dtypes in which floating tensors may be stored. Narrow ones load unchanged: weights ship in bfloat16.
#: float64 loads in the module's own dtype: features are float32, and products of the two fail only later.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_finite(tensors: Mapping[str, Tensor], file: Path | str) -> None:
    """Refuse tensors with NaN or infinite numbers.

    Raises:
        ValueError: With their names and the file.

    Example:
        >>> check_finite({"bias": torch.tensor([0.0, torch.nan])}, "model.safetensors")
        Traceback (most recent call last):
        ...
        ValueError: NaN or infinite numbers in 1 tensor(s) of model.safetensors: bias. ...
    """
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise ValueError(
            f"NaN or infinite numbers in {len(bad)} tensor(s) of {file}: {', '.join(bad)}. All results would "
            "be NaN: train again with a lower learning rate, or get an undamaged file."
        )


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Load exactly these tensors into a module, on its devices; float64 in the module's own dtype.

    Raises:
        ValueError: If a tensor is missing, unknown, of another shape, not of the same kind (floating point or
            not), or holds NaN or infinite numbers; with the names of all of them.
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
            f"the tensors of {file} do not fit {type(module).__name__}; {'; '.join(found)}. "
            "The weights and config.json are not of the same save, or of another version of torchnle."
        )
    fitting = {name: _as_expected(tensors[name], expected[name]) for name in expected}
    check_finite(fitting, file)
    module.load_state_dict({n: t.to(expected[n].device) for n, t in fitting.items()}, assign=True)


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}{'' if tensor.dtype in _FLOATS else ' ' + str(tensor.dtype)}"


def _is_finite(tensor: Tensor) -> bool:
    counts = (tensor.dtype in _FLOATS or tensor.is_complex()) and not tensor.is_meta
    return not counts or bool(tensor.isfinite().all())


def _as_expected(tensor: Tensor, expected: Tensor) -> Tensor:
    return tensor.to(expected.dtype) if tensor.dtype == torch.float64 else tensor
