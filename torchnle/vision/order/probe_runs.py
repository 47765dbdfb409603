"""Run a model on probes, and measure how closely the outputs of its layers follow them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.types import Select
from torchnle.vision import taps
from torchnle.vision.inputs import channels_last, spatial_size
from torchnle.vision.order.token_probe import Answers, Probe, code_images
from torchnle.vision.running import exclusive_use, forward, of_this_thread, unwrap

#: Images of the first probe, which tests the usual order, and of the second, which finds any.
FEW, MANY = 8, 32
#: Earlier layers are projected on so many random directions.
_DIRECTIONS = 64
#: Noise varies by so much in an image that is all alike.
_LEAST = 0.1


@dataclass(frozen=True)
class ProbeRuns:
    """A model, and its inputs besides the images of a probe.

    Args:
        forward_func: The model.
        inputs: The caller's inputs, images first.
        others: Further arguments.
        select: As for `torchnle.vision.taps.record`.
    """

    forward_func: Callable[..., Any]
    inputs: tuple[Any, ...]
    others: tuple[Any, ...] = ()
    select: Select | None = None

    @torch.no_grad()
    def answers(
        self,
        layers: Sequence[taps.Tap],
        grid: tuple[int, int],
        count: int,
        as_tokens: Callable[[Tensor], Tensor] = lambda activation: activation,
    ) -> tuple[Probe, list[Answers]]:
        """Run the model on a probe, and compare the output of every layer with its codes.

        Args:
            layers: The layers.
            grid: (rows, columns) of the patches.
            count: How many images.
            as_tokens: Reshapes a layer's output to tokens (N, T, D).
        """
        probe = code_images(grid, self.inputs[0], count)
        runs = [
            taps.record(self.forward_func, layers, *self._with(images), select=self.select)
            for images in probe.chunks()
        ]
        return probe, [probe.answers(as_tokens(torch.cat(parts))) for parts in zip(*runs, strict=True)]

    @torch.no_grad()
    def pair(self, layer: taps.Tap) -> Tensor:
        """Run the model on one of its images, and on a copy with noise in the top right quarter.

        Returns:
            The layer's output for both.
        """
        images = self.inputs[0][:1].repeat(2, 1, 1, 1)
        height, width = spatial_size(images) or images.shape[2:]
        quarter = (slice(height // 2), slice(width // 2, width))
        region = (1, *quarter) if channels_last(images) else (1, slice(None), *quarter)
        like, spread = images[region], images.float().std().clamp_min(_LEAST)
        noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0), device="cpu")
        images[region] = (images.float().mean() + spread * noise.to(images.device)).to(images.dtype)
        (found,) = taps.record(self.forward_func, [layer], *self._with(images), select=self.select)
        return found

    @torch.no_grad()
    def earlier(self, tokens: int, probe: Probe) -> Iterator[Answers]:
        """Yield the answers of all modules with as many tokens, in the order in which they ended."""
        root, outputs = unwrap(self.forward_func), dict[nn.Module, list[Tensor]]()
        if root is None or self.select is not None:
            return

        def keep(module: nn.Module, _: Any, output: Any) -> None:
            found = taps.first_tensor(output)
            if found is not None and found.ndim == 3 and found.shape[1] == tokens:
                outputs.setdefault(module, []).append(_reduced(found))

        with exclusive_use(root), ExitStack() as hooks:
            for module in root.modules():
                hooks.callback(module.register_forward_hook(of_this_thread(keep)).remove)
            for images in probe.chunks():
                forward(self.forward_func, *self._with(images))
        whole = (torch.cat(parts) for parts in outputs.values())
        yield from (probe.answers(rows) for rows in whole if len(rows) == len(probe.images))

    def _with(self, images: Tensor) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return images, with the caller's other inputs for the first image repeated for each."""
        count, batch = len(images), self.inputs[0].shape[0]

        def fit(value: Any) -> Any:
            one_each = isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == batch
            return value[:1].expand(count, *value.shape[1:]) if one_each else value

        return (images, *map(fit, self.inputs[1:])), tuple(map(fit, self.others))


def _reduced(tokens: Tensor) -> Tensor:
    width = tokens.shape[2]
    if width <= _DIRECTIONS:
        return tokens.float()
    directions = torch.randn(width, _DIRECTIONS, generator=torch.Generator().manual_seed(0))
    return tokens.float() @ directions.to(tokens.device)
