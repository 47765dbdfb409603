"""The translator of a CLIP, which needs no fit: images and texts share one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from torchnle.description import Description
from torchnle.language.clip_text import ClipText
from torchnle.language.texts import check_texts
from torchnle.methods.aligned.probability.vocabulary import Vocabulary, shipped_phrases
from torchnle.methods.aligned.text_choice import SURE_ABOVE, choose_texts, described
from torchnle.translators.base import Translator
from torchnle.translators.config_values import Reference
from torchnle.translators.rows import Rows, batches
from torchnle.types import ScoreKind


class ClipTranslator(Translator):
    """Scores texts on a CLIP's image features by the cosine with the vectors of its own text tower.

    The probability of a phrase is CLIP's own: the softmax of its cosines with all phrases of the bank, times
    the scale that it was trained with.

    Args:
        text_encoder: The text tower, which is no submodule and is never saved.
        bank: The phrases that `describe` chooses from; None = the shipped concept bank, whose encoding takes
            about a minute on a CPU.
        layer: The name of the layer that is read.

    Example:
        >>> class Words(ClipText):  # a toy: four words that are their own images
        ...     reference, device, width, scale = "words", torch.device("cpu"), 4, 100.0
        ...     def __init__(self): pass
        ...     def encode(self, texts, batch_size=64):
        ...         return torch.eye(4)[[["cat", "dog", "sky", "sea"].index(text) for text in texts]]
        >>> translator = ClipTranslator(Words(), bank=["cat", "dog"])
        >>> translator.describe([Rows({"visual": torch.tensor([[[0.1, 0.9, 0.0, 0.0]]])})])[0].marked_text
        'dog (100%)'
    """

    score_kind: ClassVar[ScoreKind] = "cosine"
    frozen_models: ClassVar[tuple[str, ...]] = ("text_encoder",)
    text_encoder: ClipText

    def __init__(self, text_encoder: ClipText, *, bank: Sequence[str] | None = None, layer: str = "") -> None:
        super().__init__()
        self.text_encoder, self.layer = text_encoder, layer
        self.layers = (layer,) if layer else ()
        self.bank = None if bank is None else tuple(dict.fromkeys(check_texts(bank)))
        self.vocabulary = Vocabulary(shipped_phrases() if self.bank is None else self.bank)
        self._phrase_vectors: Tensor | None = None
        self._latest: tuple[tuple[str, ...], Tensor] | None = None

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Map texts into the common space, as unit vectors.

        Raises:
            TypeError: If `texts` is a single string.
            ValueError: If there are no texts or one is blank.
        """
        checked = tuple(check_texts(texts))
        if self._latest is None or self._latest[0] != checked:
            with torch.inference_mode(False), torch.no_grad():  # what is kept must serve calls with gradients
                self._latest = checked, self.text_encoder.encode(checked)
        return self._latest[1]

    def score(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Compute the cosine of every row with every text; 0 for a row of zeros.

        Args:
            rows: The rows of the layer, before or after pooling; one layer each.
            texts: The texts; no template is added.
            prior: Must be False: there is no language model whose prior could be subtracted.
            internal_batch_size: The largest number of rows at once.

        Raises:
            TranslatorMismatchError: If the features are not as wide as the space.
            TypeError: If `texts` is a single string.
            ValueError: If there are no rows or texts, one is blank, a feature is NaN or infinite, features
                and translator are on different devices, `prior` is True, or layers are read together.
        """
        if prior:
            raise ValueError(
                "prior=True subtracts a text's log-probability under a language model; this translator "
                "scores by cosine and has none. Pass prior=False."
            )
        vectors = self.embed(texts)
        return torch.cat([_unit(part) @ vectors.T for part in self._parts(rows, internal_batch_size)])

    @torch.no_grad()
    def describe(
        self,
        rows: Sequence[Rows],
        *,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Describe every row by the most probable phrase of the bank, with its probability.

        Args:
            rows: As for `score`.
            internal_batch_size: As for `score`.

        Returns:
            One description per row: `phrases` holds the most probable phrases with their probabilities.

        Raises:
            TranslatorMismatchError: As `score`.
            ValueError: As `score`.
        """
        parts = self._parts(rows, internal_batch_size)
        return [description for part in parts for description in self._describe(part)]

    def _describe(self, rows: Rows) -> list[Description]:
        if self._phrase_vectors is None:
            self._phrase_vectors = self.text_encoder.encode(self.vocabulary.phrases)
        unit = _unit(rows)
        shares = (self.text_encoder.scale * (unit @ self._phrase_vectors.T)).softmax(dim=1)
        choices = choose_texts(shares, self.vocabulary)
        scores = (unit * self.text_encoder.encode([each.text for each in choices])).sum(dim=1)
        return described(choices, scores, shares, self.vocabulary.phrases, sure_above=SURE_ABOVE)

    def _parts(self, rows: Sequence[Rows], internal_batch_size: int | None) -> list[Rows]:
        for group in rows:
            if len(group.tokens) > 1:
                raise ValueError(
                    f"translator '{self.name}' reads one layer, and {list(group.tokens)} were to be read "
                    "together. Pass one layer, or joint=False."
                )
            (tokens,) = group.tokens.values()
            if tokens.device != self.text_encoder.device:
                raise ValueError(
                    f"translator '{self.name}' is on {self.text_encoder.device}, the features of "
                    f"'{group.layer}' on {tokens.device}. Use translator.to(device)."
                )
        widths = {self.layer or "features": self.text_encoder.width}
        groups = [group.for_inputs(widths, self.name) for group in rows]
        return [part for batch in batches(groups, internal_batch_size) for part in batch]

    def _apply(self, *given: Any, **options: Any) -> Self:
        self._phrase_vectors = self._latest = None
        return super()._apply(*given, **options)

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


def _unit(rows: Rows) -> Float[Tensor, "R D"]:
    (tokens,) = rows.tokens.values()
    return F.normalize(tokens.flatten(0, 1).float(), dim=1)
