"""Words and text saliency for layers, at the layers' own resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.attr.refinement import Normalize, refined_scores
from torchnle.attr.synchronous import Synchronous
from torchnle.attr.texts import as_targets, as_texts
from torchnle.attr.top import Top, describe_places, describe_texts
from torchnle.description import Description, DescriptionGrid
from torchnle.language.texts import check_texts
from torchnle.translators.base import Translator
from torchnle.types import Inputs, Where
from torchnle.vision import taps
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read, select_together
from torchnle.vision.taps import LayerChoice

#: One `Description` or `DescriptionGrid` an image; which one, and whether there is a list a layer, depends
#: on the arguments, and a union would make every caller cast.
Descriptions: TypeAlias = list[Any]


class LayerLanguageAttribution(Synchronous, LayerAttribution):  # type: ignore[misc]
    """Describe layers in words, and map where a text fits what a layer sees.

    Attributions have the layer's own grid; `LanguageAttribution` lays them on the input.

    Args:
        forward_func: The model, or any callable if the layers are given as modules.
        layer: A module, a dotted name, a glob, a `Tap`, or a list of these. A list or glob gives a list of
            results, one a layer, as Captum does.
        translator: Turns features into words and scores words on features.
        device_ids: For Captum's sake; unused, since only one device is read.
        reading: How to read a layer whose layout is ambiguous.

    Raises:
        ValueError: If a layer is not found; the message names the nearest ones.

    Example:
        >>> lang = LayerLanguageAttribution(model, "layer", translator)
        >>> lang.attribute(images, target="a cat").shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerChoice,
        translator: Translator,
        device_ids: list[int] | None = None,
        *,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(forward_func, layer, device_ids)
        self.translator = translator
        self.reading = reading or Reading()

    @property
    def layer(self) -> nn.Module | list[nn.Module]:
        """The module or modules read; assign a layer in any form that the constructor takes."""
        modules = [tap.module for tap in self.taps]
        return modules if self.several else modules[0]

    @layer.setter
    def layer(self, layer: LayerChoice) -> None:
        self.taps = taps.resolve(self.forward_func, layer)
        self.several = is_several(layer)

    @log_usage()  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def attribute(
        self,
        inputs: Inputs,
        target: str | Sequence[str] | None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Tensor | list[Tensor]:
        """Score a text at every location of the layer.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors.
            target: A text; or a list of one text an image; or None = the layer's own description of each
                image (as Captum's LLMAttribution generates its target).
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            prior: Subtract the text's log-probability under the language model alone.
            internal_batch_size: The most rows (places) the language model sees at once.

        Returns:
            (N, 1, rows, columns) raw scores in float32; a list of these for a list of layers.

        Raises:
            TypeError: If the target is a number; see `TextScore`.
            ValueError: If the layer has no grid, or on bad inputs or texts.
        """
        options = {"prior": prior, "internal_batch_size": internal_batch_size}
        maps = [
            self._target_map(features, target, **options)
            for features in self.read(inputs, additional_forward_args, attribute_to_layer_input)
        ]
        return maps if self.several else maps[0]

    @torch.no_grad()
    def saliency(
        self,
        inputs: Inputs,
        texts: str | Sequence[str],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: bool = False,
        prior: bool = False,
        normalize: Normalize = None,
        contrast: Sequence[str] | None = None,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "N T h w"] | list[Float[Tensor, "N T h w"]]:
        """Score many texts at every location in one pass.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors.
            texts: T texts; a single string is one text.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            joint: Read all layers together on the finest grid (DeViL, section 3.2): one result.
            prior: Subtract each text's log-probability under the language model alone.
            normalize: "length" = divide log-probabilities by the number of the text's tokens.
            contrast: Other texts: at every place, the logarithm of the softmax over the text and these.
            internal_batch_size: The most rows (places) the language model sees at once.

        Returns:
            (N, T, rows, columns) raw scores; a list of these for a list of layers.

        Raises:
            ValueError: If the layer has no grid, on bad inputs or texts, or if a variant is asked for that
                the translator's scores do not have.
        """
        listed = as_texts(texts)
        options: dict[str, Any] = {
            "prior": prior,
            "normalize": normalize,
            "contrast": contrast,
            "internal_batch_size": internal_batch_size,
        }
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        if joint:
            return self._maps(select_together(features, "all", self.reading), listed, joint=True, **options)
        maps = [self._maps([self.reading.pool(f, "all")], listed, **options) for f in features]
        return maps if self.several else maps[0]

    @torch.no_grad()
    def describe(
        self,
        inputs: Inputs,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Where = None,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> Descriptions:
        """Put layers into words.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            where: None = the whole image; (row, column) = one place of the layer's grid; "all" = every
                place; a mask (H, W) or (N, H, W) = the mean weighted by it.
            joint: Read all layers together, as DeViL trains: one result instead of one a layer.
            internal_batch_size: The most rows (places) the language model sees at once.

        Returns:
            One `Description` an image, or one `DescriptionGrid` an image for ``where="all"``; a list of
            these, one a layer, for a list of layers (unless `joint`).
        """
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        chosen = self._select(features, where, joint)
        words = self.translator.describe(chosen, joint=joint, internal_batch_size=internal_batch_size)
        return self._parted(words, chosen, joint)

    @torch.no_grad()
    def top_texts(
        self,
        inputs: Inputs,
        texts: Sequence[str],
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        where: Where = "all",
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top:
        """Find the texts of highest score at every place: the answer of `saliency`, without scoring all.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors.
            texts: The texts to choose from.
            k: How many to find.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            where: As `describe`.
            joint: As `describe`.
            prior: Subtract each text's log-probability under the language model alone.
            internal_batch_size: The most rows (places) the language model sees at once.

        Returns:
            `Top`, with descriptions as `describe` returns them: the best text, and k - 1 phrases.

        Raises:
            ValueError: If `k` is not positive, or on bad inputs or texts.

        Example:
            >>> top = LayerLanguageAttribution(model, "layer", translator).top_texts(images, ["a cat", "sky"])
            >>> len(top.found), top.found[0].grid, len(top.found[0][0, 0].phrases)
            (2, (4, 4), 1)
        """
        listed = as_texts(texts)
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        chosen = self._select(features, where, joint)
        ranking = self.translator.top_texts(
            chosen, listed, k, joint=joint, prior=prior, internal_batch_size=internal_batch_size
        )
        words = describe_texts(ranking, listed, chosen, self.translator.score_kind, joint=joint)
        parted = self._parted(words, chosen, joint)
        return Top(parted, ranking.extensions, ranking.exhaustive)

    @torch.no_grad()
    def top_locations(
        self,
        inputs: Inputs,
        text: str,
        k: int = 5,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Top:
        """Find the places of highest score for a text, over all images and layers together.

        Args:
            inputs: (N, C, H, W), or a tuple of tensors.
            text: The text.
            k: How many places to find.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            joint: As `describe`.
            prior: Subtract the text's log-probability under the language model alone.
            internal_batch_size: The most rows (places) the language model sees at once.

        Returns:
            `Top`, with one `Description` a place, best first.

        Raises:
            TypeError: If `text` is not one string.
            ValueError: If `k` is not positive, or on bad inputs or a blank text.

        Example:
            >>> top = LayerLanguageAttribution(model, "layer", translator).top_locations(images, "sky", k=3)
            >>> [place.location for place in top.found] == [None] * 3
            False
        """
        (checked,) = check_texts([text])
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        chosen = self._select(features, "all", joint)
        ranking = self.translator.top_rows(
            chosen, checked, k, joint=joint, prior=prior, internal_batch_size=internal_batch_size
        )
        places = describe_places(ranking, checked, chosen, self.translator.score_kind, joint=joint)
        return Top(places, ranking.extensions, ranking.exhaustive)

    def read(
        self, inputs: Inputs, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> list[Features]:
        """The features of every layer, in order, without hooks left behind."""
        layers = [replace(tap, at="input") for tap in self.taps] if attribute_to_layer_input else self.taps
        return read(self.forward_func, layers, inputs, additional_forward_args, self.reading)

    def _target_map(
        self, features: Features, target: str | Sequence[str] | None, **options: Any
    ) -> Float[Tensor, "N 1 h w"]:
        if target is None:
            whole = self.reading.pool(features, None)
            words = self.translator.describe(whole, internal_batch_size=options["internal_batch_size"])
            target = [word.text for word in words]
        targets = as_targets(target, features.batch_size)
        places = self.reading.pool(features, "all")
        maps: dict[int, Tensor] = {}
        for text in dict.fromkeys(targets):
            images = [i for i, other in enumerate(targets) if other == text]
            scores = self._maps([places.images(images)], [text], **options)
            maps.update(zip(images, scores, strict=True))
        return torch.stack([maps[i] for i in range(len(targets))])

    def _select(self, features: list[Features], where: Where, joint: bool) -> list[Features]:
        if joint:
            return select_together(features, where, self.reading)
        return [self.reading.pool(f, where) for f in features]

    def _parted(
        self, words: Sequence[Description], features: Sequence[Features], joint: bool
    ) -> Descriptions:
        if joint:
            return by_image(words, features[0])
        parted = [by_image(part, f) for part, f in zip(by_layer(words, features), features, strict=True)]
        return parted if self.several else parted[0]

    def _maps(
        self, features: Sequence[Features], texts: list[str], *, joint: bool = False, **options: Any
    ) -> Float[Tensor, "N T h w"]:
        scores = refined_scores(self.translator, features, texts, joint=joint, **options)
        return features[0].fold(scores).permute(0, 3, 1, 2)


def is_several(layer: LayerChoice) -> bool:
    """Whether a layer argument asks for a list of results: a list, or a glob."""
    return isinstance(layer, (list, tuple)) or (isinstance(layer, str) and any(c in layer for c in "*?["))


def by_layer(words: Sequence[Description], features: Sequence[Features]) -> list[list[Description]]:
    """Part a translator's rows, which come layer by layer."""
    parts, start = [], 0
    for f in features:
        count = f.tokens.shape[0] * f.tokens.shape[1]
        parts.append(list(words[start : start + count]))
        start += count
    return parts


def by_image(words: Sequence[Description], features: Features) -> Descriptions:
    """Part the rows of one layer: a `Description` an image, or a `DescriptionGrid` where it has a grid."""
    if features.grid is None:
        return list(words)
    size = len(features.locations)
    return [DescriptionGrid(words[i : i + size], features.grid) for i in range(0, len(words), size)]
