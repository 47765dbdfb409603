"""Words and text saliency for layers, at the layers' own resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.attr.captum_base import LayerAttribution, WithoutFuture, logged
from torchnle.attr.layer_reader import Chosen, OneLayer
from torchnle.attr.score_maps import Normalize, Refinement, ScoreMaps
from torchnle.attr.top import Rankings
from torchnle.language.texts import as_texts
from torchnle.public_calls import checks_arguments
from torchnle.translators.base import Translator
from torchnle.types import Inputs
from torchnle.vision import taps
from torchnle.vision.reading import Reading
from torchnle.vision.taps import LayerChoice


@checks_arguments
class LayerLanguageAttribution(WithoutFuture, Rankings[Chosen], ScoreMaps[Chosen], LayerAttribution):
    """Describe layers in words, and map where a text fits what a layer sees.

    Attributions have the layer's own grid; `LanguageAttribution` enlarges them to the input.

    Args:
        forward_func: The model, or any callable if the layers are given as modules.
        layer: A module, a dotted name, a glob, a `Tap`, or a list of these. Several layers give a list of
            results, one per layer.
        translator: Turns features into words and scores words on features.
        device_ids: Accepted for compatibility with Captum; unused, since only one device is read.
        reading: Overrides for a layer with an ambiguous layout.

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
        layer: Chosen,
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

    @overload
    def attribute(  # type: ignore[overload-overlap]
        self: LayerLanguageAttribution[OneLayer],
        inputs: Inputs,
        target: str | Sequence[str] | None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Tensor: ...
    @overload
    def attribute(
        self,
        inputs: Inputs,
        target: str | Sequence[str] | None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Tensor]: ...
    @logged
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
            target: A text; or a list of one text per image; or None = the layer's own description of each
                image (as Captum's LLMAttribution generates its target).
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            prior: Subtract the text's log-probability under the language model alone.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            (N, 1, rows, columns) raw scores in float32; a list of these for a list of layers.

        Raises:
            TypeError: If the target is a number; see `TextScore`.
            ValueError: If the layer has no grid, or an input or text is invalid.

        Example:
            >>> LayerLanguageAttribution(model, "layer", translator).attribute(images, target="sky").shape
            torch.Size([2, 1, 4, 4])
        """
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        maps = self._target_maps(features, target, prior, internal_batch_size)
        return maps if self.several else maps[0]

    @overload
    def saliency(  # type: ignore[overload-overlap]
        self: LayerLanguageAttribution[OneLayer],
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
    ) -> Float[Tensor, "N T h w"]: ...
    @overload
    def saliency(
        self,
        inputs: Inputs,
        texts: str | Sequence[str],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: Literal[True],
        prior: bool = False,
        normalize: Normalize = None,
        contrast: Sequence[str] | None = None,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "N T h w"]: ...
    @overload
    def saliency(
        self,
        inputs: Inputs,
        texts: str | Sequence[str],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        joint: Literal[False] = False,
        prior: bool = False,
        normalize: Normalize = None,
        contrast: Sequence[str] | None = None,
        internal_batch_size: int | None = None,
    ) -> list[Float[Tensor, "N T h w"]]: ...
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
            contrast: Other texts: at every location, the logarithm of the softmax over the text and these.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            (N, T, rows, columns) raw scores; a list of these for a list of layers.

        Raises:
            ValueError: If the layer has no grid, an input or text is invalid, or the translator's scores do
                not support a variant.

        Example:
            >>> lang = LayerLanguageAttribution(model, "layer", translator)
            >>> lang.saliency(images, ["a cat", "a dog", "sky"]).shape
            torch.Size([2, 3, 4, 4])
        """
        how = Refinement(prior, normalize, contrast)
        listed = as_texts(texts)
        features = self.read(inputs, additional_forward_args, attribute_to_layer_input)
        maps = self._score_maps(features, listed, joint, how, internal_batch_size)
        return maps if len(maps) > 1 else maps[0]
