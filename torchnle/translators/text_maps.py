"""What carries a layer's features into text space: the kinds of maps, their sum, and how they are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.translators.class_mixture import ClassMixture
from torchnle.translators.config_values import Size, check_config
from torchnle.translators.ridge import RidgeMap


class MapSum(nn.Module):
    """A map of a layer, and the steps of others away from their centers: each as surely as it speaks.

    A ridge map takes long steps on what resembles the images it was fitted to and short ones elsewhere; a
    class mixture takes long ones where the classifier is sure. So each leads where it knows something.

    Args:
        in_width: The number of channels D.
        out_width: The width k of the text space.
        maps: What `describe_map` gave of each map.
        weights: What each map's step is multiplied by.

    Raises:
        ValueError: If there is no map, the weights are not one a map, or a map reads another width.

    Example:
        >>> ridge = {"kind": "ridge", "in_width": 4}
        >>> MapSum(4, 2, maps=[ridge, ridge], weights=[1.0, 0.5])(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self, in_width: Size, out_width: Size, *, maps: Sequence[Mapping[str, Any]], weights: Sequence[float]
    ) -> None:
        super().__init__()
        built = [build_map(out_width, described) for described in maps]
        if not built or len(weights) != len(built):
            raise ValueError(
                f"{len(built)} maps and {len(weights)} weights; pass at least one map, and a weight each."
            )
        widths = [fitted.config["in_width"] for fitted in built]
        if set(widths) != {in_width}:
            raise ValueError(f"maps that are added must all read width {in_width}; these read {widths}.")
        self.maps = nn.ModuleList(built)
        self.weights = tuple(float(weight) for weight in weights)

    @classmethod
    def of(cls, maps: Sequence[TextMap], weights: Sequence[float]) -> MapSum:
        """Add fitted maps; the sum holds copies of them."""
        described = [describe_map(fitted) for fitted in maps]
        width = int(described[0]["in_width"]) if described else 0
        added = cls(width, len(maps[0].center) if maps else 0, maps=described, weights=weights)
        for copy, fitted in zip(added.maps, maps, strict=True):
            copy.load_state_dict(fitted.state_dict())
        return added

    @property
    def center(self) -> Float[Tensor, "k"]:
        """The first map's center."""
        return self._listed()[0].center

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor takes, but for the width of the text space."""
        described = [describe_map(fitted) for fitted in self._listed()]
        return {"in_width": described[0]["in_width"], "maps": described, "weights": list(self.weights)}

    def forward(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows k"]:
        """Step from the center as far as all maps together say."""
        steps = [
            weight * (fitted(features) - fitted.center)
            for weight, fitted in zip(self.weights, self._listed(), strict=True)
        ]
        return self.center + torch.stack(steps).sum(dim=0)

    def _listed(self) -> list[TextMap]:
        return list(self.maps)  # type: ignore[arg-type]


#: A fitted map, features (..., D) to vectors (..., k); its `center` is where a feature of no meaning goes.
TextMap: TypeAlias = RidgeMap | ClassMixture | MapSum
_KINDS: dict[str, type[TextMap]] = {"ridge": RidgeMap, "class mixture": ClassMixture, "sum": MapSum}


def describe_map(fitted: TextMap) -> dict[str, Any]:
    """A map's kind and sizes, as plain values that `build_map` takes.

    Example:
        >>> describe_map(RidgeMap(4, 2))
        {'kind': 'ridge', 'in_width': 4}
    """
    kind = next(name for name, cls in _KINDS.items() if isinstance(fitted, cls))
    return {"kind": kind, **fitted.config}


def build_map(out_width: int, described: Mapping[str, Any]) -> TextMap:
    """An empty map of the kind and sizes that `describe_map` gave.

    Raises:
        ValueError: If the kind is not known.

    Example:
        >>> build_map(2, {"kind": "ridge", "in_width": 4}).weight.shape
        torch.Size([2, 4])
    """
    kind = described.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"a map of kind {kind!r} is not known; known are {sorted(_KINDS)}.")
    given = {**described, "out_width": out_width}
    del given["kind"]
    check_config(given, _KINDS[kind], f"the configuration of a {kind} map")
    return _KINDS[kind](**given)
