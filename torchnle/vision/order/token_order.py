"""The order of tokens that their answers to single patches show, and whether it stands out from chance."""

from __future__ import annotations

import torch
from torch import Tensor

from torchnle.vision.order.token_probe import Answers

#: In every band of places, the answers must stand out by so many standard errors.
_DEVIATIONS = 3.0
#: So many bands at most, of so many places at least.
_BANDS, _PLACES = 8, 12
#: In no band do they stand out by less than this part of what they do on average.
_SHARE = 0.3
#: Tokens times patches: more are not compared each with each.
_MOST_PAIRS = 50_000_000


def seen_order(answers: Answers, usual: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """Find the order that the answers show.

    Args:
        answers: How closely each token follows each patch.
        usual: The order that is expected, one token a patch, row by row.
        grid: (rows, columns) of the patches.

    Returns:
        The first of these that stands out: the usual order; the one in which each patch has the token that
        follows it most and no other patch more; the usual one with the tokens without place put elsewhere;
        the one that is divided by two again and again (Hiera). None if none does.
    """
    if stands_out(answers, usual):
        return usual
    if len(answers.patches) * len(answers.tokens) > _MOST_PAIRS:
        return None
    pairs = answers.all
    candidates = [_each_its_own(pairs), _others_between(pairs)]
    candidates += [usual[unrolled(grid, levels)] for levels in _levels(grid)]
    return next((order for order in candidates if order is not None and stands_out(answers, order)), None)


def stands_out(answers: Answers, order: Tensor) -> bool:
    """Whether every band of places answers to its own patches, more than to chance and to any shift."""
    own = answers.along(order).cpu()
    chance = [answers.along(order.roll(step)).cpu() for step in _steps(len(order))]
    mean = torch.cat(chance).mean()
    excess = own - mean
    bands = max(1, min(_BANDS, len(own) // _PLACES))
    evenly = all(band.mean() >= _SHARE * excess.mean() for band in excess.tensor_split(bands))
    rivals = [*chance, *_shifted(answers, order)]
    return evenly and all(_surely((own - rival).tensor_split(bands)) for rival in rivals)


def _surely(bands: tuple[Tensor, ...]) -> bool:
    """Whether the numbers of every band are above zero on average, beyond their scatter."""
    return all(b.mean() * len(b) ** 0.5 > _DEVIATIONS * b.std().nan_to_num().clamp_min(1e-4) for b in bands)


def _steps(count: int) -> list[int]:
    """How far the tokens are moved round to see what chance answers."""
    return sorted({max(1, count * part // 60) for part in (12, 20, 30, 40)})


def _shifted(answers: Answers, order: Tensor) -> list[Tensor]:
    """The answers if all tokens are taken a few further on or back, as far as there are others."""
    back, on = int(order.min()), len(answers.tokens) - 1 - int(order.max())
    return [answers.along(order + shift).cpu() for shift in range(-back, on + 1) if shift]


def unrolled(grid: tuple[int, int], levels: int) -> Tensor:
    """The token at each place where the parts of every 2x2 block are kept far apart, as Hiera does to pool.

    Its tokens are ordered by the place within a block of two, then within a block of four, ..., and last by
    the grid that is left.

    Args:
        grid: (rows, columns), both divisible by two as often as `levels` says.
        levels: How often blocks are divided.

    Example:
        >>> unrolled((2, 4), levels=1).tolist()
        [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows, columns = grid[0] >> levels, grid[1] >> levels
    split = torch.arange(grid[0] * grid[1]).view(*(2, 2) * levels, rows, columns)
    down, across = range(2 * levels, -1, -2), range(2 * levels + 1, 0, -2)  # coarsest first
    return split.permute(*down, *across).flatten()


def _levels(grid: tuple[int, int]) -> list[int]:
    """How often both sides of a grid can be divided by two: once, twice, ..."""
    divisors = (2**level for level in range(1, max(grid).bit_length()))
    return [level for level, d in enumerate(divisors, start=1) if grid[0] % d == grid[1] % d == 0]


def _each_its_own(pairs: Tensor) -> Tensor | None:
    """The token that answers most to each patch, if it answers most to that one, for all."""
    chosen = pairs.argmax(1)
    mutual = pairs.argmax(0)[chosen] == torch.arange(len(pairs), device=pairs.device)
    return chosen.cpu() if mutual.all() else None


def _others_between(pairs: Tensor) -> Tensor | None:
    """In order, with some tokens before all patches and the others together before one of them."""
    patches, tokens = pairs.shape
    others = tokens - patches
    if others < 1:
        return None
    along = torch.stack([pairs.diagonal(offset) for offset in range(others + 1)]).cpu()
    before = torch.cat([along.new_zeros(others + 1, 1), along.cumsum(1)], dim=1)
    totals = before + (before[-1, -1] - before[-1])
    front, first = divmod(int(totals.argmax()), patches + 1)
    places = torch.arange(patches)
    return torch.where(places < first, places + front, places + others)
