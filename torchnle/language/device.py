"""The fastest dtype of a language model on a device."""

from __future__ import annotations

import torch
from torch import Tensor


def best_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 on a GPU that has it and on a CPU with AMX or AVX512-BF16 instructions, else float32.

    Without these instructions bfloat16 is three to four times slower than float32 on a CPU.

    Args:
        device: The device on which the model will run.

    Example:
        >>> best_dtype(torch.device("cpu")) in (torch.float32, torch.bfloat16)
        True
    """
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.float32


def resolve_dtype(dtype: object, device: torch.device) -> torch.dtype:
    """Convert a dtype argument to a floating dtype.

    Args:
        dtype: A floating dtype; "auto" = the fastest one; "int8" = the dtype of the layers that stay
            floating.
        device: The device on which the model will run.

    Raises:
        ValueError: If it is neither of these strings nor a floating dtype.
    """
    if dtype == "int8":
        return torch.float32
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    if dtype != "auto":
        raise ValueError(
            f"dtype={dtype!r}; pass 'auto', 'int8', torch.float32, torch.bfloat16 or torch.float16."
        )
    return best_dtype(device)


def multiplies(weight: Tensor) -> bool:
    """Return whether a weight is on a CPU that has instructions for products in its dtype."""
    if weight.device.type != "cpu":
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and _cpu_multiplies_bf16())


def multiplies_int8() -> bool:
    """Return whether the CPU has instructions for 8-bit integer products, and torch has the layers for them.

    Without these instructions sums of 8-bit products overflow on older processors.
    """
    return hasattr(torch.ops.onednn, "qlinear_pointwise") and _cpu_has("_is_vnni_supported")


def _cpu_multiplies_bf16() -> bool:
    return _cpu_has("_is_amx_tile_supported", "_is_avx512_bf16_supported")


def _cpu_has(*names: str) -> bool:
    """Ask the processor; torch has these predicates on Linux x86 only, and not in every version."""
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)
