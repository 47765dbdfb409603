"""Choose the implementation of an operator: the Triton kernel or plain PyTorch."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def takes_triton(impl: str, *tensors: Tensor | None) -> bool:
    """Return whether the Triton kernel runs these inputs.

    Args:
        impl: "auto" = if it can, "torch" = never, "triton" = always.
        tensors: The operator's floating inputs, the first of them not None.

    Raises:
        ValueError: If `impl` is "triton" and it cannot, with the reason, or if `impl` is none of the three.

    Example:
        >>> takes_triton("auto", torch.zeros(1))
        False
        >>> takes_triton("triton", torch.zeros(1))
        Traceback (most recent call last):
        ...
        ValueError: impl='triton' cannot run here: the inputs are on cpu, and it needs an NVIDIA GPU. ...
    """
    if impl not in ("auto", "torch", "triton"):
        raise ValueError(f"impl={impl!r}; pass 'auto', 'torch' or 'triton'.")
    if impl == "torch":
        return False
    reason = _obstacle([tensor for tensor in tensors if tensor is not None])
    if impl == "triton" and reason:
        raise ValueError(f"impl='triton' cannot run here: {reason} Pass impl='auto' or impl='torch'.")
    return not reason


def _obstacle(tensors: list[Tensor]) -> str:
    """Return the reason why Triton cannot run these inputs, as a sentence; empty if it can."""
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1 or not dtypes.issubset(_DTYPES):
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        return f"the inputs are {names}, and it takes one of float16, bfloat16 and float32 for all of them."
    return _device_obstacle(tensors[0].device)


@cache
def _device_obstacle(device: torch.device) -> str:
    if device.type != "cuda" or torch.version.cuda is None:
        return f"the inputs are on {device.type}, and it needs an NVIDIA GPU."
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"the GPU has compute capability {major}.{minor}, and it needs 8.0 or higher."
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'torchnle[triton]')."
    return ""
