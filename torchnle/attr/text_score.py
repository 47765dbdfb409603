"""TextScore: the score of texts as a module, so that every Captum method can explain a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.attr.layer_reader import select_rows
from torchnle.language.texts import as_texts
from torchnle.public_calls import checks_arguments, own_defaults
from torchnle.translators.base import Translator
from torchnle.types import Where
from torchnle.vision import taps
from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import LayerChoice


@checks_arguments
class TextScore(nn.Module):
    """Scores texts on a layer's features: inputs -> (images, texts), differentiable.

    It is a `forward_func` for Captum whose `target` is the index of a text: ``IntegratedGradients(score)``,
    ``LayerGradCam(score, layer)``, ``Occlusion(score)``, ``infidelity(score, ...)`` all explain a sentence.

    Args:
        forward_func: The model, or any callable if the layers are given as modules.
        layer: The layer to read; several layers are read together.
        translator: Scores texts on features.
        texts: The texts; their order numbers the targets.
        where: Where to read the layer: None = the whole image, (row, column), or a mask.
        prior: Subtract the text's log-probability under the language model alone.
        reading: Overrides for a layer with an ambiguous layout.
        internal_batch_size: The largest number of rows the language model sees at once.

    Shape:
        inputs (N, ...) -> (N, len(texts)), float32; log-probabilities in nats or cosines.

    Example:
        >>> score = TextScore(model, "layer", translator, ["a cat", "a dog"])
        >>> score(images).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerChoice,
        translator: Translator,
        texts: str | Sequence[str],
        *,
        where: Where = None,
        prior: bool = False,
        reading: Reading | None = None,
        internal_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.model = forward_func
        self.translator = translator
        self.texts = as_texts(texts)
        self.taps = taps.resolve(forward_func, layer)
        self.where = where
        self.prior = prior
        self.reading = reading
        self.internal_batch_size = internal_batch_size

    @own_defaults
    def forward(self, inputs: Tensor, *additional_forward_args: Any) -> Float[Tensor, "N T"]:
        """Score every text on every image."""
        features = read(self.model, self.taps, inputs, additional_forward_args, self.reading)
        _, rows = select_rows(
            self.translator, features, self.where, self.reading or Reading(), joint=len(features) > 1
        )
        scores = self.translator.score(
            rows,
            self.texts,
            prior=self.prior,
            internal_batch_size=self.internal_batch_size,
        )
        return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
