"""The dtype that a machine runs a language model fastest in."""

from __future__ import annotations

import torch
from torch import Tensor


def best_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 on a GPU that has it and on a CPU with AMX or AVX512-BF16 instructions, else float32.

    Without these instructions bfloat16 is three to four times slower than float32 on a CPU.

    Args:
        device: Where the model will run.

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
    """Return a floating dtype as it is, and the best one for "auto".

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    if dtype != "auto":
        raise ValueError(f"dtype={dtype!r}; pass 'auto', torch.float32, torch.bfloat16 or torch.float16.")
    return best_dtype(device)


def multiplies(weight: Tensor) -> bool:
    """Whether a weight is on a CPU that has instructions for products in its dtype."""
    if weight.device.type != "cpu":
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and _cpu_multiplies_bf16())


def _cpu_multiplies_bf16() -> bool:
    """Ask the processor; torch has these predicates on Linux x86 only, and not in every version."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)
