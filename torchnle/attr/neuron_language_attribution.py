"""NeuronLanguageAttribution: describe a unit by the features to which it responds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from torchnle.attr.captum_base import NeuronAttribution, WithoutFuture, logged
from torchnle.attr.inputs.input_maps import check_images, enlarge_to_inputs
from torchnle.description import Description
from torchnle.public_calls import checks_arguments
from torchnle.translators.base import Translator
from torchnle.translators.rows import check_whole, rows_of
from torchnle.types import Inputs, Layer
from torchnle.vision import taps
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read

#: A unit: a channel, or a function from the layer's features (N, L, D) to activations (N, L).
NeuronSelector = int | Callable[[Tensor], Tensor]


@checks_arguments
class NeuronLanguageAttribution(WithoutFuture, NeuronAttribution):
    """Describe a unit by the features found where it responds, over a set of images.

    The unit's positive activations, as fractions of their sum, weight the layer's local features in each
    image; the images' vectors are averaged and translated (the masked pooling by which DeViL, section 4.2,
    describes units on MILAN's data; images without positive activation are left out).

    Args:
        forward_func: The model, or any callable if the layer is given as a module.
        layer: The layer whose unit is described: a module, a dotted name or a `Tap`.
        translator: Turns features into words.
        device_ids: Accepted for compatibility with Captum; unused, since only one device is read.
        reading: Overrides for a layer with an ambiguous layout.

    Example:
        >>> unit = NeuronLanguageAttribution(model, "layer", translator)
        >>> unit.attribute(images, neuron_selector=1).shape == images.shape
        True
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: Layer | taps.Tap,
        translator: Translator,
        device_ids: list[int] | None = None,
        *,
        reading: Reading | None = None,
    ) -> None:
        (self.tap,) = taps.resolve(forward_func, layer)
        super().__init__(forward_func, self.tap.module, device_ids)
        self.translator = translator
        self.reading = reading

    @logged
    @torch.no_grad()
    def attribute(
        self,
        inputs: Inputs,
        neuron_selector: NeuronSelector,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        *,
        interpolate_mode: str = "bicubic",
    ) -> Inputs:
        """Compute the unit's activation at every location, enlarged to the input.

        Args:
            inputs: (N, C, H, W), or a tuple of such tensors.
            neuron_selector: A channel's index, or a function from features (N, L, D) to activations (N, L).
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_neuron_input: Read what enters the layer, not what leaves it.
            interpolate_mode: How `LayerAttribution.interpolate` enlarges the map.

        Returns:
            The shape of `inputs`, the map repeated over channels; raw activations.

        Raises:
            ValueError: If the layer has no such unit or no grid.

        Example:
            >>> unit = NeuronLanguageAttribution(model, "layer", translator)
            >>> unit.attribute(images, neuron_selector=1).shape
            torch.Size([2, 3, 8, 8])
        """
        check_images(inputs)
        features = self._read(inputs, additional_forward_args, attribute_to_neuron_input)
        activation = features.fold(unit_activation(features, neuron_selector))
        return enlarge_to_inputs(inputs, activation.unsqueeze(1).float(), interpolate_mode)

    @torch.no_grad()
    def describe(
        self,
        inputs: Inputs,
        neuron_selector: NeuronSelector,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        *,
        internal_batch_size: int | None = None,
    ) -> Description:
        """Describe the unit by one text, from all images together.

        Args:
            inputs: As `attribute`.
            neuron_selector: As `attribute`.
            additional_forward_args: As `attribute`.
            attribute_to_neuron_input: As `attribute`.
            internal_batch_size: The largest number of rows the language model sees at once.

        Raises:
            ValueError: If the unit is positive on no image, or the layer has no such unit.
        """
        check_whole("all", self.translator.tokens_per_row)
        features = self._read(inputs, additional_forward_args, attribute_to_neuron_input)
        weights = unit_activation(features, neuron_selector).clamp(min=0)
        totals = weights.sum(dim=1)
        active = totals > 0
        if not active.any():
            raise ValueError(
                f"unit {neuron_selector} of layer '{features.layer}' is silent on all {features.batch_size} "
                "images; pass images on which it responds."
            )
        share = weights[active] / totals[active, None]
        vector = torch.einsum("nl,nld->d", share, features.tokens[active]) / share.shape[0]
        pooled = Features(vector.view(1, 1, -1), features.layer)
        (word,) = self.translator.describe(rows_of(pooled), internal_batch_size=internal_batch_size)
        return replace(word, score_kind=self.translator.score_kind, layer=features.layer)

    def _read(self, inputs: Inputs, additional_forward_args: Any, at_input: bool) -> Features:
        tap = replace(self.tap, at="input") if at_input else self.tap
        return read(self.forward_func, [tap], inputs, additional_forward_args, self.reading)[0]


def unit_activation(features: Features, neuron_selector: NeuronSelector) -> Tensor:
    """Return the activation (N, L) of one unit at every location.

    Raises:
        ValueError: If the channel does not exist, or the function gave another shape.
    """
    if callable(neuron_selector):
        activation = neuron_selector(features.tokens)
        if not isinstance(activation, Tensor) or not bool(activation.isfinite().all()):
            gave = "NaN or infinite numbers" if isinstance(activation, Tensor) else repr(activation)
            raise ValueError(
                f"neuron_selector gave {gave}; pass a function from features (N, L, D) to finite activations "
                "(N, L)."
            )
    elif -features.width <= neuron_selector < features.width:
        activation = features.tokens[..., neuron_selector]
    else:
        raise ValueError(
            f"layer '{features.layer}' has {features.width} units; {neuron_selector} is not one."
        )
    if activation.shape != features.tokens.shape[:2]:
        raise ValueError(
            f"neuron_selector gave shape {tuple(activation.shape)}; one activation a location was expected: "
            f"{tuple(features.tokens.shape[:2])}."
        )
    return activation
