"""Linear layers in 8 bits: weights are scaled per output channel, inputs per row."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torchnle.language.device import multiplies_int8

#: The most that a weight or an input may be as an integer, and what stands for zero in unsigned inputs:
#: oneDNN is thousands of times slower with signed ones.
_MOST, _ZERO = 127, 128

#: How many rows the layout of the weights is chosen for: it hardly depends on them.
_ROWS = 32


class Int8Linear(nn.Module):
    """A frozen linear layer with 8-bit weights and inputs.

    The weights of each output are scaled by their largest magnitude, and each input row by its own, so that a
    row's result does not depend on the other rows. Products are summed exactly, in integers.

    Args:
        layer: The layer to copy, in float32 on a CPU.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> close = lambda x: torch.allclose(Int8Linear(layer)(x), layer(x), atol=0.05)
        >>> not multiplies_int8() or close(torch.ones(3, 4))
        True
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.scale = _scale(weight)
        whole = (weight / self.scale).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(whole, [_ROWS, weight.shape[1]])
        self.zero = torch.zeros(len(weight), dtype=torch.int64)

    def forward(self, hidden: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows n"]:
        """Apply the layer; it is not differentiable.

        Raises:
            ValueError: If the input requires a gradient.
        """
        if torch.is_grad_enabled() and hidden.requires_grad:
            raise ValueError(
                "a language model in int8 has no gradients; load it with dtype=torch.float32 to train or to "
                "attribute through it, or read it under torch.no_grad()."
            )
        rows = hidden.reshape(-1, hidden.shape[-1])
        scale = _scale(rows)
        product = self._multiply((rows / scale).add_(_ZERO + 0.5).to(torch.uint8)).mul_(scale)
        if self.bias is not None:
            product += self.bias
        return product.view(*hidden.shape[:-1], -1)

    def _multiply(self, whole: UInt8[Tensor, "R d"]) -> Float[Tensor, "R n"]:
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(whole, 1.0, _ZERO), *(self.packed, self.scale[:, 0], self.zero),
            *(None, 1.0, 0, torch.float32), *("none", [], ""),
        )  # fmt: skip
        return product


def quantize(body: nn.Module) -> None:
    """Replace the linear layers of a model in place by copies in 8 bits.

    Args:
        body: The model without its head, on a CPU.

    Raises:
        ValueError: If the processor has no 8-bit instructions, the model is not on a CPU, or no layer is a
            plain `nn.Linear`.
    """
    names = [name for name, layer in body.named_modules() if type(layer) is nn.Linear]
    if not names:
        raise ValueError(
            f"dtype='int8': {type(body).__name__} has no nn.Linear to turn into 8 bits (GPT-2 has none). "
            "Use a Llama, Qwen, OPT or Gemma 3 model, or dtype='auto'."
        )
    if next(body.parameters()).device.type != "cpu" or not multiplies_int8():
        raise ValueError(
            "dtype='int8' needs a CPU with AVX-VNNI, AVX512-VNNI or AMX instructions, and a torch with "
            "oneDNN. Pass dtype='auto', which is the fastest floating type here."
        )
    for name in names:
        parent, _, last = name.rpartition(".")
        owner = body.get_submodule(parent)
        setattr(owner, last, Int8Linear(getattr(owner, last)))


def check_device(model: nn.Module, device: torch.device) -> None:
    """Refuse to move a model with 8-bit layers off the CPU.

    Raises:
        ValueError: If the model has 8-bit layers and the device is not a CPU.
    """
    if device.type != "cpu" and any(isinstance(layer, Int8Linear) for layer in model.modules()):
        raise ValueError(
            f"a language model in int8 runs on a CPU only; load it in another dtype for {device}."
        )


def _scale(rows: Float[Tensor, "R d"]) -> Float[Tensor, "R 1"]:
    """Compute each row's scale: the number by which its largest value is divided to become 127."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min_(_MOST * torch.finfo(rows.dtype).tiny).div_(_MOST)
