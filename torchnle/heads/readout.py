"""Readouts: how a model makes one vector out of a layer with places, and the same for each place."""

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

#: "mean" over places, a "token", "tokens" and means side by side, "all" places through a pooling module or
#: flattened, or "none": no places.
Pooling: TypeAlias = Literal["mean", "token", "tokens", "all", "none"]


@dataclass(frozen=True, eq=False)
class View:
    """One vector made of a layer's tokens.

    Args:
        pooling: "mean" = over the places; "token" = one of those without place; "all" = every token, one
            after another.
        token: Which of the tokens without place; -1 = the last.
        pointwise: What the model applies at every place before the mean (the ReLU of DenseNet), or None.
        count: For "all": how many tokens a place is repeated to, so that it fills the image.
    """

    pooling: Literal["mean", "token", "all"]
    token: int = 0
    pointwise: nn.Module | None = None
    count: int = 1

    @property
    def plain(self) -> bool:
        """Whether it is the mean over places, or one place's features, and nothing else."""
        return self.pooling == "mean" and self.pointwise is None and self.count == 1

    def __call__(self, features: Features, where: Where) -> Features:
        """The vector of the whole image, or of the places asked for."""
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
    """Vectors side by side, through what the model applies to them.

    Args:
        views: The vectors.
        neck: What stands between them and the head (the LayerNorm of ConvNeXt), or None.
    """

    views: Sequence[View]
    neck: Neck | None = None

    def __call__(self, features: Features, where: Where) -> Features:
        """The vectors of the whole image, or of the places asked for."""
        seen = [view(features, where) for view in self.views]
        tokens = seen[0].tokens if len(seen) == 1 else torch.cat([s.tokens for s in seen], dim=2)
        if self.neck is not None:
            tokens = self.neck(tokens.flatten(0, 1)).view(*tokens.shape[:2], -1)
        return replace(seen[0], tokens=tokens, extra=None)


@dataclass(frozen=True, eq=False)
class Readout:
    """How a model makes one vector an image out of a layer, and how to do the same with its places.

    Args:
        tap: Where the features before pooling are read.
        pooling: How places become one vector; "none" = no places: `tap` reads the vector itself.
        layout: The order of the axes at `tap`, for `Features.from_activation`.
        num_prefix_tokens: The tokens in front that the mean leaves out, for `Features.from_activation`.
        branches: The ways from the layer to the vector, which are laid side by side.
        summary: A sentence: what was chosen, why, and how well it checks.
    """

    tap: Tap
    pooling: Pooling
    layout: Layout = "auto"
    num_prefix_tokens: int | None = None
    branches: Sequence[Branch] = ()
    summary: str = ""

    @property
    def reading(self) -> Reading:
        """How to read the layer so that it comes out as the model's last vector has it."""
        return Reading(layout=self.layout, num_prefix_tokens=self.num_prefix_tokens, pool=self.read)

    @property
    def plain(self) -> bool:
        """Whether what is read is the layer's own features: their mean over all places, or one place's."""
        views = [view for branch in self.branches for view in branch.views]
        necks = [branch.neck for branch in self.branches if branch.neck is not None]
        return not necks and (not views or (len(views) == 1 and views[0].plain))

    def read(self, features: Features, where: Where = None) -> Features:
        """The features as the model's last vector has them.

        For the whole image this is the model's own vector. At a place it is the vector that the model would
        make if the image looked like that place everywhere.

        Args:
            features: The features read at `tap`.
            where: Which places, as in `Features.select`; None = the whole image.

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
    """Tokens with and without places, in their order."""
    if features.extra is None:
        return features.tokens
    return torch.cat([features.extra, features.tokens], dim=1)
