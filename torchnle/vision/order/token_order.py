"""Find the order of tokens from their answers to single patches, and test it against chance."""

from __future__ import annotations

import torch
from torch import Tensor

from torchnle.vision.order.token_probe import Answers

#: In every band of locations, the answers must exceed chance by so many standard errors.
_DEVIATIONS = 3.0
#: The largest number of bands, and the fewest locations of one.
_BANDS, _PLACES = 8, 12
#: In every band they must exceed chance by this part of their average excess.
_SHARE = 0.3
#: The largest number of tokens times patches that are compared each with each.
_MOST_PAIRS = 50_000_000


def seen_order(answers: Answers, usual: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """Find the order of tokens that the answers show.

    Args:
        answers: How closely each token follows each patch.
        usual: The order that is expected, one token a patch, row by row.
        grid: (rows, columns) of the patches.

    Returns:
        The first of these that exceeds chance: the usual order; the one in which each patch has the token
        that follows it most and no other patch more; the usual one with the tokens without location
        elsewhere; Hiera's, by repeated division in two. None if none does.
    """
    if stands_out(answers, usual):
        return usual
    if len(answers.patches) * len(answers.tokens) > _MOST_PAIRS:
        return None
    pairs = answers.all
    candidates = [_each_its_own(pairs), _others_between(pairs)]
    candidates += [usual[hiera_order(grid, levels)] for levels in _levels(grid)]
    return next((order for order in candidates if order is not None and stands_out(answers, order)), None)


def stands_out(answers: Answers, order: Tensor) -> bool:
    """Return whether every band of locations follows its own patches more than chance and any shift."""
    own = answers.along(order).cpu()
    chance = [answers.along(order.roll(step)).cpu() for step in _steps(len(order))]
    mean = torch.cat(chance).mean()
    excess = own - mean
    bands = max(1, min(_BANDS, len(own) // _PLACES))
    evenly = all(band.mean() >= _SHARE * excess.mean() for band in excess.tensor_split(bands))
    rivals = [*chance, *_shifted(answers, order)]
    return evenly and all(_surely((own - rival).tensor_split(bands)) for rival in rivals)


def _surely(bands: tuple[Tensor, ...]) -> bool:
    """Return whether the numbers of every band are above zero on average, beyond their scatter."""
    return all(b.mean() * len(b) ** 0.5 > _DEVIATIONS * b.std().nan_to_num().clamp_min(1e-4) for b in bands)


def _steps(count: int) -> list[int]:
    """Return the shifts of tokens that measure chance."""
    return sorted({max(1, count * part // 60) for part in (12, 20, 30, 40)})


def _shifted(answers: Answers, order: Tensor) -> list[Tensor]:
    """Return the answers with all tokens moved a few on or back, as far as there are others."""
    back, on = int(order.min()), len(answers.tokens) - 1 - int(order.max())
    return [answers.along(order + shift).cpu() for shift in range(-back, on + 1) if shift]


def hiera_order(grid: tuple[int, int], levels: int) -> Tensor:
    """Return the token at each location in Hiera's order, which keeps the parts of 2x2 blocks far apart.

    Its tokens are ordered by the location within a block of two, then of four, ..., and last by the remaining
    grid.

    Args:
        grid: (rows, columns), both divisible by two as often as `levels` says.
        levels: How often blocks are divided.

    Example:
        >>> hiera_order((2, 4), levels=1).tolist()
        [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows, columns = grid[0] >> levels, grid[1] >> levels
    split = torch.arange(grid[0] * grid[1]).view(*(2, 2) * levels, rows, columns)
    down, across = range(2 * levels, -1, -2), range(2 * levels + 1, 0, -2)  # coarsest first
    return split.permute(*down, *across).flatten()


def _levels(grid: tuple[int, int]) -> list[int]:
    """Return the numbers of times that both sides of a grid can be divided by two."""
    divisors = (2**level for level in range(1, max(grid).bit_length()))
    return [level for level, d in enumerate(divisors, start=1) if grid[0] % d == grid[1] % d == 0]


def _each_its_own(pairs: Tensor) -> Tensor | None:
    """Match each patch and the token that answers most to each other; None unless all match."""
    chosen = pairs.argmax(1)
    mutual = pairs.argmax(0)[chosen] == torch.arange(len(pairs), device=pairs.device)
    return chosen.cpu() if mutual.all() else None


def _others_between(pairs: Tensor) -> Tensor | None:
    """Return the best order with some other tokens before all patches and the rest before one of them."""
    patches, tokens = pairs.shape
    others = tokens - patches
    if others < 1:
        return None
    along = torch.stack([pairs.diagonal(offset) for offset in range(others + 1)]).cpu()
    before = torch.cat([along.new_zeros(others + 1, 1), along.cumsum(1)], dim=1)
    totals = before + (before[-1, -1] - before[-1])
    front, first = divmod(int(totals.argmax()), patches + 1)
    patch = torch.arange(patches)
    return torch.where(patch < first, patch + front, patch + others)
