"""Streaming statistics of one layer over a probing set."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.methods.dissect.exemplars.masks import active, resized
from torchnle.methods.dissect.probing.sample import LocationSample
from torchnle.methods.dissect.probing.sums import DyadicSums
from torchnle.methods.dissect.probing.table import Table
from torchnle.methods.dissect.probing.top import TopK

#: Masked means that are formed at once.
_ROWS = 256


@dataclass(frozen=True)
class Evidence:
    """The evidence layer's features of a batch, which a translator describes.

    Args:
        tokens: (B, M, E).
        grid: Their (rows, columns).
        pooled: The pooled features, as the reading pools them.
        scores: How well each text fits each image, (B, T).
    """

    tokens: Float[Tensor, "B M E"]
    grid: tuple[int, int] | None
    pooled: Float[Tensor, "B E"]
    scores: Float[Tensor, "B T"] | None = None


@dataclass(frozen=True)
class Activations:
    """The activations of a layer's units for a batch.

    Args:
        images: The images' numbers.
        local: At every location.
        pooled: One number per image.
        grid: (rows, columns) of the locations.
    """

    images: Int[Tensor, "B"]
    local: Float[Tensor, "B L U"]
    pooled: Float[Tensor, "B U"]
    grid: tuple[int, int] | None


@dataclass
class Streams:
    """The statistics of one layer's units, mergeable exactly.

    Args:
        units: The number U of units.
        k: Exemplars per unit, with activation map and evidence feature.
        wide: Images per unit of which only number and activation are kept.
        sample: Locations sampled for quantiles.
        table: Whether every image's activations and evidence feature are kept.
    """

    units: int
    k: int
    wide: int
    sample: int
    table: bool = False
    grid: tuple[int, int] | None = None
    top: TopK = field(init=False)
    more: TopK = field(init=False)
    locations: LocationSample = field(init=False)
    low: Tensor = field(init=False)
    high: Tensor = field(init=False)
    sums: DyadicSums = field(default_factory=DyadicSums)
    rows: Table = field(default_factory=Table)

    def __post_init__(self) -> None:
        self.top, self.more = TopK(self.units, self.k), TopK(self.units, self.wide)
        self.locations = LocationSample(self.units, self.sample)
        self.low = torch.full((self.units,), torch.inf)
        self.high = torch.full((self.units,), -torch.inf)

    def add(self, batch: int, found: Activations, evidence: Evidence | None) -> None:
        """Add a batch to the statistics.

        Args:
            batch: Its number.
            found: The units' activations.
            evidence: Features for words.
        """
        self.grid = found.grid
        local = found.local.float().cpu()
        self.low = torch.minimum(self.low, local.amin(dim=(0, 1)))
        self.high = torch.maximum(self.high, local.amax(dim=(0, 1)))
        pooled = found.pooled.float().cpu()
        self.top.add(found.images, pooled, partial(_details, local, found.grid, evidence))
        self.more.add(found.images, pooled)
        self.locations.add(found.images, local)
        if self.table:
            vectors = {} if evidence is None else {"vectors": evidence.pooled.float().cpu()}
            self.rows.add(found.images, {"activations": pooled, **vectors})
        self.sums.add(batch, _sums(pooled, evidence))

    def merge(self, other: Streams) -> None:
        """Merge another process's statistics of other images."""
        self.grid = self.grid or other.grid
        self.low, self.high = torch.minimum(self.low, other.low), torch.maximum(self.high, other.high)
        for own, others in zip(self._parts.values(), other._parts.values(), strict=True):
            own.merge(others)  # type: ignore[arg-type]

    @property
    def _parts(self) -> dict[str, TopK | LocationSample | DyadicSums | Table]:
        return {
            "top": self.top,
            "more": self.more,
            "locations": self.locations,
            "sums": self.sums,
            "rows": self.rows,
        }

    def state(self) -> dict[str, Tensor]:
        """Return all tensors of the statistics by name."""
        grid = torch.tensor(self.grid or (0, 0))
        parts = {f"{name}/{key}": t for name, part in self._parts.items() for key, t in part.state().items()}
        return {"low": self.low, "high": self.high, "grid": grid, **parts}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the statistics from `state`."""
        rows, columns = state["grid"].tolist()
        self.grid = (rows, columns) if rows else None
        self.low, self.high = state["low"], state["high"]
        for name, part in self._parts.items():
            part.load({key.split("/", 1)[1]: t for key, t in state.items() if key.startswith(f"{name}/")})


def _details(
    local: Float[Tensor, "B L U"],
    grid: tuple[int, int] | None,
    evidence: Evidence | None,
    unit: Int[Tensor, "n"],
    row: Int[Tensor, "n"],
) -> dict[str, Tensor]:
    """The activation map of units in images, and the evidence features' mean where each map is high."""
    maps = local[row, :, unit]
    if evidence is None:
        return {"maps": maps}
    masks = active(maps).float()
    weights = resized(masks, grid, evidence.grid)
    tokens = evidence.tokens.float().cpu()
    found = [torch.empty(0, tokens.shape[2])]
    for start in range(0, len(row), _ROWS):
        part = slice(start, start + _ROWS)  # a product a row: the bits do not depend on what else enters
        found.append(torch.einsum("nl,nld->nd", weights[part], tokens[row[part]]))
    return {"maps": maps, "evidence": torch.cat(found)}


def _sums(pooled: Float[Tensor, "B U"], evidence: Evidence | None) -> dict[str, Tensor]:
    a = pooled.double()
    found = {"count": torch.tensor(float(len(a))), "a": a.sum(dim=0), "aa": a.square().sum(dim=0)}
    if evidence is None:
        return found
    v = evidence.pooled.double().cpu()
    found |= {"v": v.sum(dim=0), "vv": v.T @ v, "av": a.T @ v}
    if evidence.scores is not None:
        s = evidence.scores.double().cpu()
        found |= {"s": s.sum(dim=0), "ss": s.square().sum(dim=0), "as": a.T @ s}
    return found
