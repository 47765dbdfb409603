"""Readouts: compute a model's vector from a layer with locations, and the same vector at each location."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from torchnle.heads.neck import Neck
from torchnle.types import Layout, Where
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading
from torchnle.vision.taps import Tap

#: "mean" over locations, a "token", concatenated "tokens" and means, "all" locations through a pooling module
#: or flattened, or "none": no locations.
Pooling: TypeAlias = Literal["mean", "token", "tokens", "all", "none"]


@dataclass(frozen=True, eq=False)
class View:
    """One vector computed from a layer's tokens.

    Args:
        pooling: "mean" = over the locations; "token" = a token without location; "all" = all tokens,
            concatenated.
        token: The index among the tokens without location; -1 = the last.
        pointwise: The function that the model applies at every location before the mean (DenseNet's ReLU), or
            None.
        count: For "all": the number of tokens to which a single location is repeated.
    """

    pooling: Literal["mean", "token", "all"]
    token: int = 0
    pointwise: nn.Module | None = None
    count: int = 1

    @property
    def plain(self) -> bool:
        """True for the mean over locations (or one location's features) with no other operation."""
        return self.pooling == "mean" and self.pointwise is None and self.count == 1

    def __call__(self, features: Features, where: Where) -> Features:
        """Return the vector of the whole image, or of the selected locations."""
        if self.pooling == "token" and where is None:
            chosen = features.extras()
            return replace(chosen, tokens=chosen.tokens[:, self.token, None], locations=(None,))
        if self.pooling == "all" and where is None:
            return replace(features.select(None), tokens=_every_token(features).flatten(1)[:, None])
        shown = features.tokens if self.pointwise is None else self.pointwise(features.tokens)
        chosen = replace(features, tokens=shown).select(where)
        return replace(chosen, tokens=chosen.tokens.repeat(1, 1, self.count))


@dataclass(frozen=True, eq=False)
class Branch:
    """Concatenated vectors and the neck that the model applies to them.

    Args:
        views: The vectors.
        neck: The modules between them and the head (ConvNeXt's LayerNorm), or None.
    """

    views: Sequence[View]
    neck: Neck | None = None

    def __call__(self, features: Features, where: Where) -> Features:
        """Return the vectors of the whole image, or of the selected locations."""
        seen = [view(features, where) for view in self.views]
        tokens = seen[0].tokens if len(seen) == 1 else torch.cat([s.tokens for s in seen], dim=2)
        if self.neck is not None:
            tokens = self.neck(tokens.flatten(0, 1)).view(*tokens.shape[:2], -1)
        return replace(seen[0], tokens=tokens, extra=None)


@dataclass(frozen=True, eq=False)
class Readout:
    """Computes a model's vector for an image from one layer, and the same for each of its locations.

    Args:
        tap: Where the features before pooling are read.
        pooling: How locations are pooled into one vector; "none" = no locations: `tap` reads the vector
            itself.
        layout: The order of the axes at `tap`, for `Features.from_activation`.
        num_prefix_tokens: The prefix tokens that the mean leaves out, for `Features.from_activation`.
        branches: The computations from the layer to the vector, whose results are concatenated.
        summary: A sentence on the choice, its reason and the error of its check.
    """

    tap: Tap
    pooling: Pooling
    layout: Layout = "auto"
    num_prefix_tokens: int | None = None
    branches: Sequence[Branch] = ()
    summary: str = ""

    @property
    def reading(self) -> Reading:
        """The reading of the layer that gives the model's last vector."""
        return Reading(layout=self.layout, num_prefix_tokens=self.num_prefix_tokens, pool=self.read)

    @property
    def plain(self) -> bool:
        """True for the plain mean over all locations (or one location's features)."""
        views = [view for branch in self.branches for view in branch.views]
        necks = [branch.neck for branch in self.branches if branch.neck is not None]
        return not necks and (not views or (len(views) == 1 and views[0].plain))

    def read(self, features: Features, where: Where = None) -> Features:
        """Read the features as the model's last vector.

        For the whole image this is the model's own vector. At a location it is the vector for an image that
        has the features of that location everywhere.

        Args:
            features: The features read at `tap`.
            where: The locations, as in `Features.select`; None = the whole image.

        Raises:
            ValueError: If `where` does not fit the features.
        """
        if not self.branches:
            return features.select(where)
        read = [branch(features, where) for branch in self.branches]
        if len(read) == 1:
            return read[0]
        return replace(read[0], tokens=torch.cat([r.tokens for r in read], dim=2))


def _every_token(features: Features) -> Tensor:
    """Return the tokens with and without locations, in their order."""
    if features.extra is None:
        return features.tokens
    return torch.cat([features.extra, features.tokens], dim=1)
