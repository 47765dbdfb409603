"""What translators share that hold texts and features in one space: cosines, and phrases ranked by them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.features import Features
from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts
from torchnle.translators.base import Translator
from torchnle.translators.phrase_ranking import Phrases
from torchnle.translators.rows import Rows, as_list, batches, gather
from torchnle.types import ScoreKind

#: How many phrases a description lists, and how many of them it says, where they score half of the best.
_LISTED, _SAID = 6, 3


class CosineTranslator(Translator):
    """Scores texts by their cosine with features, in a space that holds both, and describes by a phrase bank.

    A subclass says where that space comes from: `_map` brings texts there, `_phrases` chooses the bank.

    Args:
        text_encoder: Encodes texts; it is held outside the module and never saved.
        bank: The phrases that `describe` chooses from; None = the subclass's own choice.
        layer: The name of the layer that is read, for messages.
    """

    score_kind: ClassVar[ScoreKind] = "cosine"
    frozen_models: ClassVar[tuple[str, ...]] = ("text_encoder",)

    text_encoder: TextEncoder

    def __init__(
        self, text_encoder: TextEncoder, *, bank: Sequence[str] | None = None, layer: str = ""
    ) -> None:
        super().__init__()
        self.layer, self.text_encoder = layer, text_encoder
        self.bank = None if bank is None else tuple(dict.fromkeys(check_texts(bank)))
        self._kept_phrases: Phrases | None = None
        self._latest: tuple[tuple[str, ...], Tensor] | None = None

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the features must be."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The width of the space."""

    @abstractmethod
    def _map(self, texts: tuple[str, ...]) -> Float[Tensor, "T D"]:
        """Bring texts into the space, as unit vectors on `device`."""

    @abstractmethod
    def _phrases(self) -> Phrases:
        """The bank, encoded."""

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Map texts into the space of the features, as unit vectors.

        Raises:
            TypeError: If `texts` is a single string.
            ValueError: If there are no texts or one is blank.
        """
        checked = tuple(check_texts(texts))
        if self._latest is None or self._latest[0] != checked or self._latest[1].device != self.device:
            with torch.inference_mode(False), torch.no_grad():  # what is kept must serve calls with gradients
                self._latest = checked, self._map(checked)
        return self._latest[1]

    def score(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """The cosine of every row with every text, in the common space; 0 for a row of zeros.

        Args:
            features: The features of the layer, before or after pooling.
            texts: The texts, as they are: no prompt is put around them.
            joint: Has no meaning here: there is one layer.
            prior: Not offered: there is no language model whose prior could be subtracted.
            internal_batch_size: The most rows that are in work at once.

        Raises:
            TranslatorMismatchError: If the features are not as wide as the space.
            TypeError: If `texts` is a single string.
            ValueError: If there are no rows or texts, one is blank, a feature is NaN or infinite, features
                and translator are on different devices, `prior` is asked for, or several layers jointly.
        """
        if prior:
            raise ValueError(
                "prior=True subtracts a text's log-probability under a language model; this translator "
                "scores by cosine and has none. Pass prior=False."
            )
        vectors = self.embed(texts)
        groups = self._gather(features, joint)
        return torch.cat([_unit(rows) @ vectors.T for rows in _parts(groups, internal_batch_size)])

    def describe(
        self,
        features: Features | Sequence[Features],
        *,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Name the phrases of the bank that have the highest cosine with every row.

        The text joins up to three of them; `phrases` lists up to six with their cosines, best first; none
        repeats the meaning of a better one. `unsure` where no cosine is positive.

        Args:
            features: As for `score`.
            joint: As for `score`.
            internal_batch_size: As for `score`.

        Raises:
            TranslatorMismatchError: As `score`.
            ValueError: As `score`.
        """
        phrases = self.phrases()
        found: list[Description] = []
        with torch.no_grad():
            for rows in _parts(self._gather(features, joint), internal_batch_size):
                best = phrases.best(_unit(rows), _LISTED)
                places = zip(rows.places, best, strict=True)
                found += [_description(rows.layer, place, listed) for place, listed in places]
        return found

    def phrases(self) -> Phrases:
        """The bank that `describe` chooses from; encoded once and kept."""
        if self._kept_phrases is None or self._kept_phrases.vectors.device != self.device:
            with torch.no_grad():
                self._kept_phrases = self._phrases()
        return self._kept_phrases

    def _gather(self, features: Features | Sequence[Features], joint: bool) -> list[Rows]:
        given = as_list(features)
        if joint and len(given) > 1:
            raise ValueError(
                f"translator '{self.name}' reads one layer; "
                f"joint=True was given with {[f.layer for f in given]}. Pass one layer, or joint=False."
            )
        for each in given:
            if each.tokens.device != self.device:
                raise ValueError(
                    f"translator '{self.name}' is on {self.device}, the features of '{each.layer}' on "
                    f"{each.tokens.device}. Bring them to one device: translator.to(device)."
                )
        widths = {self.layer or "features": self.width}
        return gather(given, widths, joint=False, tokens_per_row=1, translator=self.name)


def _parts(groups: Sequence[Rows], size: int | None) -> Iterator[Rows]:
    return (rows for batch in batches(groups, size) for rows in batch)


def _description(
    layer: str, place: tuple[int, tuple[int, int] | None], listed: Sequence[tuple[str, float]]
) -> Description:
    (image, location), (_, best) = place, listed[0]
    said = [phrase for phrase, score in listed[:_SAID] if score >= best / 2]
    return Description(
        "; ".join(said) or listed[0][0],
        best,
        score_kind="cosine",
        layer=layer,
        image=image,
        location=location,
        phrases=tuple(listed),
        unsure=best <= 0,
    )


def _unit(rows: Rows) -> Float[Tensor, "R D"]:
    (tokens,) = rows.tokens.values()
    return F.normalize(tokens.flatten(0, 1).float(), dim=1)
