"""LanguageAttribution: descriptions of a vision model's layers, and maps of texts on its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.attr.captum_base import WithoutFuture, logged
from torchnle.attr.construction.constructors import Constructors
from torchnle.attr.inputs.input_maps import check_images, enlarge, enlarge_to_inputs
from torchnle.attr.inputs.pictures import Pictures
from torchnle.attr.layer_reader import Chosen, OneLayer
from torchnle.attr.mixins.explain import Explains
from torchnle.attr.mixins.report import Reports
from torchnle.attr.mixins.words import DominantWords
from torchnle.attr.score_maps import Normalize, Refinement, ScoreMaps
from torchnle.attr.text_score import TextScore
from torchnle.attr.top import Rankings
from torchnle.language.texts import as_texts
from torchnle.public_calls import checks_arguments
from torchnle.types import Inputs, Where
from torchnle.vision.inputs import spatial_size


@checks_arguments
class LanguageAttribution(
    WithoutFuture,
    Constructors[Chosen],
    Rankings[Chosen],
    Reports[Chosen],
    ScoreMaps[Chosen],
    DominantWords[Chosen],
    Explains[Chosen],
):
    """Describe what layers of a vision model see, and attribute a text to the input.

    The main class of the library. It attaches to any `nn.Module` through hooks that exist only during a call,
    and obeys Captum's contract: attributions have the shape of the inputs, tuples give tuples, lists of
    layers give lists.

    Args:
        forward_func: The model, unmodified; or any callable if the layers are given as modules.
        layers: A module, a dotted name, a glob, a `Tap`, or a list of these.
        translator: Turns features into words and scores words on features; None = the model is a classifier
            and is explained by its own class names, as `from_classifier` does.
        class_names: Without a translator: the classes' names, or that of a known list ("imagenet-1k"); None =
            those that the model states.
        example: Without a translator: a few inputs for the dry run that finds the classifier's head.
        encoder: Without a translator: the sentence encoder, or its reference; None = the embedded default.
        reading: Overrides for a layer with an ambiguous layout.

    Attributes:
        summary: Sentences on the choices of `from_classifier` or `from_clip` and their checks, else "".

    Raises:
        ValueError: If a layer is not found, and the message names the nearest ones; or if there is no
            translator and the model's classes have no names.

    Example:
        >>> lang = LanguageAttribution(model, "layer", translator)
        >>> text = lang.describe(images)[0].text
        >>> lang.attribute(images, target=text).shape == images.shape
        True
    """

    def text_score(
        self, texts: str | Sequence[str], *, where: Where = None, prior: bool = False
    ) -> TextScore:
        """Build the score of texts as a module that any Captum method explains, with this object's layers.

        Args:
            texts: T texts; their order numbers the targets.
            where: As `describe`, except "all".
            prior: Subtract each text's log-probability under the language model alone.

        Returns:
            A module from inputs to scores (N, T).

        Example:
            >>> score = LanguageAttribution(model, "layer", translator).text_score(["a cat", "a dog"])
            >>> score(images).shape
            torch.Size([2, 2])
        """
        return TextScore(
            self.forward_func,
            self.taps,
            self.translator,
            texts,
            where=where,
            prior=prior,
            reading=self.reading,
        )

    @overload
    def attribute(  # type: ignore[overload-overlap]
        self: LanguageAttribution[OneLayer],
        inputs: Pictures,
        target: str | Sequence[str] | None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        prior: bool = False,
        interpolate_mode: str = "bicubic",
        internal_batch_size: int | None = None,
    ) -> Inputs: ...
    @overload
    def attribute(
        self,
        inputs: Pictures,
        target: str | Sequence[str] | None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        prior: bool = False,
        interpolate_mode: str = "bicubic",
        internal_batch_size: int | None = None,
    ) -> list[Inputs]: ...
    @logged
    @torch.no_grad()
    def attribute(
        self,
        inputs: Pictures,
        target: str | Sequence[str] | None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        prior: bool = False,
        interpolate_mode: str = "bicubic",
        internal_batch_size: int | None = None,
    ) -> Inputs | list[Inputs]:
        """Score a text at every location and enlarge the map to the input.

        Args:
            inputs: (N, C, H, W), or a tuple of such tensors.
            target: A text; or a list of one text per image; or None = the layer's own description of each
                image (as Captum's LLMAttribution generates its target).
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            prior: Subtract the text's log-probability under the language model alone.
            interpolate_mode: How `LayerAttribution.interpolate` enlarges the map. Bicubic peaks may fall
                between locations, bilinear ones only on their centres, which is less often on the object.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            The shape of `inputs`, the map repeated over channels; raw scores. A tuple for a tuple, a list
            for several layers.

        Raises:
            TypeError: If the target is a number; see `TextScore`.
            ValueError: If an input is not (N, C, H, W), or the layer has no grid.

        Example:
            >>> lang = LanguageAttribution(model, "layer", translator)
            >>> lang.attribute(images, target=["a cat", "a dog"]).shape
            torch.Size([2, 3, 8, 8])
        """
        given = self._inputs(inputs)
        check_images(given)
        features = self.read(given, additional_forward_args, attribute_to_layer_input)
        maps = self._target_maps(features, target, prior, internal_batch_size)
        laid = [enlarge_to_inputs(given, each, interpolate_mode) for each in maps]
        return laid if self.several else laid[0]

    @overload
    def saliency(  # type: ignore[overload-overlap]
        self: LanguageAttribution[OneLayer],
        inputs: Pictures,
        texts: str | Sequence[str],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: bool = False,
        prior: bool = False,
        normalize: Normalize = None,
        contrast: Sequence[str] | None = None,
        interpolate_mode: str | None = "bicubic",
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "N T H W"]: ...
    @overload
    def saliency(
        self,
        inputs: Pictures,
        texts: str | Sequence[str],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: Literal[True],
        prior: bool = False,
        normalize: Normalize = None,
        contrast: Sequence[str] | None = None,
        interpolate_mode: str | None = "bicubic",
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "N T H W"]: ...
    @overload
    def saliency(
        self,
        inputs: Pictures,
        texts: str | Sequence[str],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: Literal[False] = False,
        prior: bool = False,
        normalize: Normalize = None,
        contrast: Sequence[str] | None = None,
        interpolate_mode: str | None = "bicubic",
        internal_batch_size: int | None = None,
    ) -> list[Float[Tensor, "N T H W"]]: ...
    @torch.no_grad()
    def saliency(
        self,
        inputs: Pictures,
        texts: str | Sequence[str],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: bool = False,
        prior: bool = False,
        normalize: Normalize = None,
        contrast: Sequence[str] | None = None,
        interpolate_mode: str | None = "bicubic",
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "N T H W"] | list[Float[Tensor, "N T H W"]]:
        """Score many texts at every location in one pass, at the input's resolution.

        Args:
            inputs: (N, C, H, W), or a tuple whose first tensor is.
            texts: T texts; a single string is one text.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            joint: Read all layers together on the finest grid (DeViL, section 3.2): one result.
            prior: Subtract each text's log-probability under the language model alone.
            normalize: "length" = divide log-probabilities by the number of the text's tokens.
            contrast: Other texts: at every location, the logarithm of the softmax over the text and these.
            interpolate_mode: How `LayerAttribution.interpolate` enlarges the maps; None = the layer's own
                grid.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            (N, T, H, W) raw scores (`Translator.score`); a list of these for several layers.

        Raises:
            TypeError: If a text is not a string.
            ValueError: If an input is not (N, C, H, W), the layer has no grid, a text is blank, or the
                translator's scores do not support a variant.

        Example:
            >>> lang = LanguageAttribution(model, "layer", translator)
            >>> lang.saliency(images, ["a cat", "a dog", "sky"]).shape
            torch.Size([2, 3, 8, 8])
        """
        given = self._inputs(inputs)
        size = None if interpolate_mode is None else spatial_size(check_images(given))
        how, listed = Refinement(prior, normalize, contrast), as_texts(texts)
        features = self.read(given, additional_forward_args, attribute_to_layer_input)
        maps = self._score_maps(features, listed, joint, how, internal_batch_size)
        if interpolate_mode is not None:
            maps = [enlarge(each, size, interpolate_mode) for each in maps]
        return maps if len(maps) > 1 else maps[0]
