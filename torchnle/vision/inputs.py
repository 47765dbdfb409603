"""The axes of images, and explanations of a forward that failed on its inputs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor, nn

#: Numbers of channels of an image, and the fewest rows and columns of one with channels last.
_CHANNELS = (1, 3, 4)
_FEWEST = 8
#: The words of PyTorch and timm for shapes.
_SHAPES = re.compile(
    r"shape|\bsizes?\b|channel|dimension|[Ee]xpected \d|mat1|out of range|[Ii]nput", re.ASCII
)


def channels_last(image: Tensor) -> bool:
    """Return whether a batch of images is (N, H, W, C): a last axis of 1, 3 or 4, and many rows and columns.

    Example:
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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


def explain_shapes(error: Exception, tensors: Sequence[Tensor]) -> str | None:
    """Explain a failed forward by the shape of its inputs; None if the error does not mention shapes.

    Example:
        >>> import torch
        >>> explain_shapes(IndexError("too many indices"), [torch.zeros(2)]) is None
        True
    """
    lines = str(error).strip().splitlines()
    if not lines or _SHAPES.search(str(error)) is None:
        return None
    given = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
    return (
        f"the model cannot read inputs of shape {given}: {lines[0][:200]}. Pass a batch as the model was "
        "made for, (N, channels, height, width) of an image classifier; add a batch axis by x[None]. If "
        "you gave no example=, this is noise of a usual size: pass example=, images as the model takes them."
    )
