"""Probe images whose patches change by a code each, and the correlation of tokens with these codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.vision.inputs import channels_last, spatial_size

#: The number of images of 224 x 224 pixels in one forward; fewer if they are larger.
_AT_ONCE, _PIXELS = 8, 224 * 224


@dataclass(frozen=True)
class Probe:
    """Images in which every patch of a grid switches between two contents, each by a code of its own.

    Args:
        codes: The content of each patch in each image, (K images, P patches).
        images: The images, (K, C, H, W).
    """

    codes: Bool[Tensor, "K P"]
    images: Float[Tensor, "K C H W"]

    def chunks(self) -> Iterator[Tensor]:
        """Yield the images, as many at a time as memory allows."""
        height, width = spatial_size(self.images) or (1, 1)
        yield from torch.split(self.images, max(1, min(_AT_ONCE, _AT_ONCE * _PIXELS // (height * width))))

    def answers(self, tokens: Float[Tensor, "K T D"]) -> Answers:
        """Measure how closely tokens of these images follow the patches' codes."""
        signs = self.codes.to(tokens.device, torch.float32)
        signs = F.normalize(signs - signs.mean(0), dim=0)
        moved = tokens.float() - tokens.float().mean(0)
        gram = torch.einsum("ktd,ltd->tkl", moved, moved)
        total = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(torch.float32).tiny)
        return Answers(
            torch.einsum("kp,lp->pkl", signs, signs).flatten(1), (gram / total[:, None, None]).flatten(1)
        )


@dataclass(frozen=True)
class Answers:
    """The part of every token's change that each patch's code explains, as two factors.

    Args:
        patches: (P, K * K).
        tokens: (T, K * K).
    """

    patches: Float[Tensor, "P KK"]
    tokens: Float[Tensor, "T KK"]

    @property
    def all(self) -> Float[Tensor, "P T"]:
        """The explained part of each token's change, 0 to 1, by each patch."""
        return self.patches @ self.tokens.T

    def along(self, order: Tensor) -> Float[Tensor, "P"]:
        """Return the explained part for one token a patch."""
        return (self.patches * self.tokens[order]).sum(1)


def code_images(grid: tuple[int, int], like: Tensor, count: int, seed: int = 0) -> Probe:
    """Make images in which every patch of a grid has a code of its own.

    Args:
        grid: (rows, columns) of the patches.
        like: Images, (N, C, H, W) or (N, H, W, C), which give the mean, the spread, the dtype and the device.
        count: How many images, even.
        seed: The seed of the codes and of the two contents.

    Example:
        >>> probe = code_images((2, 3), torch.rand(1, 3, 4, 6), count=8)
        >>> probe.images.shape, probe.codes.sum(0).tolist()
        (torch.Size([8, 3, 4, 6]), [4, 4, 4, 4, 4, 4])
    """
    generator = torch.Generator().manual_seed(seed)
    codes = _codes(grid[0] * grid[1], count, generator)
    values = like.detach().float()
    mean, spread = values.mean(), values.std().nan_to_num() if values.numel() > 1 else values.new_tensor(1.0)
    contents = torch.randn(2, *like.shape[1:], generator=generator).to(values)
    first, second = mean + (spread if spread > 0 else 1.0) * contents
    chosen = F.interpolate(codes.view(count, 1, *grid).float(), size=spatial_size(like), mode="nearest")
    if channels_last(like):
        chosen = chosen.movedim(1, -1)
    return Probe(codes, torch.where(chosen.to(values.device) > 0, first, second).to(like.dtype))


def _codes(patches: int, count: int, generator: torch.Generator) -> Bool[Tensor, "K P"]:
    """Draw codes with as many ones as zeros, all different and none another's negative if possible."""
    pool = torch.rand(8 * patches + 64, count, generator=generator).argsort(1) < count // 2
    pool = pool ^ pool[:, :1]  # one of a code and its negative
    weights = 2 ** torch.arange(count, dtype=torch.int64)
    kinds, first = torch.unique((pool * weights).sum(1), return_inverse=True)
    chosen = torch.full((len(kinds),), -1)
    chosen[first] = torch.arange(len(pool))
    order = chosen[torch.randperm(len(kinds), generator=generator)]
    return pool[order.repeat(-(-patches // len(order)))[:patches]].T
