"""Checks of a model's inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torchnle.types import Inputs

#: Numbers of channels of an image, and the fewest rows and columns of one with channels last.
_CHANNELS = (1, 3, 4)
_FEWEST = 8


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Wrap any value but a tuple in a tuple, as Captum does; None is no argument.

    Example:
        >>> as_tuple(3), as_tuple((1, 2)), as_tuple(None)
        ((3,), (1, 2), ())
    """
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def check_inputs(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the inputs as a tuple of tensors that a vision model can read.

    Args:
        inputs: One tensor or a tuple of tensors, the batch first in each.

    Raises:
        TypeError: If an input is no tensor, or an image holds whole numbers (uint8, int64, bool).
        ValueError: If there is no input, the batch is empty or not the same in all inputs, or an input holds
            NaN or infinite values.

    Example:
        >>> [tensor.shape for tensor in check_inputs(torch.zeros(2, 3, 8, 8))]
        [torch.Size([2, 3, 8, 8])]
    """
    tensors = as_tuple(inputs)
    if not tensors:
        raise ValueError("no input was given; pass a tensor (N, 3, H, W) or a tuple of tensors.")
    for index, tensor in enumerate(tensors):
        _check_tensor(tensor, f"input {index}" if len(tensors) > 1 else "the input")
    sizes = [tensor.shape[0] for tensor in tensors]
    if len(set(sizes)) > 1:
        raise ValueError(f"the inputs have batches of {sizes} examples; the first axis must agree in all.")
    return tensors


def channels_last(image: Tensor) -> bool:
    """Return whether a batch of images is (N, H, W, C): a last axis of 1, 3 or 4, and many rows and columns.

    Example:
        >>> channels_last(torch.zeros(1, 48, 64, 3)), channels_last(torch.zeros(1, 3, 48, 64))
        (True, False)
    """
    if image.ndim != 4:
        return False
    _, first, middle, last = image.shape
    return last in _CHANNELS and first not in _CHANNELS and min(first, middle) >= _FEWEST


def spatial_size(image: Tensor) -> tuple[int, int] | None:
    """Return (height, width) of a batch of images (N, C, H, W) or (N, H, W, C); None for other shapes.

    Example:
        >>> spatial_size(torch.zeros(1, 3, 48, 64)), spatial_size(torch.zeros(1, 48, 64, 3))
        ((48, 64), (48, 64))
    """
    if image.ndim != 4:
        return None
    return (image.shape[1], image.shape[2]) if channels_last(image) else (image.shape[2], image.shape[3])


def explain_failure(model: nn.Module, inputs: tuple[Tensor, ...]) -> str | None:
    """Explain a failed forward by a difference in device or dtype of model and input; None if they agree.

    Called only after a failure, since models may be split over devices or cast their input.

    Example:
        >>> explain_failure(nn.Linear(2, 2).half(), (torch.zeros(1, 2),))
        'the input is torch.float32 but the model is torch.float16. Pass inputs.to(torch.float16), or ...'
    """
    weights = [p for p in model.parameters() if p.is_floating_point()]
    images = [x for x in inputs if x.is_floating_point()]
    if not weights or not images:
        return None
    devices, dtypes = {p.device for p in weights}, {p.dtype for p in weights}
    for image in images:
        if image.device not in devices:
            where = weights[0].device
            return f"the input is on {image.device} but the model on {where}. Pass inputs.to('{where}')."
        if image.dtype not in dtypes:
            dtype = weights[0].dtype
            return (
                f"the input is {image.dtype} but the model is {dtype}. Pass inputs.to({dtype}), or run under "
                "torch.autocast, or convert the model."
            )
    return None


def _check_tensor(tensor: object, name: str) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name} is a {type(tensor).__name__}; pass a torch.Tensor (N, 3, H, W) or a tuple of tensors, "
            "made with the model's own transforms."
        )
    if tensor.ndim == 0 or tensor.shape[0] == 0:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}: an empty batch. Pass at least one example."
        )
    if tensor.is_floating_point():
        _check_finite(tensor, name)
    elif tensor.ndim >= 3:
        raise TypeError(
            f"{name} is {tensor.dtype} with shape {tuple(tensor.shape)}; images must be floating. "
            "Convert: x.float() / 255, then the model's own normalisation."
        )


def _check_finite(tensor: Tensor, name: str) -> None:
    if tensor.is_meta or torch.isfinite(tensor.detach().sum(dtype=torch.float64)):
        return  # one pass over the input; the checks below take several
    finite = torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(dim=1)
    if not finite.all():
        bad = (~finite).nonzero().flatten().tolist()
        raise ValueError(
            f"{name} holds NaN or infinite values in example(s) {bad[:8]} of {tensor.shape[0]}. "
            "Check how the images were read and normalised."
        )
