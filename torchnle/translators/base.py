"""The abstract translator: turns rows of features into words, and scores words on rows."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.language.ranking import Ranking, check_k
from torchnle.public_calls import without_autocast
from torchnle.translators.model_card import one_line
from torchnle.translators.pretrained import Pretrained
from torchnle.translators.rows import Rows
from torchnle.types import ScoreKind

_UNITS: dict[ScoreKind, str] = {
    "log_prob": "log-probabilities in nats",
    "cosine": "cosine similarities",
    "projection": "projections on the texts' directions",
}
#: Divisors of scores before a softmax over texts. The accuracy of cosines is the same from 0.1 to 0.5 on
#: composed scenes, and lower for smaller values.
_TEMPERATURES: dict[ScoreKind, float] = {"log_prob": 1.0, "cosine": 0.2, "projection": 0.1}


class Translator(Pretrained):
    """Turns features into words (`describe`) and scores given words on features (`score`).

    Its input is `Rows`, one group per layer or one for several layers that are read together, without images
    or grids (`LanguageAttribution` builds the rows and assigns the results to their locations).

    It is saved and loaded as any `Pretrained`. A subclass states a kind in its definition,
    ``class Mine(Translator, kind="mine")``, and defines `score_kind`, `describe`, `score` and `config`; once
    its module is imported, ``Translator.from_pretrained`` finds it.

    Attributes:
        layers: The dotted names of the layers that it was fitted to; empty if unknown.
        backbone: The reference of the vision model that it was fitted to; "" if unknown.
        tokens_per_row: 1 = a row is one location or one pooled feature; more = all tokens of an image.

    Example:
        >>> class Brightness(Translator, kind="brightness"):
        ...     score_kind = "projection"
        ...     def describe(self, rows, *, internal_batch_size=None):
        ...         values = [x for group in rows for x in self._means(group).tolist()]
        ...         return [Description("bright" if x > 0.5 else "dark", x) for x in values]
        ...     def score(self, rows, texts, *, prior=False, internal_batch_size=None):
        ...         sign = torch.tensor([1.0 if text == "bright" else -1.0 for text in texts])
        ...         return torch.cat([self._means(group) for group in rows])[:, None] * sign
        ...     def _means(self, group):
        ...         (tokens,) = group.tokens.values()
        ...         return tokens.mean(dim=(1, 2))
        ...     @property
        ...     def config(self):
        ...         return {}
        >>> rows = [Rows({"layer": torch.ones(2, 1, 8)})]
        >>> [word.text for word in Brightness().describe(rows)]
        ['bright', 'bright']
    """

    #: The kind of the scores that `score` returns.
    score_kind: ClassVar[ScoreKind]

    layers: tuple[str, ...] = ()
    backbone: str = ""
    tokens_per_row: int = 1

    def softmax_temperature(self, rows: Sequence[Rows]) -> float:
        """Return the divisor of the scores of rows before a softmax over texts (`saliency(contrast=)`)."""
        return _TEMPERATURES[self.score_kind]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("describe", "score", "top_texts", "top_rows"):
            if inspect.isfunction(vars(cls).get(name)):
                setattr(cls, name, without_autocast(vars(cls)[name]))

    @abstractmethod
    def describe(
        self,
        rows: Sequence[Rows],
        *,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Describe every row in words.

        Args:
            rows: The rows, group by group.
            internal_batch_size: The largest number of rows at once.

        Returns:
            One `Description` per row, in order; layer, image and location are filled in by the caller.
        """

    @abstractmethod
    def score(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Score every text on every row; differentiable in the rows' tokens.

        Args:
            rows: The rows, group by group.
            texts: The texts.
            prior: Subtract each text's log-probability under the language model alone.
            internal_batch_size: The largest number of rows at once.

        Returns:
            Raw scores of the kind `score_kind`, float32.
        """

    def text_lengths(self, texts: Sequence[str]) -> Float[Tensor, "texts"]:
        """Return the number of tokens over which each text's score is summed.

        Raises:
            ValueError: If scores are not sums over tokens, such as cosines.
        """
        raise ValueError(
            f"translator '{self.name}' scores by {self.score_kind}, which is not a sum over tokens; do "
            "not normalise by length."
        )

    @torch.no_grad()
    def top_texts(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        k: int,
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Ranking:
        """Find the `k` texts of highest score on every row.

        Args:
            rows: As `score`.
            texts: As `score`.
            k: The number of texts.
            prior: As `score`.
            internal_batch_size: As `score`.

        Raises:
            ValueError: As `score`, or if `k` is not positive.
        """
        check_k(k)
        scores = self.score(rows, texts, prior=prior, internal_batch_size=internal_batch_size)
        return Ranking.of(scores, k)

    @torch.no_grad()
    def top_rows(
        self,
        rows: Sequence[Rows],
        text: str,
        k: int,
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Ranking:
        """Find the `k` rows of highest score for a text.

        Args:
            rows: As `score`.
            text: The text.
            k: The number of rows.
            prior: As `score`.
            internal_batch_size: As `score`.

        Raises:
            ValueError: As `score`, or if `k` is not positive.
        """
        check_k(k)
        scores = self.score(rows, [text], prior=prior, internal_batch_size=internal_batch_size)
        return Ranking.of(scores[:, 0], k)

    @property
    def adaptable(self) -> Translator | None:
        """The translator whose feature statistics can be replaced: itself, one that it uses, or None."""
        return None

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of its frozen models, of those that these use, and of the vision model."""
        return tuple(dict.fromkeys([*super().base_models, *filter(None, [self.backbone])]))

    @property
    def summary(self) -> str:
        """A sentence on what it does, for its model card."""
        return (
            f"A `{type(self).__name__}` of torchnle: it turns the features of a vision model into words and "
            f"scores words on features ({_UNITS.get(self.score_kind, self.score_kind)})."
        )

    @property
    def usage(self) -> str:
        """Python code for its model card that loads and uses it."""
        layers = "" if self.layers else ", layers"
        backbone = one_line(self.backbone) or "the vision model that it was made for"
        lines = [
            "from torchnle import LanguageAttribution",
            "",
            f"model = ...  # {backbone}, unmodified",
            *([] if self.layers else ["layers = ...  # what to read; torchnle.suggest_layers lists layers"]),
            "images = ...  # a batch of its inputs",
            f'lang = LanguageAttribution.from_pretrained(model, "<this repository or folder>"{layers})',
            "lang.describe(images)",
        ]
        return "\n".join(lines)
