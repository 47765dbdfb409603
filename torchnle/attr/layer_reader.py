"""The shared part of the attribution classes: layers are read, and a translator is given their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.attr.inputs.pictures import Pictures, as_inputs
from torchnle.attr.inputs.texts import as_targets, as_texts
from torchnle.attr.located import assign_locations
from torchnle.attr.refinement import Refinement, score_variants
from torchnle.attr.top import Top, best_locations, best_texts
from torchnle.description import Description, DescriptionGrid
from torchnle.language.texts import check_texts
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows, rows_of
from torchnle.types import Inputs, Where
from torchnle.vision import taps
from torchnle.vision.defaults import own_defaults
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read, select_together
from torchnle.vision.running import device_of


class LayerReader:
    """Reads layers of a model and passes their rows to a translator.

    Several layers give a list of answers, one a layer; one layer, however it is spelled, gives its answer
    flat.

    Attributes:
        forward_func: The model.
        taps: What is read, one tap a layer.
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
    def describe(
        self,
        inputs: Pictures,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Literal["all"],
        joint: bool = False,
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
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]: ...
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
        """Put layers into words.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors; with a backbone's preprocessing also PIL images and
                files.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            where: None = the whole image; (row, column) = one location of the layer's grid; "all" = every
                location; a mask (H, W) or (N, H, W) = the mean weighted by it.
            joint: Read all layers together, as DeViL trains: one result instead of one a layer.
            internal_batch_size: The most rows (locations) the language model sees at once.

        Returns:
            One `Description` an image, or one `DescriptionGrid` an image for ``where="all"``; of several
            layers a list of these, one a layer (unless `joint`).
        """
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        return self.describe_features(
            features, where=where, joint=joint, internal_batch_size=internal_batch_size
        )

    @own_defaults
    @torch.no_grad()
    def describe_features(
        self,
        features: Sequence[Features],
        *,
        where: Where = None,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Any]:
        """Describe features that `read` gave, so that one forward serves the whole image and its locations.

        Args:
            features: The features of every layer, from `read`.
            where: As `describe`.
            joint: As `describe`.
            internal_batch_size: As `describe`.

        Returns:
            As `describe`.

        Example:
            >>> from torchnle import LanguageAttribution
            >>> lang = LanguageAttribution(model, "layer", translator)
            >>> lang.describe_features(lang.read(images), where=(0, 1)) == lang.describe(images, where=(0, 1))
            True
        """
        chosen, rows = self._select(list(features), where, joint)
        words = self.translator.describe(rows, internal_batch_size=internal_batch_size)
        return self._answer(words, chosen, joint)

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
        joint: bool = False,
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
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top[Description]: ...
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
            where: As `describe`.
            joint: As `describe`.
            prior: Subtract each text's log-probability under the language model alone.
            internal_batch_size: The most rows (locations) the language model sees at once.

        Returns:
            `Top`, with descriptions as `describe` returns them: the best text, and k - 1 phrases.

        Raises:
            ValueError: If `k` is not positive, or on bad inputs or texts.

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
            internal_batch_size: The most rows (locations) the language model sees at once.

        Returns:
            `Top`, with one `Description` a location, best first.

        Raises:
            TypeError: If `text` is not one string.
            ValueError: If `k` is not positive, or on bad inputs or a blank text.

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

    def read(
        self, inputs: Pictures, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> list[Features]:
        """Read the features of every layer, in order; no hooks are left behind."""
        if attribute_to_layer_input and self.reading.layers:
            raise ValueError(
                "attribute_to_layer_input=True reads another side of layers than the lens was built for. "
                'Name the side with the layer: layers=["blocks.3:input"].'
            )
        given = self._inputs(inputs)
        layers = [replace(tap, at="input") for tap in self.taps] if attribute_to_layer_input else self.taps
        return read(self.forward_func, layers, given, additional_forward_args, self.reading)

    def _inputs(self, inputs: Pictures) -> Inputs:
        """Turn pictures into a batch on the model's device; tensors are passed on as they are."""
        return as_inputs(inputs, self.preprocess, device_of(self.taps[0].module))

    def _attach(self, layers: taps.LayerChoice, translator: Translator, reading: Reading | None) -> None:
        self.taps = taps.resolve(self.forward_func, layers)
        self.translator = translator
        self.reading = reading or Reading()

    def _target_maps(
        self,
        features: Sequence[Features],
        target: str | Sequence[str] | None,
        prior: bool,
        internal_batch_size: int | None,
    ) -> list[Float[Tensor, "N 1 h w"]]:
        """Score each image's own target at every location of each layer."""
        how = Refinement(prior=prior)
        return [self._target_map(each, target, how, internal_batch_size) for each in features]

    def _target_map(
        self,
        features: Features,
        target: str | Sequence[str] | None,
        how: Refinement,
        internal_batch_size: int | None,
    ) -> Float[Tensor, "N 1 h w"]:
        if target is None:
            _, whole = self._select([features], None, False)
            words = self.translator.describe(whole, internal_batch_size=internal_batch_size)
            target = [word.text for word in words]
        targets = as_targets(target, features.batch_size)
        local = self.reading.pool(features, "all")
        maps: dict[int, Tensor] = {}
        for text in dict.fromkeys(targets):
            images = [i for i, other in enumerate(targets) if other == text]
            some = local.images(images)
            scores = self._score_map(some, rows_of(some), [text], how, internal_batch_size)
            maps.update(zip(images, scores, strict=True))
        return torch.stack([maps[i] for i in range(len(targets))])

    def _score_maps(
        self,
        features: list[Features],
        texts: list[str],
        joint: bool,
        how: Refinement,
        internal_batch_size: int | None,
    ) -> list[Float[Tensor, "N T h w"]]:
        """Score texts at every location of each layer, or of all together."""
        chosen, rows = self._select(features, "all", joint)
        return [
            self._score_map(each, [group], texts, how, internal_batch_size)
            for each, group in zip(chosen, rows, strict=False)
        ]

    def _score_map(
        self,
        features: Features,
        rows: list[Rows],
        texts: list[str],
        how: Refinement,
        internal_batch_size: int | None,
    ) -> Float[Tensor, "N T h w"]:
        scores = score_variants(self.translator, rows, texts, how, internal_batch_size=internal_batch_size)
        return features.fold(scores).permute(0, 3, 1, 2)

    def _select(
        self, features: list[Features], where: Where, joint: bool
    ) -> tuple[list[Features], list[Rows]]:
        """Select locations: their features, one a layer, and the rows of these for the translator."""
        count = self.translator.tokens_per_row
        if count > 1:
            check_whole(where, count)
            return [f.select(None) for f in features], rows_of(features, joint=joint, tokens_per_row=count)
        if joint:
            chosen = select_together(features, where, self.reading)
        else:
            chosen = [self.reading.pool(f, where) for f in features]
        return chosen, rows_of(chosen, joint=joint)

    def _answer(self, words: Sequence[Description], features: Sequence[Features], joint: bool) -> list[Any]:
        """Assign descriptions to their locations; a list a layer if there are several answers."""
        placed = assign_locations(words, features, self.translator.score_kind, joint=joint)
        return list(placed) if len(placed) > 1 else list(placed[0])


def check_whole(where: Where, tokens_per_row: int) -> None:
    """Refuse locations for a translator that reads all tokens of an image at once."""
    if where is not None:
        raise ValueError(
            f"where={where!r}: this translator reads all {tokens_per_row} tokens of an image at once, so it "
            "can describe and score whole images only. Pass where=None."
        )
