"""A map of class weights and of new classes in the plane, by t-SNE (Zero-shot NLE, figures 2 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.errors import optional_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OLD, _NEW = "#7a8699", "#c2410c"


def tsne(vectors: Float[Tensor, "N D"], *, seed: int = 0) -> Float[Tensor, "N 2"]:
    """Embed vectors in the plane by t-SNE of their cosine distances.

    Args:
        vectors: At least four vectors.
        seed: The seed of the initialisation.

    Returns:
        Points in the plane, (N, 2).

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
        ValueError: If there are fewer than four vectors.
    """
    if len(vectors) < 4:
        raise ValueError(f"{len(vectors)} vectors were given; pass at least four to lay out.")
    with optional_package("scikit-learn", extra="eval", purpose="for t-SNE"):
        from sklearn.manifold import TSNE
    unit = F.normalize(vectors.detach().float().cpu(), dim=1)
    distances = (1 - unit @ unit.T).clamp(min=0).fill_diagonal_(0)
    layout = TSNE(
        metric="precomputed",
        init="random",
        perplexity=min(30.0, (len(unit) - 1) / 3),
        random_state=seed,
    )
    return torch.from_numpy(layout.fit_transform(distances.numpy())).float()


def plot_class_map(
    weights: Float[Tensor, "C D"],
    names: Sequence[str],
    new: Float[Tensor, "n D"] | None = None,
    new_names: Sequence[str] = (),
    *,
    seed: int = 0,
) -> Figure:
    """Draw class weights and the rows of new classes in the plane, by t-SNE.

    Args:
        weights: The head's weight, one row per class; the mean row is subtracted.
        names: The class names.
        new: Rows of new classes, such as those that `extend_classifier` adds.
        new_names: Their names.
        seed: The seed of the layout.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
        ValueError: If there is not one name per row, or there are fewer than four rows.

    Example:
        >>> figure = plot_class_map(torch.randn(4, 8), ["hen", "cat", "tub", "bus"])  # doctest: +SKIP
        >>> figure.savefig("classes.png")  # doctest: +SKIP
    """
    from matplotlib.figure import Figure

    from torchnle.views.plots import INK, PAPER

    rows = weights if new is None else torch.cat([weights, new.to(weights)])
    if len(weights) != len(names) or len(rows) - len(weights) != len(new_names):
        raise ValueError(
            f"{len(weights)} and {len(rows) - len(weights)} rows were given with {len(names)} and "
            f"{len(new_names)} names; pass a name a row."
        )
    points = tsne(rows - weights.mean(dim=0), seed=seed)
    figure = Figure(figsize=(9, 9), facecolor=PAPER)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_axis_off()
    old = len(weights)
    axes.scatter(points[:old, 0].numpy(), points[:old, 1].numpy(), s=9, color=_OLD)
    axes.scatter(points[old:, 0].numpy(), points[old:, 1].numpy(), s=26, color=_NEW)
    for name, point in zip((*names, *new_names), points.tolist(), strict=True):
        fresh = name in new_names
        axes.annotate(name, point, fontsize=9 if fresh else 6, color=_NEW if fresh else INK, parse_math=False)
    return figure
