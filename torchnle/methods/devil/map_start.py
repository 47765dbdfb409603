"""A DeViL network that starts at the closed-form map: the map's prefix plus a learned correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from typing_extensions import Self

from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence
from torchnle.methods.aligned.probability.background import with_background
from torchnle.methods.aligned.probability.candidates import Candidates
from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.probability.truth import probability_of, repeats
from torchnle.methods.aligned.probability.vocabulary import Vocabulary
from torchnle.methods.aligned.text_choice import TextChoice, choose_texts
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.devil.network import DeViLNetwork
from torchnle.translators import frozen
from torchnle.translators.config_values import Reference, check_config
from torchnle.translators.prefix_network import PrefixNetwork
from torchnle.translators.rows import Rows

#: How much the map's score counts beside the log-probability, both in nats. Log-probabilities of a language
#: model differ by several nats between texts that are equally true, so that with 1 the ranking is worse than
#: the map's own; ``python -m measurements devil-evidence`` measures it.
EVIDENCE_WEIGHT = 4.0


class MapStart(PrefixNetwork):
    """Maps features to a prefix: that of a fitted `MapTranslator`, plus the output of a `DeViLNetwork`.

    Each layer's map estimates the probability of every phrase of the vocabulary; layers that are read
    together are averaged. The mean of the phrases' sentence embeddings, weighted by these probabilities
    (`recall`), is mapped to a prefix by the text decoder's network. The last layer of the `DeViLNetwork` is
    initialised to zero, so that training starts at exactly the map's prefix. The map also corrects the
    results: a decoded text is replaced by the map's own description if it is less probable by the map
    (`judged`), and the map's score is added to the log-probability of a text (`evidence`).

    The map and the decoder's network are frozen and saved by reference and hash; only the `DeViLNetwork` is
    stored. Features are rescaled to the mean norm of pooled ones, since location dropout in training averages
    any number of locations.

    Args:
        translator: The fitted map.
        prefix_network: The text decoder's network.
        decoder: The text decoder's reference.
        change: The remaining arguments of the `DeViLNetwork`.
        evidence_weight: The weight of the map's scores relative to the log-probabilities of texts.

    Raises:
        ValueError: If `change` holds an unknown argument, or map and decoder are of different encoders.
    """

    def __init__(
        self,
        translator: MapTranslator,
        prefix_network: PrefixFromSentence,
        *,
        decoder: str = "",
        change: Mapping[str, Any] | None = None,
        evidence_weight: float = EVIDENCE_WEIGHT,
    ) -> None:
        prefix_length, language_width = prefix_network.start.shape
        layers = {layer: fitted.width for layer, fitted in translator.by_layer.items()}
        super().__init__(layers, language_width, tokens_per_row=1)
        encoder_width, decoder_width = translator.encoder.width, len(prefix_network.mean)
        if encoder_width != decoder_width:
            raise ValueError(
                f"the map '{translator.name}' reads embeddings of width {encoder_width}, the text decoder "
                f"reads {decoder_width}; pass a decoder for the map's encoder."
            )
        #: Not registered: frozen models are no submodules, and have no part in parameters and state_dict.
        self._frozen = translator.eval().requires_grad_(False), prefix_network.eval().requires_grad_(False)
        self.decoder, self.opening_length = decoder, len(prefix_network.opening)
        self.evidence_weight = evidence_weight
        self.sure_above = translator.sure_above
        self.sure_above_at_location = translator.sure_above_at_location
        whole = {"layers": layers, "language_width": language_width, **(change or {})}
        whole["prefix_length"] = self.opening_length + prefix_length
        check_config(whole, DeViLNetwork, "the network's change")
        self.change = DeViLNetwork(**whole)
        self.standardise = self.change.standardise
        nn.init.zeros_(self.change.output.weight)
        nn.init.zeros_(self.change.output.bias)

    @classmethod
    def of(cls, translator: MapTranslator, language_width: int, **change: Any) -> MapStart:
        """Build the network from a map that has a text decoder.

        Args:
            translator: A fitted map with a text decoder; it is frozen, and not copied.
            language_width: The width E of the language model's embeddings.
            change: Arguments of the `DeViLNetwork` (width, depth, heads, feedforward, standardise).

        Raises:
            ValueError: If it has no text decoder, or one for another language model.

        Example:
            >>> network = MapStart.of(translator, 576, width=192, depth=3)  # doctest: +SKIP
        """
        decoder = translator.decoder
        if decoder is None:
            raise ValueError(
                f"the map '{translator.name}' has no text decoder, so it makes no prefix to start from. Fit "
                "or load it with decoder=TextDecoder.from_pretrained()."
            )
        width = decoder.network.start.shape[1]
        if width != language_width:
            raise ValueError(
                f"the text decoder makes prefixes of width {width} (for '{decoder.language_model.reference}'"
                f"); the language model reads {language_width}. Train with the decoder's language model."
            )
        return cls(translator, decoder.network, decoder=decoder.reference, change=change)

    @property
    def config(self) -> dict[str, Any]:
        """The references and hashes of map and text decoder, and the sizes of the learned network.

        Raises:
            ValueError: If the map or the decoder has no reference, or was changed since it was loaded.
        """
        own = ("layers", "language_width", "prefix_length")
        given = {"network." + name: tensor for name, tensor in self.prefix_network.state_dict().items()}
        return {
            "map": frozen.stated(self.map.reference, self.map.state_dict(), "the map"),
            "decoder": frozen.stated(self.decoder, given, "the text decoder"),
            "change": {name: value for name, value in self.change.config.items() if name not in own},
            "evidence_weight": self.evidence_weight,
        }

    @classmethod
    def _build(
        cls,
        *,
        map: Mapping[str, Reference],
        decoder: Mapping[str, Reference],
        change: Mapping[str, Any],
        evidence_weight: float = EVIDENCE_WEIGHT,
    ) -> Self:
        for stated, what in ((map, "the map"), (decoder, "the text decoder")):
            frozen.check(stated, what)
        translator = MapTranslator.from_pretrained(map["reference"])
        prefix_network = PrefixFromSentence.from_pretrained(decoder["reference"])
        return cls(
            translator,
            prefix_network,
            decoder=decoder["reference"],
            change=change,
            evidence_weight=evidence_weight,
        )

    @property
    def map(self) -> MapTranslator:
        """The map, frozen."""
        return self._frozen[0]

    @property
    def prefix_network(self) -> PrefixFromSentence:
        """The text decoder's network, frozen."""
        return self._frozen[1]

    @property
    def vocabulary(self) -> Vocabulary:
        """The map's phrases."""
        return self.map.vocabulary

    @property
    def adaptable(self) -> MapTranslator:
        """The map, whose feature statistics `adapt` replaces."""
        return self.map

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of the map, of the text decoder, and of the map's own frozen models."""
        return self.map.reference, self.decoder, *self.map.base_models

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
        start: Tensor = self.prefix_network(F.normalize(recall(shares, self._vectors.to(shares)), dim=1))
        change: Tensor = self.change(tokens, keep)
        return start + change

    def set_moments(self, layer: str, mean: Float[Tensor, "D"], std: Float[Tensor, "D"]) -> None:
        """Set the moments by which the learned network standardises a layer's features."""
        self.change.set_moments(layer, mean, std)

    def posterior(
        self,
        tokens: Mapping[str, Float[Tensor, "R _ _"]],
        keep: Mapping[str, Bool[Tensor, "R _"]] | None = None,
    ) -> Float[Tensor, "R P"]:
        """Estimate the probability of each phrase of the vocabulary, averaged over the layers that are read.

        Args:
            tokens: As `forward`.
            keep: As `forward`.
        """
        maps, candidates, masks = self.map.by_layer, self._candidates, keep or {}
        shares = torch.stack(
            [posterior(maps[name], x[:, 0], candidates[name], local=True)[0] for name, x in tokens.items()]
        )
        one = shares.new_ones(shares.shape[1], 1)
        weights = torch.stack([masks[layer].to(one) if layer in masks else one for layer in tokens])
        return (weights * shares).sum(dim=0) / weights.sum(dim=0)

    def judged(self, rows: Rows, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Replace each row's decoded text by the map's own description where that is more probable.

        Probabilities are the map's (`probability_of`). A text that lists a noun phrase twice, or none of the
        vocabulary, is replaced too.

        Args:
            rows: The features.
            texts: The decoded text of each row.

        Returns:
            One (text, probability) per row.
        """
        shares = self.map.probabilities([rows])
        own = choose_texts(shares, self.vocabulary)
        if not rows.pooled:
            own = with_background(self.map, rows, own)
        return [
            self._better(text.strip(), share, choice)
            for text, share, choice in zip(texts, shares.cpu(), own, strict=True)
        ]

    def _better(self, text: str, share: Float[Tensor, "P"], choice: TextChoice) -> tuple[str, float]:
        probability = probability_of(text, share, self.vocabulary)
        if probability is None or probability < choice.probability or repeats(text):
            return choice.text, choice.probability
        return text, probability

    def evidence(self, rows: Rows, texts: Sequence[str]) -> Float[Tensor, "R T"]:
        """Compute the map's scores of texts, in nats of its calibrated softmax, averaged over layers.

        The score of a pooled feature is its cosine with the text's direction times the map's temperature. The
        score of a location is also proportional to the norm of its feature, as in the map's saliency, so that
        background scores low.

        Args:
            rows: The features.
            texts: The texts.
        """
        found = []
        for layer, tokens in rows.tokens.items():
            fitted, x = self.map.by_layer[layer], tokens.squeeze(1)
            length = fitted.whiten(fitted.scaled(x)).norm(dim=1, keepdim=True)
            score = fitted.score(x, self.map.directions(layer, texts))
            found.append(fitted.temperature * score / length.clamp_min(1e-6))
        return torch.stack(found).mean(dim=0)

    @property
    def _candidates(self) -> Mapping[str, Candidates]:
        with torch.inference_mode(False), torch.no_grad():  # what is kept must serve calls with gradients
            return self.map.text_directions.candidates

    @property
    def _vectors(self) -> Float[Tensor, "P k"]:
        with torch.inference_mode(False), torch.no_grad():
            return self.map.vectors

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the frozen models along; everything stays in float32, whatever it is stored in."""
        before = self.prefix_network.mean.device
        device = fn(torch.empty(0, device=before)).device
        if device != before:
            for model in self._frozen:
                model.to(device)
        super()._apply(lambda tensor: _in_float32(fn(tensor)), recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *given: Any) -> None:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[name] = _in_float32(state_dict[name])
        super()._load_from_state_dict(state_dict, prefix, *given)


def _in_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
