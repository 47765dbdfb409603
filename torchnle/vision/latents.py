"""Any tensor as the layer of a model, such as latents of a generative model before its decoder."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Latents(nn.Module):
    """A model whose only layer, "latents", is its input, rescaled to the units of a decoder.

    It lets everything that reads a layer read a given tensor: the latents of a pipeline before decoding, a
    cached feature, a vector from a file. TExplain explains the last latents of Stable Diffusion in this way
    (section 4.3).

    Args:
        scale: The divisor of the latents: a number, or one per channel.
        shift: Added after the division: a number, or one per channel.

    Example:
        >>> from torchnle.vision import taps
        >>> from torchnle.vision.reading import read
        >>> model = Latents(0.5)
        >>> (features,) = read(model, taps.resolve(model, "latents"), torch.ones(2, 4, 8, 8))
        >>> features.grid, features.tokens.shape, features.tokens.max().item()
        ((8, 8), torch.Size([2, 64, 4]), 2.0)
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, scale: float | Float[Tensor, "C"] = 1.0, shift: float | Float[Tensor, "C"] = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float32))
        if 0 in self.scale or not bool(
            torch.cat([self.scale.view(-1), self.shift.view(-1)]).isfinite().all()
        ):
            raise ValueError(f"scale={scale}, shift={shift}; pass finite numbers, and a scale that is not 0.")
        self.latents = nn.Identity()

    @classmethod
    def of(cls, autoencoder: nn.Module) -> Latents:
        """Read the units of latents from the configuration of a diffusers autoencoder (``pipeline.vae``).

        A pipeline called with ``output_type="latent"`` returns latents multiplied by the autoencoder's
        ``scaling_factor``, and shifted by ``shift_factor`` or ``latents_mean`` and ``latents_std``; diffusers
        inverts this before decoding.

        Args:
            autoencoder: A module with a ``config``.

        Raises:
            ValueError: If its configuration states no ``scaling_factor``, or a mean without a deviation.

        Example:
            >>> lang = LanguageAttribution(Latents.of(pipe.vae), "latents", translator)  # doctest: +SKIP
            >>> lang.describe(pipe(prompts, output_type="latent").images)  # doctest: +SKIP
        """
        config = getattr(autoencoder, "config", None)
        factor = _entry(config, "scaling_factor")
        if factor is None:
            raise ValueError(
                f"a {type(autoencoder).__name__} states no config.scaling_factor, so the units of its "
                "latents are unknown. Pass them: Latents(scale, shift)."
            )
        mean, std = _entry(config, "latents_mean"), _entry(config, "latents_std")
        if (mean is None) != (std is None):
            raise ValueError(
                "the configuration states one of latents_mean and latents_std, without the other."
            )
        if mean is None:
            return cls(float(factor), float(_entry(config, "shift_factor") or 0.0))
        return cls(float(factor) / torch.tensor(std).flatten(), torch.tensor(mean).flatten())

    def forward(self, latents: Float[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
        """Return the latents in the units of the decoder."""
        shape = [-1, *[1] * (latents.ndim - 2)] if latents.ndim > 2 else [-1]
        scale, shift = (each.to(latents).view(shape) for each in (self.scale, self.shift))
        found: Tensor = self.latents(latents / scale + shift)
        return found


def _entry(config: Any, name: str) -> Any:
    """An entry of a configuration, which is a mapping or an object."""
    return config.get(name) if hasattr(config, "get") else getattr(config, name, None)
