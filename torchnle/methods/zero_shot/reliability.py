"""The reliability of a text's direction: the norm of the regression's prediction before normalisation."""

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
    """Compute the reliability of texts' directions, from 0 (far from all fitted texts) to 1.

    Kernel ridge regression shrinks its prediction towards zero far from the fitted texts, and the direction
    of such a prediction is noise. The reliability is 1 from the norm that nine tenths of the fitted texts
    exceed by the leave-one-out fit.

    Args:
        fitted: The map; with the MLP, whose output is normalised, the result is all ones.
        vectors: Sentence embeddings.
        known: `known_length` of the map; None = compute it.
    """
    if not isinstance(fitted.regression, KernelRidge):
        return vectors.new_ones(len(vectors))
    lengths: Tensor = fitted.regression(vectors.to(fitted.texts)).norm(dim=1)
    return (lengths / (known_length(fitted) if known is None else known)).clamp(max=1)


@torch.no_grad()
def known_length(fitted: TextMap) -> float:
    """Compute the norm of a prediction from which its reliability is 1; see `reliability`."""
    if not isinstance(fitted.regression, KernelRidge):
        return 1.0
    lengths = fitted.regression.left_out().norm(dim=1)
    return max(float(lengths.quantile(_STRANGE)), torch.finfo(lengths.dtype).tiny)
