"""Constructors of `LanguageAttribution` that make or load its translator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from torchnle.attr.captum_base import Attribution
from torchnle.attr.construction.classifier import Attached, LensKind, attach_classifier, check_read
from torchnle.attr.construction.frozen import as_decoder, as_encoder
from torchnle.attr.construction.saved_reading import attach, lens_tensors, plain_reading
from torchnle.attr.layer_reader import Chosen, LayerReader
from torchnle.backbones.backbone import Backbone
from torchnle.heads.class_names import as_class_names
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.clip.read import read_clip
from torchnle.public_calls import checked, own_defaults
from torchnle.translators.base import Translator
from torchnle.vision import taps
from torchnle.vision.reading import Reading

if TYPE_CHECKING:
    from torchnle.methods.aligned.decoder.text_decoder import TextDecoder


class Constructors(LayerReader[Chosen], Attribution):
    """Adds the constructors, `adapt` and saving to `LanguageAttribution` (mixin)."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: Chosen,
        translator: Translator | None = None,
        *,
        class_names: Iterable[object] | None = None,
        example: Tensor | None = None,
        encoder: TextEncoder | str | None = None,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(forward_func)
        self.summary = ""
        if translator is None:
            found = attach_classifier(
                forward_func, class_names, layers, example=example, encoder=encoder, reading=reading
            )
            translator, reading, self.summary = found.translator, found.reading, found.summary
            self._attach(found.layers, translator, reading)
            return
        unused = {"class_names": class_names, "example": example, "encoder": encoder}
        if given := [name for name, value in unused.items() if value is not None]:
            raise ValueError(
                f"translator was given, and {', '.join(given)} to fit one by; pass one of the two."
            )
        self._attach(layers, translator, reading)

    @classmethod
    @checked
    def from_classifier(
        cls,
        model: nn.Module | Backbone,
        class_names: Iterable[object] | None = None,
        layers: Chosen | None = None,
        *,
        example: Tensor | None = None,
        images: Iterable[Tensor] | None = None,
        encoder: TextEncoder | str | None = None,
        vocabulary: Sequence[str] | None = None,
        decoder: TextDecoder | str | None = None,
        regression: Literal["ridge", "mlp"] = "ridge",
        reading: Reading | None = None,
        lens: LensKind = "model",
    ) -> Self:
        """Explain a classifier from its own weights and class names, with no training data.

        The linear head and the features before pooling are found by one dry run and checked by numbers (see
        `summary`); the map from text into features is fitted to the head's weights. Other layers are read
        through the model's own upper part (`torchnle.vision.lens.Lens`), as if they were the head's. A
        location costs one forward of that part, and a whole image as many as the layer has locations.

        Args:
            model: The classifier, from torchvision, timm, transformers or your own; as a `Backbone`, so that
                what comes back takes PIL images and files, too.
            class_names: One per row of the head's weights, a mapping, or the name of a known list such as
                "imagenet-1k" (`as_class_names`); None = the backbone's, or those that the model states
                (`stated_names`).
            layers: The layers to read; None = the one that the head reads.
            example: A few inputs (N, C, H, W) for the dry run; None = noise of the size that the model's own
                configuration states, else 224 x 224.
            images: Unlabelled pictures of the kind that will be read, batch by batch, for their statistics
                (see `adapt`); None = the statistics of the model's batch normalisations.
            encoder: The sentence encoder, or its reference; None = the embedded default.
            vocabulary: Phrases for `describe` besides the class names; None = those of the shipped concept
                bank that are near to them.
            decoder: A text decoder (or its reference) that describes whole pictures in sentences; None =
                phrases alone.
            regression: "ridge" = kernel ridge regression, in closed form; "mlp" = the network of Zero-shot
                NLE (section 3.1), trained.
            reading: Overrides for a layer below the head's with an ambiguous layout.
            lens: How layers below the head's are read: "model" = by the model's own upper part; "fitted" = by
                a linear map fitted to it on `images`, which costs one product per location and is less exact.

        Raises:
            ValueError: If no linear head gives the model's output, the names do not fit its rows, there are
                none, or a part of the head's input bypasses one of the layers.

        Example:
            >>> lang = LanguageAttribution.from_classifier(model, names)  # doctest: +SKIP
            >>> print(lang.describe(images)[0])  # doctest: +SKIP
            _avg_pooling:input: a tabby cat (87%)  [projection 4.14]
        """
        backbone, model = _parts(model)
        if backbone is not None:
            class_names = backbone.class_names or None if class_names is None else class_names
            example = backbone.example() if example is None else example
        found = attach_classifier(
            model,
            class_names,
            layers,
            example=example,
            images=images,
            encoder=encoder,
            vocabulary=vocabulary,
            decoder=decoder,
            regression=regression,
            reading=reading,
            lens=lens,
        )
        return cls._attached(found, backbone)

    @classmethod
    def _attached(cls, found: Attached, backbone: Backbone | None = None) -> Self:
        read: Any = list(found.layers)
        attribution = cls(found.forward_func, read, found.translator, reading=found.reading)
        attribution.summary = found.summary
        attribution.preprocess = None if backbone is None else backbone.preprocess
        return attribution

    @classmethod
    @checked
    def from_captions(
        cls,
        model: nn.Module | Backbone,
        layers: Chosen,  # type: ignore[misc]  # covariant: allowed in a constructor, such as this is
        captions: Iterable[tuple[Tensor, Sequence[str]]],
        *,
        class_names: Iterable[object] | None = None,
        example: Tensor | None = None,
        encoder: TextEncoder | str | None = None,
        vocabulary: Sequence[str] | None = None,
        decoder: TextDecoder | str | None = None,
        reading: Reading | None = None,
    ) -> Self:
        """Explain any layers of any model from captioned pictures, in one pass and a closed form.

        Args:
            model: The vision model, unmodified; as a `Backbone`, files are taken as well.
            layers: The layers to map.
            captions: Batches (images, captions): images as the model takes them, one caption per image.
            class_names: A classifier's class names, one per row of its head, to name classes that are in no
                caption; the head must read one of `layers`.
            example: With class names: a few inputs for the dry run that finds the head.
            encoder: As `from_classifier`.
            vocabulary: As `from_classifier`.
            decoder: As `from_classifier`.
            reading: How to read a layer whose layout is ambiguous.

        Raises:
            ValueError: If there are fewer than two images or no noun phrase in the captions, a batch has not
                one caption per image, or the head does not read one of the layers.

        Example:
            >>> lang = LanguageAttribution.from_captions(model, "layer4", batches)  # doctest: +SKIP
        """
        from torchnle.methods.aligned.fit import fit_captions
        from torchnle.methods.aligned.reader import Reader

        backbone, model = _parts(model)
        chosen = taps.resolve(model, layers)
        head, names = None, () if class_names is None else as_class_names(class_names)
        if class_names is not None:
            head = find_head(model, example_for(model) if example is None else example, len(names))
            check_read(head, [tap.name for tap in chosen])
        translator = fit_captions(
            Reader(model, chosen, reading or Reading()),
            captions,
            as_encoder(encoder),
            head=head,
            class_names=names,
            decoder=as_decoder(decoder),
            vocabulary=vocabulary,
        )
        attribution = cls(model, layers, translator, reading=reading)
        attribution.summary = "" if head is None else head.summary
        attribution.preprocess = None if backbone is None else backbone.preprocess
        return attribution

    @own_defaults
    def adapt(self, images: Tensor | Iterable[Tensor]) -> Self:
        """Adapt the feature statistics to unlabelled pictures of the kind that will be read.

        Descriptions depend on the mean and spread of such features: some dozens of photographs improve those
        of other photographs. The translator is changed, and its probabilities are calibrated again on a
        classifier's softmax.

        Args:
            images: As the model takes them: one batch, or several.

        Returns:
            This object.

        Raises:
            TypeError: If the translator has no such statistics (it is not fitted in closed form), or a batch
                is not a tensor.
            ValueError: If there are no images, one alone, or images of the same features.

        Example:
            >>> lang.adapt(photographs).describe(photograph)  # doctest: +SKIP
        """
        from torchnle.methods.aligned.fit import adapt
        from torchnle.methods.aligned.reader import Reader
        from torchnle.methods.aligned.translator import MapTranslator

        adapted = self.translator.adaptable
        if not isinstance(adapted, MapTranslator):
            raise TypeError(
                f"a {type(self.translator).__name__} has no statistics of pictures; adapt what "
                "from_classifier or from_captions gave, or a DeViL translator that starts from a map."
            )
        batches = [images] if isinstance(images, Tensor) else images
        lensed, names = bool(self.reading.layers), list(adapted.layers)
        fitted = taps.resolve(self.forward_func, names) if lensed else self.taps
        adapt(adapted, Reader(self.forward_func, fitted, self.reading), batches)
        return self

    @classmethod
    @own_defaults
    def from_backbone(
        cls,
        backbone: Backbone,
        layers: Chosen | None = None,
        translator: Translator | None = None,
    ) -> Self:
        """Explain a model with its preprocessing: a CLIP by its text tower, a classifier by its class names.

        What comes back takes tensors, PIL images and the paths of files.

        Args:
            backbone: As `torchnle.backbones.load` or `Backbone.of` gives it.
            layers: Of a classifier: as `from_classifier`; with a translator: None = the last of its layers,
                read as it was when the translator was saved.
            translator: One that was saved for the model; None = as above.

        Raises:
            ValueError: If it is neither: no linear head is found, or the classes have no known names.
        """
        if translator is not None and layers is None and translator.reading:
            found = attach(backbone.model, translator, translator.reading, backbone.example())
            return cls._attached(replace(found, layers=found.layers[-1:]), backbone)
        if translator is not None:
            chosen: Any = list(translator.layers)[-1:] if layers is None else layers
            attribution = cls(backbone.model, chosen, translator)
        elif backbone.clip is not None and backbone.tokenizer is not None:
            attribution = cls.from_clip(backbone.clip, backbone.tokenizer(), reference=backbone.name)
        else:
            return cls.from_classifier(backbone, None, layers)
        attribution.preprocess = backbone.preprocess
        return attribution

    @classmethod
    @checked
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

        For a whole image the score of a text is CLIP's own cosine. A location is scored as an image that has
        its features everywhere (see `torchnle.methods.clip.read.read_clip`, also on the limits).

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
            ValueError: If the layer that its image vector is pooled from is not found.
        """
        clip = read_clip(model, tokenizer, example, bank=bank, reference=reference)
        readout = clip.readout
        return cls._attached(
            Attached(clip.encode_image, [readout.tap], readout.reading, clip.translator, readout.summary)
        )

    @classmethod
    @checked
    def from_pretrained(
        cls,
        model: nn.Module | Backbone,
        reference: str,
        layers: Chosen | None = None,
        *,
        reading: Reading | None = None,
        example: Tensor | None = None,
    ) -> Self:
        """Attach a saved translator to the model that it was made for.

        An attribution saved by `save_pretrained` gives the same answers in the same shape: its layers, their
        reading and the summary are restored.

        Args:
            model: The vision model; as a `Backbone`, files are taken as well.
            reference: A shipped translator's name, a local folder, or a Hub id "org/name[@revision]".
            layers: The layers to read; None = those that were read when it was saved, else those that the
                translator names.
            reading: How to read a layer whose layout is ambiguous; None = as it was read when it was saved,
                unless `layers` are given.
            example: A few inputs for the dry run that finds a saved head; None = noise of the size that the
                model states.

        Raises:
            FileNotFoundError: If there is no such translator; the message lists where it was looked for.
            ValueError: If a layer is not in the model, or neither the caller nor the translator names one.

        Example:
            >>> name = "aligned-efficientnet-lite0-scenes"  # doctest: +SKIP
            >>> LanguageAttribution.from_pretrained(model, name).describe(images)  # doctest: +SKIP
        """
        translator: Translator = Translator.from_pretrained(reference)
        backbone, model = _parts(model)
        if layers is None and reading is None and translator.reading:
            shown = backbone.example() if example is None and backbone is not None else example
            return cls._attached(attach(model, translator, translator.reading, shown), backbone)
        chosen: Any = layers if layers is not None else list(translator.layers)
        if not chosen:
            raise ValueError(f"the translator '{reference}' names no layers; pass layers=[...].")
        attribution = cls(model, chosen, translator, reading=reading)
        attribution.preprocess = None if backbone is None else backbone.preprocess
        return attribution

    @checked
    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> Path:
        """Save the translator, its layers and their reading, for the same answers after `from_pretrained`.

        Args:
            folder: As `Translator.save_pretrained`.
            dtype: As `Translator.save_pretrained`.

        Returns:
            The folder.

        Raises:
            OSError: As `Translator.save_pretrained`.
            ValueError: As `Translator.save_pretrained`, or if a function of the caller reads the layers.
        """
        self._keep_reading()
        return self.translator.save_pretrained(folder, dtype=dtype)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save into a repository of the Hugging Face Hub; see `save_pretrained` and `Translator.push_to_hub`.

        Args:
            repo_id: "org/name".
            options: As `Translator.push_to_hub`.

        Returns:
            The address of the commit.
        """
        self._keep_reading()
        return self.translator.push_to_hub(repo_id, **options)

    def _keep_reading(self) -> None:
        """Give the translator the layers' reading, to be saved with it."""
        self.translator.reading = plain_reading(self.taps, self.reading, self.summary)
        self.translator.reading_tensors = lens_tensors(self.taps, self.reading)


def _parts(model: nn.Module | Backbone) -> tuple[Backbone | None, nn.Module]:
    """Return the backbone, if it is one, and the model."""
    return (model, model.model) if isinstance(model, Backbone) else (None, model)
