"""Maps of a layer, enlarged to the size of the images."""

from __future__ import annotations

from captum.attr import LayerAttribution
from jaxtyping import Float
from torch import Tensor

from torchnle.types import Inputs
from torchnle.vision.inputs import channels_last, spatial_size


def check_images(inputs: Inputs) -> Tensor:
    """Return the first input, after checking that all are images.

    Raises:
        ValueError: If one is not (N, C, H, W) or (N, H, W, C).
    """
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for position, tensor in enumerate(tensors):
        if tensor.ndim != 4:
            raise ValueError(
                f"inputs[{position}] has shape {tuple(tensor.shape)}; a map needs images (N, C, H, W) or (N, "
                "H, W, C). Pass other inputs through additional_forward_args."
            )
    return tensors[0]


def enlarge_to_inputs(inputs: Inputs, layer_map: Float[Tensor, "N 1 h w"], interpolate_mode: str) -> Inputs:
    """Enlarge a layer's map to every input's size and repeat it over channels.

    Args:
        inputs: (N, C, H, W) or (N, H, W, C), or a tuple of these.
        layer_map: One score per location of the layer.
        interpolate_mode: As for `torch.nn.functional.interpolate`.

    Returns:
        Tensors of the shapes of `inputs`; a tuple for a tuple.
    """
    if isinstance(inputs, tuple):
        return tuple(enlarge_to_inputs(tensor, layer_map, interpolate_mode) for tensor in inputs)  # type: ignore[misc]
    enlarged = enlarge(layer_map, spatial_size(inputs), interpolate_mode)
    laid = enlarged.movedim(1, -1) if channels_last(inputs) else enlarged
    return laid.to(inputs.dtype).expand_as(inputs).contiguous()


def enlarge(
    maps: Float[Tensor, "N T h w"], size: tuple[int, int] | None, interpolate_mode: str
) -> Float[Tensor, "N T H W"]:
    """Interpolate maps to a size, as Captum's `LayerAttribution.interpolate` does."""
    enlarged: Tensor = LayerAttribution.interpolate(maps, size, interpolate_mode)
    return enlarged
