"""A map's knowledge of a text: the length of the regression's prediction before it is normalised."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.aligned.text_features.text_map import TextMap

#: The share of fitted texts that would count as less than fully known, had they been left out of the fit.
_STRANGE = 0.1


@torch.no_grad()
def reliability(
    fitted: TextMap, vectors: Float[Tensor, "T k"], known: float | None = None
) -> Float[Tensor, "T"]:
    """Weigh texts between 0, nothing like them was fitted, and 1.

    Kernel ridge regression shrinks its prediction towards zero where no fitted text is near, and the
    direction of such a prediction is noise. A text counts fully whose prediction is as long as those of nine
    tenths of the fitted texts are by the fit without them.

    Args:
        fitted: The map. One fitted by the MLP, whose output is normalised, knows no difference: all ones.
        vectors: Sentence embeddings.
        known: `known_length` of the map, where it is at hand.
    """
    if not isinstance(fitted.regression, KernelRidge):
        return vectors.new_ones(len(vectors))
    lengths: Tensor = fitted.regression(vectors.to(fitted.texts)).norm(dim=1)
    return (lengths / (known_length(fitted) if known is None else known)).clamp(max=1)


@torch.no_grad()
def known_length(fitted: TextMap) -> float:
    """Find the length from which on a prediction counts as known; see `reliability`."""
    if not isinstance(fitted.regression, KernelRidge):
        return 1.0
    lengths = fitted.regression.left_out().norm(dim=1)
    return max(float(lengths.quantile(_STRANGE)), torch.finfo(lengths.dtype).tiny)
