"""The base of the attribution classes: reads layers and passes their features to a translator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Literal, TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import TypeVar

from torchnle.attr.fitted_layers import warn_of_other_layers
from torchnle.attr.inputs.pictures import Pictures, as_batch
from torchnle.description import Description, DescriptionGrid
from torchnle.public_calls import own_defaults
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows, check_whole, rows_of
from torchnle.types import Inputs, ScoreKind, Where
from torchnle.vision import taps
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read, select_together
from torchnle.vision.running import like_weights

#: The descriptions of one layer: one `Description` an image, or one `DescriptionGrid` an image.
LayerDescriptions: TypeAlias = list[Description] | list[DescriptionGrid]


#: One layer, and in a type: what is read, one layer or several. A list of one layer and a glob that matches
#: several are known only at run time.
OneLayer: TypeAlias = nn.Module | str | taps.Tap
Chosen = TypeVar("Chosen", bound=OneLayer | Sequence[Any], covariant=True, default=str)


class LayerReader(Generic[Chosen]):
    """Reads layers of a model and passes their rows to a translator.

    Several layers give a list of results, one per layer; one layer, in whatever form it is given, gives its
    result without a list.

    Attributes:
        forward_func: The model.
        taps: The layers that are read.
        translator: Turns rows of features into words and scores words on them.
        preprocess: Turns a picture into an input; None = inputs are tensors only.
        reading: Overrides for a layer with an ambiguous layout.
    """

    forward_func: Callable[..., Any]
    taps: list[taps.Tap]
    translator: Translator
    reading: Reading
    preprocess: Callable[[Image.Image], Tensor] | None = None

    @property
    def several(self) -> bool:
        """True if more than one layer is read."""
        return len(self.taps) > 1

    @overload
    def describe(  # type: ignore[overload-overlap]
        self: LayerReader[OneLayer],
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Literal["all"],
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[DescriptionGrid]: ...
    @overload
    def describe(  # type: ignore[overload-overlap]
        self: LayerReader[OneLayer],
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: tuple[int, int] | Tensor | None = None,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]: ...
    @overload
    def describe(
        self,
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Literal["all"],
        joint: Literal[True],
        internal_batch_size: int | None = None,
    ) -> list[DescriptionGrid]: ...
    @overload
    def describe(
        self,
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: tuple[int, int] | Tensor | None = None,
        joint: Literal[True],
        internal_batch_size: int | None = None,
    ) -> list[Description]: ...
    @overload
    def describe(
        self,
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Literal["all"],
        joint: Literal[False] = False,
        internal_batch_size: int | None = None,
    ) -> list[list[DescriptionGrid]]: ...
    @overload
    def describe(
        self,
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: tuple[int, int] | Tensor | None = None,
        joint: Literal[False] = False,
        internal_batch_size: int | None = None,
    ) -> list[list[Description]]: ...
    @torch.no_grad()
    def describe(
        self,
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Where = None,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Describe in words what each layer represents of every image, or of its locations.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors; with a backbone's preprocessing also PIL images and
                files.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            where: None = the whole image; (row, column) = one location of the layer's grid; "all" = every
                location; a mask (H, W) or (N, H, W) = the mean weighted by it.
            joint: Read all layers together, as DeViL trains: one result instead of one per layer.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            One `Description` per image, or one `DescriptionGrid` per image for ``where="all"``; of several
            layers a list of these, one per layer (unless `joint`).

        Raises:
            ValueError: If an input is invalid, the layer has no grid, `where` lies outside it, or the
                translator reads all tokens of an image at once and `where` is not None.

        Example:
            >>> from torchnle import LanguageAttribution
            >>> words = LanguageAttribution(model, "layer", translator).describe(images, where=(0, 3))
            >>> len(words), words[0].location
            (2, (0, 3))
        """
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        return self._describe(features, where, joint, internal_batch_size)

    @overload
    def describe_features(  # type: ignore[overload-overlap]
        self: LayerReader[OneLayer],
        features: Sequence[Features],
        *,
        where: Literal["all"],
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[DescriptionGrid]: ...
    @overload
    def describe_features(  # type: ignore[overload-overlap]
        self: LayerReader[OneLayer],
        features: Sequence[Features],
        *,
        where: tuple[int, int] | Tensor | None = None,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]: ...
    @overload
    def describe_features(
        self,
        features: Sequence[Features],
        *,
        where: Literal["all"],
        joint: Literal[True],
        internal_batch_size: int | None = None,
    ) -> list[DescriptionGrid]: ...
    @overload
    def describe_features(
        self,
        features: Sequence[Features],
        *,
        where: tuple[int, int] | Tensor | None = None,
        joint: Literal[True],
        internal_batch_size: int | None = None,
    ) -> list[Description]: ...
    @overload
    def describe_features(
        self,
        features: Sequence[Features],
        *,
        where: Literal["all"],
        joint: Literal[False] = False,
        internal_batch_size: int | None = None,
    ) -> list[list[DescriptionGrid]]: ...
    @overload
    def describe_features(
        self,
        features: Sequence[Features],
        *,
        where: tuple[int, int] | Tensor | None = None,
        joint: Literal[False] = False,
        internal_batch_size: int | None = None,
    ) -> list[list[Description]]: ...
    @own_defaults
    @torch.no_grad()
    def describe_features(
        self,
        features: Sequence[Features],
        *,
        where: Where = None,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Describe features from `read`, so that one forward serves the whole image and its locations.

        Args:
            features: The features of every layer, from `read`.
            where: As `describe`.
            joint: As `describe`.
            internal_batch_size: As `describe`.

        Returns:
            As `describe`.

        Raises:
            ValueError: As `describe`.

        Example:
            >>> from torchnle import LanguageAttribution
            >>> lang = LanguageAttribution(model, "layer", translator)
            >>> lang.describe_features(lang.read(images), where=(0, 1)) == lang.describe(images, where=(0, 1))
            True
        """
        return self._describe(list(features), where, joint, internal_batch_size)

    def _describe(
        self, features: list[Features], where: Where, joint: bool, internal_batch_size: int | None
    ) -> list[Any]:
        chosen, rows = self._select(features, where, joint)
        words = self.translator.describe(rows, internal_batch_size=internal_batch_size)
        return self._answer(words, chosen, joint)

    def read(
        self, inputs: Pictures, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> list[Features]:
        """Read the features of every layer in one forward; no hooks are left on the model.

        Args:
            inputs: As `describe`.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.

        Returns:
            One `Features` per layer, in order.

        Raises:
            ValueError: If an input is invalid, a feature is NaN or infinite, or `attribute_to_layer_input`
                is True for layers that are read through a lens.

        Example:
            >>> from torchnle import LanguageAttribution
            >>> LanguageAttribution(model, "layer", translator).read(images)[0].tokens.shape
            torch.Size([2, 16, 6])
        """
        if attribute_to_layer_input and self.reading.layers:
            raise ValueError(
                "attribute_to_layer_input=True reads another side of layers than the lens was built for. "
                'Name the side with the layer: layers=["blocks.3:input"].'
            )
        given = self._inputs(inputs)
        layers = [replace(tap, at="input") for tap in self.taps] if attribute_to_layer_input else self.taps
        return read(self.forward_func, layers, given, additional_forward_args, self.reading)

    def _inputs(self, inputs: Pictures) -> Inputs:
        """Turn pictures into a batch as the model's weights are; tensors are passed on as they are."""
        if isinstance(inputs, Tensor):
            return inputs
        if isinstance(inputs, tuple) and all(isinstance(part, Tensor) for part in inputs):
            return inputs
        models: list[Any] = [self.forward_func, *(tap.module for tap in self.taps)]
        return like_weights(as_batch(inputs, self.preprocess), *models)

    def _attach(self, layers: taps.LayerChoice, translator: Translator, reading: Reading | None) -> None:
        self.taps = taps.resolve(self.forward_func, layers)
        self.translator = translator
        self.reading = reading or Reading()
        warn_of_other_layers(self.taps, translator, self.reading)

    def _select(
        self, features: list[Features], where: Where, joint: bool
    ) -> tuple[list[Features], list[Rows]]:
        """Select locations: their features, one per layer, and the rows of these for the translator."""
        return select_rows(self.translator, features, where, self.reading, joint=joint)

    def _answer(self, words: Sequence[Description], features: Sequence[Features], joint: bool) -> list[Any]:
        """Assign descriptions to their locations; a list per layer if there are several answers."""
        placed = assign_locations(words, features, self.translator.score_kind, joint=joint)
        return list(placed) if len(placed) > 1 else list(placed[0])


def select_rows(
    translator: Translator,
    features: Sequence[Features],
    where: Where,
    reading: Reading,
    *,
    joint: bool = False,
) -> tuple[list[Features], list[Rows]]:
    """Select locations: their features, one per layer, and the rows of these for a translator.

    Args:
        translator: The translator, which may read all tokens of an image at once.
        features: The features of every layer.
        where: As `LayerReader.describe`.
        reading: How each layer is pooled.
        joint: Whether all layers form one group of rows.

    Raises:
        ValueError: If locations are selected for a translator that reads all tokens at once.
    """
    count = translator.tokens_per_row
    check_whole(where, count)
    if count > 1:
        return [f.select(None) for f in features], rows_of(features, joint=joint, tokens_per_row=count)
    chosen = (
        select_together(features, where, reading) if joint else [reading.pool(f, where) for f in features]
    )
    return chosen, rows_of(chosen, joint=joint)


def locations(
    features: Sequence[Features], *, joint: bool
) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
    """List the layer, image and location of every row, in the order of `rows_of`."""
    names = "+".join(each.layer for each in features)
    for each in features[:1] if joint else features:
        for image in range(each.batch_size):
            for location in each.locations:
                yield (names if joint else each.layer), image, location


def assign_locations(
    words: Sequence[Description], features: Sequence[Features], kind: ScoreKind, *, joint: bool
) -> list[LayerDescriptions]:
    """Fill in each row's layer, image and location, and group the descriptions by layer and image.

    Args:
        words: One description per row, in row order.
        features: The features that the rows were made from.
        kind: The kind of the descriptions' scores.
        joint: Whether the layers were read together.

    Returns:
        One list per layer; one in all with `joint`. For a layer with a grid, a `DescriptionGrid` per image.

    Raises:
        ValueError: If there is not one description per row.
    """
    spots = list(locations(features, joint=joint))
    if len(words) != len(spots):
        raise ValueError(f"the translator gave {len(words)} descriptions for {len(spots)} rows.")
    placed = iter(
        replace(word, score_kind=kind, layer=layer, image=image, location=location)
        for word, (layer, image, location) in zip(words, spots, strict=True)
    )
    return [_by_image(placed, each) for each in (features[:1] if joint else features)]


def _by_image(words: Iterator[Description], features: Features) -> LayerDescriptions:
    rows = [[next(words) for _ in features.locations] for _ in range(features.batch_size)]
    if features.grid is None:
        return [word for row in rows for word in row]
    grid = features.grid
    return [DescriptionGrid(row, grid) for row in rows]
