"""Rankings: the best texts of every location, and the best locations of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

import torch
from torch import Tensor

from torchnle.attr.inputs.pictures import Pictures
from torchnle.attr.layer_reader import Chosen, LayerReader, OneLayer, locations
from torchnle.description import Description, DescriptionGrid
from torchnle.language.ranking import Ranking
from torchnle.language.texts import as_texts, check_texts
from torchnle.types import ScoreKind, Where
from torchnle.vision.features import Features

_Found = TypeVar("_Found", covariant=True)


@dataclass(frozen=True)
class Top(Generic[_Found]):
    """The best results, and the cost of finding them.

    Args:
        found: For texts the result of `describe`, each `Description` with its best text and the next best as
            its `phrases`; for locations one `Description` per location, best first.
        extensions: How many prefixes of texts were read beyond their first token.
        exhaustive: The same number for scoring all texts; 0 if the translator reads no prefixes.

    Example:
        >>> Top([Description("a cat", -1.5, layer="layer4", location=(0, 3))], 2, 49).found[0].location
        (0, 3)
    """

    found: list[_Found]
    extensions: int
    exhaustive: int


class Rankings(LayerReader[Chosen]):
    """Ranks texts at locations, and locations by a text."""

    @overload
    def top_texts(  # type: ignore[overload-overlap]
        self: Rankings[OneLayer],
        inputs: Pictures,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Literal["all"] = "all",
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[DescriptionGrid]: ...
    @overload
    def top_texts(  # type: ignore[overload-overlap]
        self: Rankings[OneLayer],
        inputs: Pictures,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: tuple[int, int] | Tensor | None,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[Description]: ...
    @overload
    def top_texts(
        self,
        inputs: Pictures,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Literal["all"] = "all",
        joint: Literal[True],
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[DescriptionGrid]: ...
    @overload
    def top_texts(
        self,
        inputs: Pictures,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: tuple[int, int] | Tensor | None,
        joint: Literal[True],
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[Description]: ...
    @overload
    def top_texts(
        self,
        inputs: Pictures,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Literal["all"] = "all",
        joint: Literal[False] = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[list[DescriptionGrid]]: ...
    @overload
    def top_texts(
        self,
        inputs: Pictures,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: tuple[int, int] | Tensor | None,
        joint: Literal[False] = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[list[Description]]: ...
    @torch.no_grad()
    def top_texts(
        self,
        inputs: Pictures,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Where = "all",
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[Any]:
        """Find the texts of highest score at every location: the answer of `saliency`, without scoring all.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors; with a backbone's preprocessing also PIL images and
                files.
            texts: The texts to choose from.
            k: How many to find.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            where: As `describe`, except that the default is every location.
            joint: As `describe`.
            prior: Subtract each text's log-probability under the language model alone.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            `Top`, with descriptions as `describe` returns them: the best text, and k - 1 phrases.

        Raises:
            ValueError: If `k` is not positive, or an input or text is invalid.

        Example:
            >>> from torchnle import LanguageAttribution
            >>> top = LanguageAttribution(model, "layer", translator).top_texts(images, ["a cat", "sky"])
            >>> len(top.found), top.found[0].grid, len(top.found[0][0, 0].phrases)
            (2, (4, 4), 1)
        """
        listed = as_texts(texts)
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        chosen, rows = self._select(features, where, joint)
        ranking = self.translator.top_texts(
            rows, listed, k, prior=prior, internal_batch_size=internal_batch_size
        )
        found = self._answer(best_texts(ranking, listed), chosen, joint)
        return Top(found, ranking.extensions, ranking.exhaustive)

    @torch.no_grad()
    def top_locations(
        self,
        inputs: Pictures,
        text: str,
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[Description]:
        """Find the locations of highest score for a text, over all images and layers together.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors; with a backbone's preprocessing also PIL images and
                files.
            text: The text.
            k: How many locations to find.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            joint: As `describe`.
            prior: Subtract the text's log-probability under the language model alone.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            `Top`, with one `Description` per location, best first.

        Raises:
            TypeError: If `text` is not one string.
            ValueError: If `k` is not positive, an input is invalid, or the text is blank.

        Example:
            >>> from torchnle import LanguageAttribution
            >>> top = LanguageAttribution(model, "layer", translator).top_locations(images, "sky", k=3)
            >>> [each.location for each in top.found] == [None] * 3
            False
        """
        (checked,) = check_texts([text])
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        chosen, rows = self._select(features, "all", joint)
        ranking = self.translator.top_rows(
            rows, checked, k, prior=prior, internal_batch_size=internal_batch_size
        )
        found = best_locations(ranking, checked, chosen, self.translator.score_kind, joint=joint)
        return Top(found, ranking.extensions, ranking.exhaustive)


def best_texts(ranking: Ranking, texts: Sequence[str]) -> list[Description]:
    """Build one description per row: its best text, and the next best as phrases."""
    described = []
    for numbers, scores in zip(ranking.indices.tolist(), ranking.scores.tolist(), strict=True):
        phrases = [(texts[number], score) for number, score in zip(numbers, scores, strict=True)]
        (best, score), *others = phrases
        described.append(Description(best, score, phrases=tuple(others)))
    return described


def best_locations(
    ranking: Ranking, text: str, features: Sequence[Features], kind: ScoreKind, *, joint: bool
) -> list[Description]:
    """Build one description per location, best first."""
    spots = list(locations(features, joint=joint))
    return [
        Description(text, score, kind, *spots[row])
        for row, score in zip(ranking.indices.tolist(), ranking.scores.tolist(), strict=True)
    ]
