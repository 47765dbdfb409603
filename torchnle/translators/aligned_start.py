"""A DeViL network that begins where the closed form ends: the aligned prefix, and what is learned on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.config_values import Count, Positive, Size, check_config
from torchnle.translators.devil_network import DeViLNetwork
from torchnle.translators.prefix_network import PrefixNetwork
from torchnle.translators.recall import PhraseMemory, Recalling
from torchnle.translators.text_decoder import PrefixFromSentence
from torchnle.translators.text_maps import TextMap, build_map, describe_map


class AlignedStart(Recalling, PrefixNetwork):
    """The prefix of an `AlignedTranslator`, to which a `DeViLNetwork` adds.

    Tokens are mapped into the sentence encoder's space, averaged over layers as steps away from the mean
    there, brought to the mean distance of sentences, replaced by what they recall, and turned into a prefix
    by the text decoder's network.
    The Transformer's last layer starts at zero, so that the first prefix is exactly the aligned one, and
    training can only add to it.

    A description's prefix says something definite of every place, and the probability of a text after it is
    near 1 all over the region where it is the likeliest. To compare places, phrases can be recalled by
    projections, as surely as the features speak (`PhraseMemory`): the probability is then highest where most
    speaks for the text.

    Args:
        layers: What it reads: layer name -> width D.
        language_width: The width E of the language model's embeddings.
        space: The width k of the sentence encoder's space.
        hidden: The hidden width of the text decoder's network.
        opening_length: The number O of vectors that stand before the prefix, the text decoder's.
        prefix_length: The number P of prefix vectors, the text decoder's.
        spread: The mean distance of sentence embeddings from their mean (`AlignedTranslator.spread`).
        phrases: How many phrases' embeddings it holds.
        recall: The temperature with which they are recalled (`PhraseMemory`); None = they are not.
        scoring_recall: The temperature with which they are recalled by projections, to score texts from place
            to place; None = that is done after the prefix that a description follows.
        scoring_share: The share of what the Transformer adds that is added then.
        maps: Each layer's map, as `describe_map` gives it; None = ridge maps.
        change: The remaining arguments of the `DeViLNetwork`.

    Raises:
        ValueError: If `change` holds an unknown argument, scores are to recall phrases and there are none, a
            size is not positive, or a kind of map unknown.

    Example:
        >>> small = {"width": 8, "depth": 1, "heads": 2, "feedforward": 16}
        >>> network = AlignedStart({"layer4": 8}, 6, space=4, hidden=16, opening_length=1, prefix_length=2,
        ...                        change=small)
        >>> network({"layer4": torch.randn(5, 1, 8)}).shape
        torch.Size([5, 3, 6])
    """

    memory: Tensor

    def __init__(
        self,
        layers: Mapping[str, Size],
        language_width: Size,
        *,
        space: Size,
        hidden: Size,
        opening_length: Count,
        prefix_length: Size,
        spread: Positive = 1.0,
        phrases: Count = 0,
        recall: Positive | None = None,
        scoring_recall: Positive | None = None,
        scoring_share: float = 1.0,
        maps: Mapping[str, Mapping[str, Any]] | None = None,
        change: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(layers, language_width, tokens_per_row=1)
        if scoring_recall is not None and (scoring_recall <= 0 or not phrases):
            raise ValueError(
                f"scoring_recall={scoring_recall} with {phrases} phrases; pass a positive temperature and "
                "phrases to recall, or None."
            )
        self.spread, self.recall = spread, recall
        self.scoring_recall, self.scoring_share = scoring_recall, scoring_share
        self.register_buffer("memory", torch.zeros(phrases, space))
        ridges = {layer: {"kind": "ridge", "in_width": width} for layer, width in layers.items()}
        described = ridges if maps is None else maps
        if described.keys() != layers.keys():
            raise ValueError(f"maps are given for {list(described)}, and the layers are {list(layers)}.")
        self.maps = nn.ModuleList(build_map(space, described[layer]) for layer in layers)
        self.speak = PrefixFromSentence(
            space, language_width, opening_length=opening_length, prefix_length=prefix_length, hidden=hidden
        )
        given = {**(change or {}), "prefix_length": opening_length + prefix_length}
        whole = {"layers": layers, "language_width": language_width, **given}
        check_config(whole, DeViLNetwork, "the network's change")
        self.change = DeViLNetwork(**whole)
        nn.init.zeros_(self.change.output.weight)
        nn.init.zeros_(self.change.output.bias)

    @classmethod
    def of(
        cls,
        aligned: AlignedTranslator,
        language_width: int,
        *,
        scoring_recall: float | None = None,
        scoring_share: float = 1.0,
        **change: Any,
    ) -> AlignedStart:
        """Take over the maps and the text decoder of an aligned translator.

        Args:
            aligned: Fitted, with a text decoder.
            language_width: The width E of the language model's embeddings.
            scoring_recall: As the constructor's.
            scoring_share: As the constructor's.
            change: Arguments of the `DeViLNetwork` (width, depth, heads, feedforward, standardise).

        Raises:
            ValueError: If it has no text decoder, or one for another language model.
        """
        decoder = aligned.decoder
        if decoder is None:
            raise ValueError(
                "this aligned translator has no text decoder, so it makes no prefix to start from."
            )
        length, width = decoder.network.start.shape
        maps = {layer: describe_map(fitted) for layer, fitted in aligned.by_layer.items()}
        if width != language_width:
            raise ValueError(
                f"the text decoder makes prefixes of width {width} (for '{decoder.language_model.reference}'"
                f"); the language model reads {language_width}. Train with the decoder's language model."
            )
        network = cls(
            {layer: described["in_width"] for layer, described in maps.items()},
            language_width,
            space=aligned.encoder.width,
            hidden=decoder.network.enter.out_features,
            opening_length=len(decoder.network.opening),
            prefix_length=length,
            spread=aligned.spread,
            phrases=0 if aligned.memory is None else len(aligned.memory),
            recall=aligned.recall,
            scoring_recall=scoring_recall,
            scoring_share=scoring_share,
            maps=maps,
            change=change,
        )
        if aligned.memory is not None:
            network.memory.copy_(aligned.memory)
        network.speak.load_state_dict(decoder.network.state_dict())
        network.maps.load_state_dict(aligned.maps.state_dict())
        return network

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build the network again, as plain values."""
        own = ("layers", "language_width", "prefix_length")
        length = len(self.speak.start)
        return {
            "layers": self.layers,
            "language_width": self.language_width,
            "space": len(self.speak.mean),
            "hidden": self.speak.enter.out_features,
            "opening_length": self.opening_length,
            "prefix_length": length,
            "spread": self.spread,
            "phrases": len(self.memory),
            "recall": self.recall,
            "scoring_recall": self.scoring_recall,
            "scoring_share": self.scoring_share,
            "maps": {layer: describe_map(fitted) for layer, fitted in self._by_layer.items()},
            "change": {name: value for name, value in self.change.config.items() if name not in own},
        }

    @property
    def opening_length(self) -> int:
        """The number of vectors that stand before the sentence's own."""
        return len(self.speak.opening)

    def freeze_start(self) -> None:
        """Train only what is added; maps are never trained."""
        self.speak.requires_grad_(False)

    @torch.no_grad()
    def scale_change(self, share: float) -> None:
        """Keep a share of what is added: 0 = the aligned prefix again, 1 = what was learned.

        Raises:
            ValueError: If the share is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share={share}; pass a number from 0 to 1.")
        self.change.output.weight.mul_(share)
        self.change.output.bias.mul_(share)

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
        aligned: Tensor = self.speak(F.normalize(self._recalled(self.embed(tokens, keep)), dim=-1))
        change: Tensor = self.change(tokens, keep)
        return aligned + change

    def for_places(self, tokens: Mapping[str, Float[Tensor, "R _ _"]]) -> Float[Tensor, "R _ E"]:
        """Map layer tokens to prefixes after which a text's scores compare from place to place."""
        if self.scoring_recall is None:
            return super().for_places(tokens)
        start = self._posterior(self.center + self._step(tokens), self.scoring_recall)
        prefix: Tensor = start + self.scoring_share * self.change(tokens)
        return prefix

    def of_nothing(self) -> Float[Tensor, "1 _ E"] | None:
        """The prefix of all phrases alike; None where places are scored as they are described."""
        return (
            None if self.scoring_recall is None else self._posterior(self.center[None], self.scoring_recall)
        )

    def _posterior(self, vectors: Float[Tensor, "R k"], temperature: float) -> Float[Tensor, "R _ E"]:
        mean = self._recalling.recall(vectors, spread=self.spread, temperature=temperature, by="projection")
        prefix: Tensor = self.speak(F.normalize(mean, dim=-1))
        return prefix

    def embed(
        self,
        tokens: Mapping[str, Float[Tensor, "R _ _"]],
        keep: Mapping[str, Bool[Tensor, "R _"]] | None = None,
    ) -> Float[Tensor, "R k"]:
        """The vectors in the encoder's space, as `AlignedTranslator.embed` makes them of the kept layers."""
        return self.center + self.spread * F.normalize(self._step(tokens, keep), dim=-1)

    @property
    def center(self) -> Float[Tensor, "k"]:
        """The mean of the maps' targets."""
        return torch.stack([fitted.center for fitted in self._by_layer.values()]).mean(dim=0)

    def _step(
        self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "R k"]:
        """How far from the center, and where to, the kept layers point on average over all."""
        maps, parts = self._by_layer, []
        for layer, x in tokens.items():
            step = maps[layer](x[:, 0]) - maps[layer].center
            parts.append(step * keep[layer] if keep is not None and layer in keep else step)
        return torch.stack(parts).mean(dim=0)

    @property
    def _by_layer(self) -> dict[str, TextMap]:
        return dict(zip(self.layers, self.maps, strict=True))  # type: ignore[arg-type]

    def _recalled(self, vectors: Float[Tensor, "R k"]) -> Float[Tensor, "R k"]:
        if self.recall is None:
            return vectors
        return self._recalling.recall(vectors, spread=self.spread, temperature=self.recall)

    @property
    def _recalling(self) -> PhraseMemory:
        return self._memory_of(self.memory, self.center)
