"""LanguageAttribution: what a vision model sees, in words, laid on its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from captum.attr import Attribution
from captum.log import log_usage
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self

from torchnle.attr.input_maps import check_images, enlarge, lay_on
from torchnle.attr.layer_language_attribution import Descriptions, LayerLanguageAttribution
from torchnle.attr.refinement import Normalize
from torchnle.attr.synchronous import Synchronous
from torchnle.attr.text_score import TextScore
from torchnle.attr.top import Top
from torchnle.inputs import spatial_size
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.clip import read_clip
from torchnle.methods.zero_shot import fit_zero_shot
from torchnle.reading import Reading
from torchnle.taps import LayerChoice
from torchnle.translators.base import Translator
from torchnle.translators.classifier_head import example_for
from torchnle.translators.readout import Readout
from torchnle.types import Inputs, Where

if TYPE_CHECKING:
    from torchnle.methods.aligned import Aligned


class LanguageAttribution(Synchronous, Attribution):  # type: ignore[misc]
    """Describe what layers of a vision model see, and attribute a text to the input.

    The door of the library. It attaches to any `nn.Module` through hooks that live only inside a call, and
    obeys Captum's contract: attributions have the shape of the inputs, tuples give tuples, lists of layers
    give lists.

    Args:
        forward_func: The model, unmodified; or any callable if the layers are given as modules.
        layers: A module, a dotted name, a glob, a `Tap`, or a list of these.
        translator: Turns features into words and scores words on features.
        reading: How to read a layer whose layout is ambiguous.

    Attributes:
        summary: Sentences on what `from_classifier` or `from_clip` chose and how that was checked, else "".

    Raises:
        ValueError: If a layer is not found; the message names the nearest ones.

    Example:
        >>> lang = LanguageAttribution(model, "layer", translator)
        >>> text = lang.describe(images)[0].text
        >>> lang.attribute(images, target=text).shape == images.shape
        True
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: LayerChoice,
        translator: Translator,
        *,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(forward_func)
        self.by_layer = LayerLanguageAttribution(forward_func, layers, translator, reading=reading)
        self.summary = ""

    @classmethod
    def from_classifier(
        cls,
        model: nn.Module,
        class_names: Sequence[str],
        *,
        example: Tensor | None = None,
        text_encoder: TextEncoder | None = None,
        **options: Any,
    ) -> Self:
        """Explain a classifier from its own weights and class names, with no training data.

        The linear head and the features before pooling are found by one dry run, and verified by numbers
        (`summary` says what was chosen); the class-space translator is fitted to the head's weights.

        Args:
            model: The classifier, from torchvision, timm, transformers or your own.
            class_names: One a row of the head's weights, in order.
            example: A few inputs (N, C, H, W) for the dry run; None = noise of the size that the model's own
                configuration states, else 224 x 224.
            text_encoder: The sentence encoder; None = the embedded default.
            options: For `ClassSpaceTranslator.fit`: `method`, `bank`, `prompt`, ...

        Raises:
            ValueError: If no linear head gives the model's output, or the names do not fit its rows.
        """
        shown = example_for(model) if example is None else example
        fitted = fit_zero_shot(model, class_names, shown, text_encoder, **options)
        return cls._reading(model, fitted.head, fitted.translator)

    @classmethod
    def from_clip(
        cls,
        model: nn.Module,
        tokenizer: Any,
        *,
        example: Tensor | None = None,
        bank: Sequence[str] | None = None,
        reference: str = "",
    ) -> Self:
        """Explain a CLIP by its own text tower: no class names, no fit.

        For a whole image the score of a text is CLIP's own cosine. A place is scored as if the image looked
        like it everywhere (`torchnle.methods.clip.read_clip` says how, and how far to trust it).

        Args:
            model: A whole CLIP (or SigLIP, ...) of open_clip or transformers.
            tokenizer: Its tokenizer: `open_clip.get_tokenizer(...)`, or a tokenizer or processor of
                transformers.
            example: A few images (N, C, H, W) for the dry run; None = noise of the size the model states.
            bank: The phrases that `describe` chooses from; None = the shipped concept bank, encoded when it
                is first needed.
            reference: The CLIP's own reference ("open_clip:NAME@TAG", a Hub id, a folder), to save the
                translator by.

        Raises:
            TypeError: If the model is no whole CLIP.
            ValueError: If the layer that its image vector is made of is not found.
        """
        clip = read_clip(model, tokenizer, example, bank=bank, reference=reference)
        return cls._reading(clip.encode_image, clip.readout, clip.translator)

    @classmethod
    def _reading(cls, forward_func: Callable[..., Any], readout: Readout, translator: Translator) -> Self:
        attribution = cls(forward_func, readout.tap, translator, reading=readout.reading)
        attribution.summary = readout.summary
        return attribution

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        reference: str,
        layers: LayerChoice | None = None,
        *,
        reading: Reading | None = None,
    ) -> Self:
        """Attach a saved translator to the model that it was made for.

        Args:
            model: The vision model.
            reference: A shipped translator's name, a local folder, or a Hub id "org/name[@revision]".
            layers: The layers to read; None = those that the translator names.
            reading: How to read a layer whose layout is ambiguous.

        Raises:
            FileNotFoundError: If there is no such translator; the message lists where it was looked for.
            ValueError: If a layer is not in the model, or neither the caller nor the translator names one.

        Example:
            >>> name = "aligned-efficientnet-lite0-scenes"  # doctest: +SKIP
            >>> LanguageAttribution.from_pretrained(model, name).describe(images)  # doctest: +SKIP
        """
        translator: Translator = Translator.from_pretrained(reference)
        chosen = layers if layers is not None else list(translator.layers)
        if not chosen:
            raise ValueError(f"the translator '{reference}' names no layers; pass layers=[...].")
        return cls(model, chosen, translator, reading=reading)

    @classmethod
    def fit(cls, model: nn.Module, layers: LayerChoice | None = None, **source: Any) -> Self:
        """Give a model sentences in seconds: a closed-form map into text space, and the shared text decoder.

        Args:
            model: The vision model, unmodified.
            layers: The layers to read; not with class names alone, which are for what the head reads.
            source: ``captions=`` (batches of images and captions), ``class_names=`` (of a classifier; no
                image is needed), both, or ``images=`` with ``through=``, a `LanguageAttribution` of the same
                model that was fitted before; and the options of `fit_aligned`.

        Raises:
            ValueError: If none of these sources is given, or what it needs is missing.

        Example:
            >>> lang = LanguageAttribution.fit(model, class_names=names)  # doctest: +SKIP
            >>> lang.describe(images)[0].text  # doctest: +SKIP
            'a tabby cat'
        """
        from torchnle.methods.aligned import fit_aligned  # brings the language model's side

        if source.get("through") is not None:
            source["through"] = source["through"].aligned
        fitted = fit_aligned(model, layers, **source)
        attribution = cls(model, fitted.layers, fitted.translator, reading=fitted.reading)
        attribution.summary = fitted.summary
        return attribution

    @property
    def aligned(self) -> Aligned:
        """What was fitted, for a fit of further layers through it.

        Raises:
            TypeError: If the translator is no aligned one.
        """
        from torchnle.methods.aligned import as_aligned

        return as_aligned(self.translator, self.by_layer.taps, self.by_layer.reading, self.summary)

    def text_score(
        self, texts: str | Sequence[str], *, where: Where = None, prior: bool = False
    ) -> TextScore:
        """The score of texts as a module that any Captum method explains; it reads as this object does."""
        layer = self.by_layer
        return TextScore(
            self.forward_func,
            layer.taps if layer.several else layer.taps[0],
            self.translator,
            texts,
            where=where,
            prior=prior,
            reading=layer.reading,
        )

    @property
    def translator(self) -> Translator:
        """The translator that speaks."""
        return self.by_layer.translator

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
        interpolate_mode: str = "bicubic",
        internal_batch_size: int | None = None,
    ) -> Inputs | list[Inputs]:
        """Score a text at every place and lay the map on the input.

        Args:
            inputs: (N, C, H, W), or a tuple of such tensors.
            target: A text; or a list of one text an image; or None = the layer's own description of each
                image (as Captum's LLMAttribution generates its target).
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            prior: Subtract the text's log-probability under the language model alone.
            interpolate_mode: How `LayerAttribution.interpolate` enlarges the map. Bicubic peaks fall between
                places, bilinear ones on their centres only: less often on the thing.
            internal_batch_size: The most rows (places) the language model sees at once.

        Returns:
            The shape of `inputs`, the map repeated over channels; raw scores. A tuple for a tuple, a list
            for a list of layers.

        Raises:
            TypeError: If the target is a number; see `TextScore`.
            ValueError: If an input is not (N, C, H, W), or the layer has no grid.
        """
        check_images(inputs)
        maps = LayerLanguageAttribution.attribute.__wrapped__(
            self.by_layer,
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            prior=prior,
            internal_batch_size=internal_batch_size,
        )
        laid = [lay_on(inputs, m, interpolate_mode) for m in (maps if self.by_layer.several else [maps])]
        return laid if self.by_layer.several else laid[0]

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
        interpolate_mode: str = "bicubic",
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "N T H W"] | list[Float[Tensor, "N T H W"]]:
        """Score many texts at every place in one pass, at the input's resolution.

        Args:
            inputs: (N, C, H, W), or a tuple whose first tensor is.
            texts: T texts; a single string is one text.
            additional_forward_args: Passed to the model after the inputs.
            attribute_to_layer_input: Read what enters the layer, not what leaves it.
            joint: Read all layers together on the finest grid (DeViL, section 3.2): one result.
            prior: Subtract each text's log-probability under the language model alone.
            normalize: "length" = divide log-probabilities by the number of the text's tokens.
            contrast: Other texts: at every place, the logarithm of the softmax over the text and these.
            interpolate_mode: How `LayerAttribution.interpolate` enlarges the maps.
            internal_batch_size: The most rows (places) the language model sees at once.

        Returns:
            (N, T, H, W) raw scores on one scale (`Translator.score_places`); a list of these for a list of
            layers.
        """
        size = spatial_size(check_images(inputs))
        maps = self.by_layer.saliency(
            inputs,
            texts,
            additional_forward_args,
            attribute_to_layer_input,
            joint=joint,
            prior=prior,
            normalize=normalize,
            contrast=contrast,
            internal_batch_size=internal_batch_size,
        )
        if isinstance(maps, list):
            return [enlarge(m, size, interpolate_mode) for m in maps]
        return enlarge(maps, size, interpolate_mode)

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
        """Put layers into words; see `LayerLanguageAttribution.describe`.

        Returns:
            One `Description` an image, or one `DescriptionGrid` an image for ``where="all"``; a list of
            these, one a layer, for a list of layers (unless `joint`).
        """
        return self.by_layer.describe(
            inputs,
            additional_forward_args,
            attribute_to_layer_input,
            where=where,
            joint=joint,
            internal_batch_size=internal_batch_size,
        )

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
        """Find the texts of highest score at every place; see `LayerLanguageAttribution.top_texts`."""
        return self.by_layer.top_texts(
            inputs,
            texts,
            k,
            additional_forward_args,
            attribute_to_layer_input,
            where=where,
            joint=joint,
            prior=prior,
            internal_batch_size=internal_batch_size,
        )

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
        """Find the places of highest score for a text; see `LayerLanguageAttribution.top_locations`."""
        return self.by_layer.top_locations(
            inputs,
            text,
            k,
            additional_forward_args,
            attribute_to_layer_input,
            joint=joint,
            prior=prior,
            internal_batch_size=internal_batch_size,
        )
