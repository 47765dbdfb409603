"""A DeViL network that begins where the closed form ends: the map's prefix, and what is learned on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence
from torchnle.methods.aligned.probability.truth import probability_of
from torchnle.methods.aligned.probability.vocabulary import Vocabulary
from torchnle.methods.aligned.saying import SURE_ABOVE, SURE_ABOVE_AT_LOCATION
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.devil.layer_reader import FrozenMap, LayerReader
from torchnle.methods.devil.network import DeViLNetwork
from torchnle.translators.config_values import Count, Positive, Size, check_config
from torchnle.translators.prefix_network import PrefixNetwork


class MapStart(PrefixNetwork):
    """The prefix that a `MapTranslator` gives its text decoder, to which a `DeViLNetwork` adds.

    Each layer's map says how likely every phrase of the vocabulary is; layers that are read together are
    averaged. The phrases' sentence embeddings, weighted by it (`recall`), become a prefix by the text
    decoder's network. All of this is frozen. The last layer of the `DeViLNetwork` starts at zero, so that the
    first prefix is exactly the map's, and training can only add to it. The probability of what is said is
    that of the phrases it is about.

    Args:
        layers: What it reads: layer name -> width D.
        language_width: The width E of the language model's embeddings.
        space: The width k of the sentence encoder's space.
        hidden: The hidden width of the text decoder's network.
        opening_length: The number O of vectors that stand before the prefix, the text decoder's.
        prefix_length: The number P of prefix vectors, the text decoder's.
        maps: The arguments of each layer's `FrozenMap`.
        phrases: The phrases of the vocabulary beside the class names.
        class_names: As the classifier states them.
        class_texts: The same as phrases; they come first.
        sure_above: A description of a pooled feature that is less probable than this is unsure.
        sure_above_at_location: The same for a single location.
        change: The remaining arguments of the `DeViLNetwork`.

    Raises:
        ValueError: If there is not one map a layer, of its width, there is no phrase, a size is not positive,
            or `change` holds an unknown argument.

    Example:
        >>> small = {"width": 8, "depth": 1, "heads": 2, "feedforward": 16}
        >>> network = MapStart({"layer4": 8}, 6, space=4, hidden=16, opening_length=1, prefix_length=2,
        ...                    maps={"layer4": {"width": 8}}, phrases=["a cat", "a dog"], change=small)
        >>> network({"layer4": torch.randn(5, 1, 8)}).shape
        torch.Size([5, 3, 6])
    """

    vectors: Tensor

    def __init__(
        self,
        layers: Mapping[str, Size],
        language_width: Size,
        *,
        space: Size,
        hidden: Size,
        opening_length: Count,
        prefix_length: Size,
        maps: Mapping[str, Mapping[str, Any]],
        phrases: Sequence[str],
        class_names: Sequence[str] = (),
        class_texts: Sequence[str] = (),
        sure_above: Positive = SURE_ABOVE,
        sure_above_at_location: Positive = SURE_ABOVE_AT_LOCATION,
        change: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(layers, language_width, tokens_per_row=1)
        self.class_names, self.class_texts = tuple(class_names), tuple(class_texts)
        if len(self.class_names) != len(self.class_texts) or not (phrases or class_texts):
            raise ValueError(
                f"{len(phrases)} phrases, {len(self.class_names)} class names and {len(self.class_texts)} "
                "texts of them: pass at least one phrase or class name, and one text a class name."
            )
        self.vocabulary = Vocabulary(phrases, class_names=self.class_names, class_texts=self.class_texts)
        self.sure_above, self.sure_above_at_location = sure_above, sure_above_at_location
        self.register_buffer("vectors", torch.zeros(len(self.vocabulary), space))
        self.readers = nn.ModuleList(
            LayerReader(fitted, len(self.vocabulary)) for fitted in _empty_maps(maps, layers)
        )
        self.speak = PrefixFromSentence(
            space, language_width, opening_length=opening_length, prefix_length=prefix_length, hidden=hidden
        ).requires_grad_(False)
        given = {**(change or {}), "prefix_length": opening_length + prefix_length}
        whole = {"layers": layers, "language_width": language_width, **given}
        check_config(whole, DeViLNetwork, "the network's change")
        self.change = DeViLNetwork(**whole)
        self.opening_length, self.standardise = opening_length, self.change.standardise
        nn.init.zeros_(self.change.output.weight)
        nn.init.zeros_(self.change.output.bias)

    @classmethod
    def of(cls, translator: MapTranslator, language_width: int, **change: Any) -> MapStart:
        """Take over the maps, the vocabulary and the text decoder of a translator.

        Args:
            translator: Fitted, with a text decoder.
            language_width: The width E of the language model's embeddings.
            change: Arguments of the `DeViLNetwork` (width, depth, heads, feedforward, standardise).

        Raises:
            ValueError: If it has no text decoder, or one for another language model.
        """
        decoder = translator.decoder
        if decoder is None:
            raise ValueError(
                f"the map '{translator.name}' has no text decoder, so it makes no prefix to start from. Fit "
                "or load it with decoder=TextDecoder.from_pretrained()."
            )
        length, width = decoder.network.start.shape
        if width != language_width:
            raise ValueError(
                f"the text decoder makes prefixes of width {width} (for '{decoder.language_model.reference}'"
                f"); the language model reads {language_width}. Train with the decoder's language model."
            )
        known, own = translator.vocabulary.phrases, set(translator.class_texts)
        network = cls(
            {layer: fitted.width for layer, fitted in translator.by_layer.items()},
            language_width,
            space=decoder.width,
            hidden=decoder.network.enter.out_features,
            opening_length=len(decoder.network.opening),
            prefix_length=length,
            maps={layer: FrozenMap.of(fitted).config for layer, fitted in translator.by_layer.items()},
            phrases=[phrase for phrase in known if phrase not in own],
            class_names=translator.class_names,
            class_texts=translator.class_texts,
            sure_above=translator.sure_above,
            sure_above_at_location=translator.sure_above_at_location,
            change=change,
        )
        network.vectors.copy_(translator.vectors)
        network.speak.load_state_dict(decoder.network.state_dict())
        for layer, reader in network._by_layer.items():
            reader.take(translator.by_layer[layer], translator.candidates[layer])
        return network

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build the network again, as plain values."""
        own = ("layers", "language_width", "prefix_length")
        return {
            "layers": self.layers,
            "language_width": self.language_width,
            "space": self.vectors.shape[1],
            "hidden": self.speak.enter.out_features,
            "opening_length": self.opening_length,
            "prefix_length": len(self.speak.start),
            "maps": {layer: reader.map.config for layer, reader in self._by_layer.items()},
            "phrases": [p for p in self.vocabulary.phrases if p not in set(self.class_texts)],
            "class_names": list(self.class_names),
            "class_texts": list(self.class_texts),
            "sure_above": self.sure_above,
            "sure_above_at_location": self.sure_above_at_location,
            "change": {name: value for name, value in self.change.config.items() if name not in own},
        }

    def forward(
        self,
        tokens: Mapping[str, Float[Tensor, "R _ _"]],
        keep: Mapping[str, Bool[Tensor, "R _"]] | None = None,
    ) -> Float[Tensor, "R _ E"]:
        """Map layer tokens to prefixes.

        Args:
            tokens: Each layer's token, (R, 1, D) by layer name.
            keep: Which tokens are read, (R, 1) by layer name; at least one in every row.
        """
        shares = self.posterior(tokens, keep)
        start: Tensor = self.speak(F.normalize(recall(shares, self.vectors.to(shares)), dim=1))
        change: Tensor = self.change(tokens, keep)
        return start + change

    def set_moments(self, layer: str, mean: Float[Tensor, "D"], std: Float[Tensor, "D"]) -> None:
        """Set the moments by which what is added standardises a layer's features."""
        self.change.set_moments(layer, mean, std)

    def posterior(
        self,
        tokens: Mapping[str, Float[Tensor, "R _ _"]],
        keep: Mapping[str, Bool[Tensor, "R _"]] | None = None,
    ) -> Float[Tensor, "R P"]:
        """Estimate how likely each phrase of the vocabulary is: the mean over the layers that are read."""
        readers, kept = self._by_layer, keep or {}
        shares = torch.stack([readers[layer](x[:, 0]) for layer, x in tokens.items()])
        one = shares.new_ones(shares.shape[1], 1)
        weights = torch.stack([kept[layer].to(one) if layer in kept else one for layer in tokens])
        return (weights * shares).sum(dim=0) / weights.sum(dim=0)

    def probabilities(
        self, tokens: Mapping[str, Float[Tensor, "R _ _"]], texts: Sequence[str]
    ) -> list[float]:
        """Add up the probabilities of the phrases that each row's text is about; 0 where it is about none."""
        shares = self.posterior(tokens).cpu()
        pairs = zip(texts, shares, strict=True)
        return [probability_of(text, share, self.vocabulary) or 0.0 for text, share in pairs]

    @property
    def _by_layer(self) -> dict[str, LayerReader]:
        return dict(zip(self.layers, self.readers, strict=True))  # type: ignore[arg-type]


def _empty_maps(maps: Mapping[str, Mapping[str, Any]], layers: Mapping[str, int]) -> list[FrozenMap]:
    if maps.keys() != layers.keys():
        raise ValueError(f"maps are given for {list(maps)}, and the layers are {list(layers)}.")
    for layer, given in maps.items():
        check_config(given, FrozenMap, f"the map of '{layer}'")
        if given["width"] != layers[layer]:
            raise ValueError(
                f"the map of '{layer}' reads width {given['width']}, the layer has {layers[layer]}."
            )
    return [FrozenMap(**maps[layer]) for layer in layers]
