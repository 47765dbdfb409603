"""Concepts and sentences that justify a classifier's prediction (Zero-shot NLE)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch

from torchnle.attr.inputs.pictures import Pictures
from torchnle.attr.layer_reader import Chosen, LayerReader
from torchnle.public_calls import checked
from torchnle.types import Where
from torchnle.vision.features import Features

if TYPE_CHECKING:
    from torchnle.language.model import LanguageModel
    from torchnle.methods.zero_shot.banks import Bank
    from torchnle.methods.zero_shot.classes import Target
    from torchnle.methods.zero_shot.colours import Colours
    from torchnle.methods.zero_shot.explain import Explainer
    from torchnle.methods.zero_shot.explanation import Explanation
    from torchnle.methods.zero_shot.prefix_tuning.tuning import Tuning
    from torchnle.methods.zero_shot.sentences.beams import Search


class Explains(LayerReader[Chosen]):
    """Adds `explain` and `concepts` to `LanguageAttribution` (mixin)."""

    _explainer: tuple[Any, Explainer] | None = None
    _colours: tuple[Any, Colours] | None = None

    @checked
    @torch.no_grad()
    def explain(
        self,
        inputs: Pictures | list[Features],
        additional_forward_args: Any = None,
        *,
        target: Target = None,
        rather_than: Target = None,
        truth: Target = None,
        unwanted: Collection[str] = (),
        language_model: LanguageModel | str | None = None,
        search: Search | Tuning | None = None,
        second: bool = False,
        colours: bool = False,
    ) -> list[Explanation]:
        """Justify the prediction for every image in a sentence (Zero-shot NLE, section 3.2).

        The evidence is the channels of the head's input that contribute most to the class's logit. A beam
        search over a language model's words, without gradients, maximises the cosine of the sentence's
        direction with the evidence plus a weighted mean log-probability of its tokens.

        Args:
            inputs: (N, C, H, W), a tuple of tensors, pictures where the preprocessing is known, or features
                that `read` gave.
            additional_forward_args: Passed to the model after the inputs.
            target: The class to explain, by name or index, one for all images or one per image; None = the
                predicted one.
            rather_than: The class that it is contrasted with: "X rather than Y".
            truth: The true class of the images, by name or index: a wrong prediction is contrasted with it,
                and the sentence names the location that contributes most.
            unwanted: Words that must not be used.
            language_model: Proposes the words: a model or its reference; None = the embedded default.
            search: The settings of the search; or a `Tuning`, the paper's inference-time prefix tuning, which
                takes minutes a sentence on a CPU; None = the default search.
            second: Whether each sentence is written again from another prompt (a `Tuning`: another seed), and
                their similarity is given as `Explanation.agreement`; doubles the time.
            colours: Whether sentences name the colour of what was looked at where it is sure. The model reads
                264 rendered surfaces of known colours once, and must have come with its preprocessing.

        Returns:
            One `Explanation` per image.

        Raises:
            TypeError: If the translator was not fitted to a classifier, or a target is neither an index nor
                a name.
            ValueError: If a target is no class, `rather_than` and `truth` are both given, or with colours if
                the preprocessing is not known.

        Example:
            >>> print(lang.explain(images)[0])  # doctest: +SKIP
            prediction: king penguin because it shows a penguin with a black beak
        """
        from torchnle.methods.zero_shot.explanation_input import ask
        from torchnle.methods.zero_shot.sentences.beams import Search

        translator, layer, features = self._read_head(inputs, additional_forward_args)
        explanation_input = ask(
            translator,
            layer,
            features,
            self.reading.pool,
            target=target,
            against=rather_than,
            truth=truth,
        )
        explainer = self._explainer_for(translator, layer, language_model)
        return explainer(
            explanation_input,
            search or Search(),
            unwanted=unwanted,
            second=second,
            colours=self._colours_of(translator, layer, additional_forward_args) if colours else None,
        )

    @checked
    @torch.no_grad()
    def concepts(
        self,
        inputs: Pictures | list[Features] | None = None,
        bank: Bank = None,
        additional_forward_args: Any = None,
        *,
        target: Target = None,
        rather_than: Target = None,
        where: Where = None,
        count: int = 15,
    ) -> list[Any]:
        """List the concepts of a bank that the evidence of a prediction shows (Zero-shot NLE, section 4.3).

        Args:
            inputs: As `explain`; None = of classes, by their weights alone.
            bank: Phrases, class descriptions by name, the path of a file of either, or None = the shipped
                bank.
            additional_forward_args: Passed to the model after the inputs.
            target: The class whose evidence is read; None = the predicted one. At a location None lists what
                the whole feature there shows, for the class with the highest logit there.
            rather_than: The class that it is contrasted with.
            where: As `LanguageAttribution.describe`.
            count: The number of concepts to list.

        Returns:
            One `Concepts` an image; for ``where="all"`` a list of them an image, row by row; without inputs
            one per class.

        Raises:
            TypeError: As `explain`; if a bank holds something else than strings.
            ValueError: As `explain`; if the bank is empty or `count` is not positive.

        Example:
            >>> print(lang.concepts(images, ["wings", "a beak", "wheels"], count=2)[0])  # doctest: +SKIP
            king penguin (6.20): a beak, wings
        """
        from torchnle.methods.zero_shot import explanation_input
        from torchnle.methods.zero_shot.banks import as_bank
        from torchnle.methods.zero_shot.classes import class_map

        phrases = as_bank(bank)
        if inputs is None:
            translator, layer = class_map(self.translator, [tap.name for tap in self.taps])
            return explanation_input.concepts_of_classes(translator, layer, phrases, target, count)
        translator, layer, features = self._read_head(inputs, additional_forward_args)
        return explanation_input.concepts_of_images(
            translator,
            layer,
            features,
            self.reading.pool,
            phrases,
            target=target,
            against=rather_than,
            where=where,
            count=count,
        )

    def _read_head(
        self, inputs: Pictures | list[Features], additional_forward_args: Any
    ) -> tuple[Any, str, Any]:
        """Return the translator, the layer that the head reads, and the features of that layer."""
        from torchnle.methods.zero_shot.classes import class_map

        translator, layer = class_map(self.translator, [tap.name for tap in self.taps])
        already_read = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], Features)
        read: Any = inputs if already_read else self.read(inputs, additional_forward_args)  # type: ignore[arg-type]
        return translator, layer, next(features for features in read if features.layer == layer)

    def _colours_of(self, translator: Any, layer: str, additional_forward_args: Any) -> Colours:
        """Return the colours of the last call if nothing has changed, since the surfaces are read once."""
        from torchnle.methods.zero_shot.colours import read_colours

        if self.preprocess is None:
            raise ValueError(
                "colours=True renders pictures, and the preprocessing of the model's inputs is not known; "
                "pass a Backbone: LanguageAttribution.from_classifier(Backbone.of(model, ...), class_names)."
            )
        key = (translator.text_directions, layer, self.preprocess)  # the first is new if the maps change
        if self._colours is None or self._colours[0] != key:

            def read(pictures: list[Any]) -> tuple[Features, Features | None]:
                _, _, features = self._read_head(pictures, additional_forward_args)
                parts = self.reading.pool(features, "all") if features.grid is not None else None
                return self.reading.pool(features, None), parts

            self._colours = key, read_colours(translator.by_layer[layer], self.preprocess, read)
        return self._colours[1]

    def _explainer_for(
        self, translator: Any, layer: str, language_model: LanguageModel | str | None
    ) -> Explainer:
        """Return the explainer of the last call if nothing has changed, since it caches its encodings."""
        from torchnle.methods.zero_shot.explain import Explainer

        named = language_model if isinstance(language_model, str) else id(language_model)
        key = (translator, layer, named, translator.text_directions)  # the last is new if the maps change
        if self._explainer is None or self._explainer[0] != key:
            self._explainer = key, Explainer(translator, layer, as_language_model(language_model))
        return self._explainer[1]


def as_language_model(language_model: LanguageModel | str | None) -> LanguageModel:
    """Load a language model that is given by reference; None = the embedded default."""
    from torchnle.language.model import LanguageModel

    if isinstance(language_model, LanguageModel):
        return language_model
    if language_model is None:
        return LanguageModel.from_pretrained()
    return LanguageModel.from_pretrained(language_model)
