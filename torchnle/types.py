"""Names for the argument types that several modules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

#: One layer: the module itself, its dotted name, or a glob over dotted names.
Layer: TypeAlias = nn.Module | str
#: One layer or a list of them.
Layers: TypeAlias = Layer | Sequence[Layer]
#: Captum's inputs: one tensor or a tuple, batch first.
Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
#: The locations of a layer to read: None = the whole image (mean over locations), "all" = every location,
#: (row, column) = one location, a mask = the weighted mean over locations.
Where: TypeAlias = Literal["all"] | tuple[int, int] | Tensor | None
#: Picks the tensor from a layer's output.
Select: TypeAlias = Callable[[Any], Tensor]
#: The kind of a score: a log-probability in nats; a cosine; or the projection of a whitened feature on a
#: text's unit direction, in units of the features.
ScoreKind: TypeAlias = Literal["log_prob", "cosine", "projection"]
#: The order of the axes of an activation.
Layout: TypeAlias = Literal["auto", "NCHW", "NHWC", "NLD", "ND"]
#: The methods that label units: CLIP-Dissect's two, SemanticLens, MILAN, ours by regression and by
#: correlation, LE, and DeViL.
Labeller = Literal[
    "soft WPMI",
    "WPMI",
    "nearest text",
    "re-ranking",
    "expected activation",
    "correlation",
    "linear",
    "masked exemplars",
]
