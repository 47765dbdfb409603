"""The map from text into one layer's features, and the score of a text on a feature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.methods.aligned.regression.class_embedding_mlp import ClassEmbeddingMLP
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.aligned.text_features.phrase_sums import Prototypes
from torchnle.methods.aligned.text_features.statistics import Domain
from torchnle.methods.aligned.text_features.whitening import (
    SHRINKAGE,
    likeliest_shrinkage,
    whitening,
    within_spectrum,
)
from torchnle.translators.config_values import Count, NotNegative, Size

Encode: TypeAlias = Callable[[Sequence[str]], Tensor]
_REGRESSIONS: dict[str, type[KernelRidge] | type[ClassEmbeddingMLP]] = {
    "ridge": KernelRidge,
    "mlp": ClassEmbeddingMLP,
}
#: With captions the kernel is wider than for class names alone, and as much penalised: prototypes of phrases
#: are noisier than weights. Of scales 1.5, 3 and 5 it names held-out cut-outs best (measurements).
_SCALE, _PENALTY = 1.5, 1.0
#: Two sentence embeddings of at least this cosine are those of one text.
_SAME = 0.9995
#: Texts that are carried at once.
_BLOCK = 4096


@dataclass(frozen=True)
class Classes:
    """A classifier's linear head with the text of each row's class.

    Args:
        weight: (C, D).
        bias: (C,), or None.
        texts: The class names as noun phrases, one per row.
    """

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"] | None
    texts: tuple[str, ...]


class TextMap(nn.Module):
    """Maps sentence embeddings to unit directions in one layer's whitened feature space.

    Regressing texts onto features, and not features onto texts, avoids hubs: directions that are near to all
    others (Shigeto et al., 2015). The target of a phrase is its prototype, the change of the pooled feature
    with its presence (`PhraseSums`); that of a class name is the row of the classifier's weights. Kernel
    ridge regression predicts the direction of any other text. The direction of a fitted phrase is the mean of
    its prototype and its prediction.

    Args:
        width: The width D of the features.
        text_width: The width k of the sentence embeddings.
        phrases: The number P of fitted phrases of captions.
        classes: The number C of fitted class names, after these.
        nulls: The number M of features of contentless pictures.
        whitened: Whether features are whitened.
        regression: "ridge", in closed form, or "mlp", the network of Zero-shot NLE (section 3.1).
        shrinkage: The shrinkage of the whitening (`whitening`).
        fitted_shrinkage: The shrinkage at the fit, before `whiten_for`.
        own_shrinkage: The maximum-likelihood shrinkage for the pictures of the fit; 0 = unknown.

    Example:
        >>> empty = TextMap(8, 4, phrases=3, classes=2)
        >>> empty.score(torch.ones(5, 8), torch.eye(8)[:2]).shape
        torch.Size([5, 2])
    """

    matrix: Tensor | None
    center: Tensor
    pooled_norm: Tensor
    location_norm: Tensor
    nulls: Tensor
    texts: Tensor
    targets: Tensor
    class_norms: Tensor
    class_bias: Tensor
    temperature: Tensor
    head_share: Tensor
    offset: Tensor

    def __init__(
        self,
        width: Size,
        text_width: Size,
        *,
        phrases: Count = 0,
        classes: Count = 0,
        nulls: Count = 0,
        whitened: bool = False,
        regression: str = "ridge",
        shrinkage: NotNegative = 0.0,
        fitted_shrinkage: NotNegative = 0.0,
        own_shrinkage: NotNegative = 0.0,
    ) -> None:
        super().__init__()
        if regression not in _REGRESSIONS:
            raise ValueError(f"regression={regression!r}; pass one of {sorted(_REGRESSIONS)}.")
        self.phrases, self.classes, self.kind = phrases, classes, regression
        self.shrinkage, self.fitted_shrinkage = shrinkage, fitted_shrinkage
        self.own_shrinkage = own_shrinkage
        examples = phrases + classes
        self.regression: KernelRidge | ClassEmbeddingMLP = (
            KernelRidge(examples, text_width, width)
            if regression == "ridge"
            else ClassEmbeddingMLP(text_width, width)
        )
        sizes: dict[str, tuple[int, ...]] = {
            "center": (width,),
            "pooled_norm": (),
            "location_norm": (),
            "nulls": (nulls, width),
            "texts": (examples, text_width),
            "targets": (examples, width),
            "class_norms": (classes,),
            "class_bias": (classes,),
            "temperature": (),
            "head_share": (),
            "offset": (),
        }
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("matrix", torch.eye(width) if whitened else None)

    @classmethod
    def fit(
        cls,
        encode: Encode,
        *,
        prototypes: Prototypes | None = None,
        classes: Classes | None = None,
        regression: str = "ridge",
        shrinkage: float = SHRINKAGE,
    ) -> TextMap:
        """Fit to phrases of captions, to a classifier's names and weights, or to both.

        Args:
            encode: Encodes texts as unit vectors (n, k).
            prototypes: The prototypes of the captions' phrases, from `PhraseSums.solve`.
            classes: The head that reads this layer.
            regression: As for the class.
            shrinkage: The shrinkage of the whitening (`whitening`).

        Returns:
            The fitted map.
        """
        matrix, inverse = (None, None) if prototypes is None else whitening(prototypes.within, shrinkage)
        texts, targets = [], []
        if prototypes is not None and matrix is not None:
            moved = prototypes.vectors @ matrix
            texts.append(encode(prototypes.phrases))
            center = moved.mean(dim=0) if len(moved) > 1 else 0.0
            targets.append(F.normalize(moved - center, dim=1))
        if classes is not None:
            weight = classes.weight.detach().float().cpu()
            weight = weight - weight.mean(dim=0)
            rows = weight if inverse is None else weight @ inverse
            texts.append(encode(classes.texts))
            targets.append(F.normalize(rows, dim=1))
        embeddings, wanted = torch.cat(texts).float().cpu(), torch.cat(targets)
        fitted = cls(
            wanted.shape[1],
            embeddings.shape[1],
            phrases=0 if prototypes is None else len(prototypes.phrases),
            classes=0 if classes is None else len(classes.weight),
            whitened=matrix is not None,
            regression=regression,
            shrinkage=shrinkage,
            fitted_shrinkage=shrinkage,
        )
        fitted.matrix = matrix
        fitted.texts.copy_(embeddings)
        fitted.targets.copy_(wanted)
        if regression == "ridge":
            fitted.regression = _regression(embeddings, wanted, phrases=prototypes is not None)
        else:
            fitted.regression = _REGRESSIONS[regression].fit(embeddings, wanted)
        if classes is not None:
            fitted.class_norms.copy_(rows.norm(dim=1))
            if classes.bias is not None:
                fitted.class_bias.copy_(classes.bias.detach())
        return fitted.eval()

    def _apply(self, *given: Any, **options: Any) -> TextMap:
        """Move as every module does, and stay in float32, in which products are computed."""
        moved: TextMap = super()._apply(*given, **options)  # type: ignore[no-untyped-call]
        if self.center.dtype != torch.float32:
            moved = super()._apply(_in_float32)  # type: ignore[no-untyped-call]
        return moved

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *given: Any) -> None:
        """Load as every module does, in float32 whatever was stored."""
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[name] = _in_float32(state_dict[name])
        super()._load_from_state_dict(state_dict, prefix, *given)

    @property
    def width(self) -> int:
        """The width D of the features."""
        return len(self.center)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "width": self.width,
            "text_width": self.texts.shape[1],
            "phrases": self.phrases,
            "classes": self.classes,
            "nulls": len(self.nulls),
            "whitened": self.matrix is not None,
            "regression": self.kind,
            "shrinkage": self.shrinkage,
            "fitted_shrinkage": self.fitted_shrinkage,
            "own_shrinkage": self.own_shrinkage,
        }

    def set_statistics(self, domain: Domain, nulls: Float[Tensor, "M D"] | None = None) -> None:
        """Set the feature statistics of the pictures to be read, and the features of contentless pictures.

        Args:
            domain: The statistics.
            nulls: Features of contentless pictures; None = keep those set before.
        """
        self.center.copy_(domain.center)
        self.pooled_norm.fill_(domain.pooled_norm)
        self.location_norm.fill_(domain.location_norm)
        if nulls is not None:
            self.nulls = nulls.detach().float().to(self.center)

    @torch.no_grad()
    def adapt_shrinkage(self, rows: Float[Tensor, "R D"]) -> None:
        """Set `own_shrinkage` by pictures of the fit's kind that the whitening was not computed from.

        Args:
            rows: Their pooled features.
        """
        if self.matrix is not None and len(rows) > 1:
            spectrum = within_spectrum(self.matrix, self.shrinkage)
            self.own_shrinkage = likeliest_shrinkage(rows.to(self.center), *spectrum)

    @torch.no_grad()
    def whiten_for(self, rows: Float[Tensor, "R D"]) -> None:
        """Increase the shrinkage of the whitening by how much other pictures' covariance differs.

        The shrinkage of the fit is multiplied by the ratio of the maximum-likelihood shrinkages of these
        pictures and of the fit's own, if above 1. Prototypes and regression are recomputed. Nothing changes
        without a whitening, or with the MLP.

        Args:
            rows: Pooled features of the pictures to be read, at least two.
        """
        if self.matrix is None or not self.own_shrinkage or not isinstance(self.regression, KernelRidge):
            return
        values, vectors = within_spectrum(self.matrix, self.shrinkage)
        likeliest = likeliest_shrinkage(rows.to(self.center), values, vectors)
        shrinkage = self.fitted_shrinkage * max(1.0, likeliest / self.own_shrinkage)
        matrix, inverse = (
            ((vectors * (values + shrinkage) ** power) @ vectors.T).to(self.matrix) for power in (-0.5, 0.5)
        )
        phrases, classes = self.targets[: self.phrases], self.targets[self.phrases :]
        classes = classes * self.class_norms[:, None] @ self.matrix @ inverse
        phrases = torch.linalg.solve(self.matrix, phrases, left=False) @ matrix
        self.class_norms.copy_(classes.norm(dim=1))
        self.targets.copy_(F.normalize(torch.cat([phrases, classes]), dim=1))
        self.regression = _regression(self.texts, self.targets, phrases=self.phrases > 0)
        self.matrix = matrix
        self.shrinkage = shrinkage

    @torch.no_grad()
    def directions(self, vectors: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        """Map sentence embeddings, unit vectors, to unit directions in the whitened feature space.

        A text that was fitted several times, such as the name of two classes, uses the mean of its
        prototypes.
        """
        return torch.cat([self._directions(block) for block in torch.split(vectors.to(self.texts), _BLOCK)])

    def _directions(self, vectors: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        found = F.normalize(self.regression(vectors), dim=1)
        same = vectors @ self.texts.T > _SAME
        own = F.normalize(same.to(found) @ self.targets, dim=1)
        return F.normalize(found + torch.where(same.any(dim=1, keepdim=True), own, found), dim=1)

    def whiten(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        """Center and whiten features, in float32; differentiable."""
        moved = rows.float() - self.center
        return moved if self.matrix is None else moved @ self.matrix

    def score(self, rows: Float[Tensor, "R D"], directions: Float[Tensor, "T D"]) -> Float[Tensor, "R T"]:
        """Compute the projection of each whitened row on each text's direction."""
        return self.whiten(rows) @ directions.T

    def scaled(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        """Rescale features of single locations to the mean norm of pooled features, which the head reads."""
        return F.normalize(rows.float(), dim=1) * self.pooled_norm

    def head_logits(self, white: Float[Tensor, "R D"]) -> Float[Tensor, "R C"]:
        """Compute the classifier's logits of whitened rows, up to a constant per row.

        ``(w_c - mean w) . x`` is the product of the class's prototype, its weight row times the inverse of
        the whitening, with the whitened x.
        """
        directions = self.targets[self.phrases :] * self.class_norms[:, None]
        center = self.center if self.matrix is None else self.center @ self.matrix
        return (white + center) @ directions.T + self.class_bias


def _regression(texts: Float[Tensor, "C k"], targets: Float[Tensor, "C D"], *, phrases: bool) -> KernelRidge:
    if phrases:
        return KernelRidge.fit(texts, targets, scale=_SCALE, penalties=[_PENALTY])
    return KernelRidge.fit(texts, targets)


def _in_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
