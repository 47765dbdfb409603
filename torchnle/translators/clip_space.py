"""The translator that needs no fit at all: the space that a CLIP's images and texts share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from torchnle.language.clip_text import ClipText
from torchnle.translators import concept_bank
from torchnle.translators.config_values import Reference
from torchnle.translators.cosine import CosineTranslator
from torchnle.translators.phrase_ranking import Phrases


class ClipTranslator(CosineTranslator):
    """Scores texts on a CLIP's image features by the cosine with what its own text tower makes of them.

    Args:
        text_encoder: The text tower; held outside the module and never saved.
        bank: The phrases that `describe` chooses from; None = the whole shipped concept bank, whose
            encoding takes a minute or so on a processor.
        layer: The name of the layer that is read, for messages.

    Example:
        >>> class Words(ClipText):  # a toy: four words that are their own images
        ...     reference, device, width = "words", torch.device("cpu"), 4
        ...     def __init__(self): pass
        ...     def encode(self, texts, batch_size=64):
        ...         return torch.eye(4)[["cat", "dog", "sky", "sea"].index(texts[0]):][: len(texts)]
        >>> from torchnle.features import Features
        >>> translator = ClipTranslator(Words(), bank=["cat", "dog"])
        >>> translator.describe(Features(torch.tensor([[[0.1, 0.9, 0.0, 0.0]]]), "visual"))[0].text
        'dog'
    """

    text_encoder: ClipText

    def __init__(self, text_encoder: ClipText, *, bank: Sequence[str] | None = None, layer: str = "") -> None:
        super().__init__(text_encoder, bank=bank, layer=layer)

    @property
    def device(self) -> torch.device:
        """Where the text tower is."""
        return self.text_encoder.device

    @property
    def width(self) -> int:
        """The width of the common space."""
        return self.text_encoder.width

    @property
    def config(self) -> dict[str, Any]:
        """The CLIP's reference, the bank and the layer.

        Raises:
            ValueError: If the CLIP has no reference.
        """
        if not self.text_encoder.reference:
            raise ValueError(
                "the CLIP has no reference, so a saved translator could not name it. Pass reference=, the "
                "string that ClipText.from_pretrained finds it by."
            )
        return {
            "text_encoder": self.text_encoder.reference,
            "bank": None if self.bank is None else list(self.bank),
            "layer": self.layer,
        }

    @classmethod
    def _build(cls, *, text_encoder: Reference, bank: Sequence[str] | None = None, layer: str = "") -> Self:
        return cls(ClipText.from_pretrained(text_encoder), bank=bank, layer=layer)

    def _map(self, texts: tuple[str, ...]) -> Float[Tensor, "T D"]:
        return self.text_encoder.encode(texts)

    def _phrases(self) -> Phrases:
        """The bank; two phrases say the same by what their vectors do not share with all others."""
        texts = concept_bank.phrases() if self.bank is None else self.bank
        vectors = self.text_encoder.encode(texts)
        meanings = vectors - vectors.mean(dim=0) if len(texts) > 2 else vectors
        return Phrases(texts, F.normalize(meanings, dim=1), vectors)
