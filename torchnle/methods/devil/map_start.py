"""A DeViL network that begins where the closed form ends: the map's prefix, and what is learned on top."""

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
from torchnle.methods.aligned.saying import Said, say
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
    """Computes the prefix that a `MapTranslator` gives its text decoder, to which a `DeViLNetwork` adds.

    Each layer's map says how likely every phrase of the vocabulary is; layers that are read together are
    averaged. The phrases' sentence embeddings, weighted by it (`recall`), become a prefix by the text
    decoder's network. The last layer of the `DeViLNetwork` starts at zero, so that the first prefix is
    exactly the map's, and training can only add to it. What the map knows better is kept: a text is said only
    where its phrases are as likely, by the map, as what the map itself would say (`judged`), and to the
    log-probability of a text the map's own score is added (`evidence`).

    The map and the decoder's network are frozen and never saved: the configuration names them, with the hash
    of what they were, and only what is learned is stored. Features of every layer are brought to the mean
    norm of pooled ones, whatever they are a mean of: training's location dropout draws everything between a
    single location and all, and a row does not say which it is.

    Args:
        translator: The map.
        speak: The text decoder's network.
        decoder: The text decoder's reference.
        change: The remaining arguments of the `DeViLNetwork`.
        evidence_weight: How much the map's own scores count beside the log-probabilities of texts.

    Raises:
        ValueError: If `change` holds an unknown argument, or map and decoder are of different encoders.
    """

    def __init__(
        self,
        translator: MapTranslator,
        speak: PrefixFromSentence,
        *,
        decoder: str = "",
        change: Mapping[str, Any] | None = None,
        evidence_weight: float = EVIDENCE_WEIGHT,
    ) -> None:
        prefix_length, language_width = speak.start.shape
        layers = {layer: fitted.width for layer, fitted in translator.by_layer.items()}
        super().__init__(layers, language_width, tokens_per_row=1)
        known, spoken = translator.encoder.width, len(speak.mean)
        if known != spoken:
            raise ValueError(
                f"the map '{translator.name}' knows texts by embeddings of width {known}, the text decoder "
                f"reads {spoken}; pass a decoder for the map's encoder."
            )
        #: Not registered: frozen models are no submodules, and have no part in parameters and state_dict.
        self._frozen = translator.eval().requires_grad_(False), speak.eval().requires_grad_(False)
        self.decoder, self.opening_length = decoder, len(speak.opening)
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
        """Start from a map that has a text decoder.

        Args:
            translator: Fitted, with a text decoder; it is frozen, and not copied.
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
        """The references and hashes of map and text decoder, and the sizes of what is learned.

        Raises:
            ValueError: If the map or the decoder has no reference, or was changed since it was loaded.
        """
        own = ("layers", "language_width", "prefix_length")
        given = {"network." + name: tensor for name, tensor in self.speak.state_dict().items()}
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
        speak = PrefixFromSentence.from_pretrained(decoder["reference"])
        return cls(
            translator, speak, decoder=decoder["reference"], change=change, evidence_weight=evidence_weight
        )

    @property
    def map(self) -> MapTranslator:
        """The map, frozen."""
        return self._frozen[0]

    @property
    def speak(self) -> PrefixFromSentence:
        """The text decoder's network, frozen."""
        return self._frozen[1]

    @property
    def vocabulary(self) -> Vocabulary:
        """The map's phrases."""
        return self.map.vocabulary

    @property
    def adaptable(self) -> MapTranslator:
        """The map: `adapt` replaces its statistics, and with them what is said and scored."""
        return self.map

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of the map, of the text decoder, and of what the map works with."""
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
        start: Tensor = self.speak(F.normalize(recall(shares, self._vectors.to(shares)), dim=1))
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
        maps, candidates, kept = self.map.by_layer, self._candidates, keep or {}
        shares = torch.stack(
            [posterior(maps[name], x[:, 0], candidates[name], local=True)[0] for name, x in tokens.items()]
        )
        one = shares.new_ones(shares.shape[1], 1)
        weights = torch.stack([kept[layer].to(one) if layer in kept else one for layer in tokens])
        return (weights * shares).sum(dim=0) / weights.sum(dim=0)

    def judged(self, rows: Rows, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Keep each row's text where its phrases are as likely as what the map says; else say the map's.

        A text that names a thing twice, or nothing that the vocabulary knows, gives way too.
        """
        shares = self.map.probabilities([rows])
        own = say(shares, self.vocabulary)
        if not rows.pooled:
            own = with_background(self.map, rows, own)
        return [
            self._better(text.strip(), share, said)
            for text, share, said in zip(texts, shares.cpu(), own, strict=True)
        ]

    def _better(self, text: str, share: Float[Tensor, "P"], said: Said) -> tuple[str, float]:
        known = probability_of(text, share, self.vocabulary)
        if known is None or known < said.probability or repeats(text):
            return said.text, said.probability
        return text, known

    def evidence(self, rows: Rows, texts: Sequence[str]) -> Float[Tensor, "R T"]:
        """Give the map's scores of texts, in the nats of its calibrated softmax; averaged over layers.

        A cosine with a text's direction counts its temperature. Of a location the score counts the length of
        the feature too, as in the map's own saliency: background is quiet.
        """
        found = []
        for layer, tokens in rows.tokens.items():
            fitted, x = self.map.by_layer[layer], tokens.squeeze(1)
            length = fitted.whiten(fitted.scaled(x)).norm(dim=1, keepdim=True)
            score = fitted.score(x, self.map.directions(layer, texts))
            found.append(fitted.temperature * score / length.clamp_min(1e-6))
        return torch.stack(found).mean(dim=0)

    @property
    def _candidates(self) -> dict[str, Candidates]:
        with torch.inference_mode(False), torch.no_grad():  # what is kept must serve calls with gradients
            return self.map.candidates

    @property
    def _vectors(self) -> Float[Tensor, "P k"]:
        with torch.inference_mode(False), torch.no_grad():
            return self.map.vectors

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the frozen models along; everything stays in float32, whatever it is stored in."""
        before = self.speak.mean.device
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
