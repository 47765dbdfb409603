"""The translator on the map from text into features: scores, ranks and describes by one matrix product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self

from torchnle.description import Description
from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
from torchnle.methods.aligned.direction_cache import DirectionCache
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.probability.background import with_background
from torchnle.methods.aligned.probability.candidates import candidates_of, check_texts_fit
from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.probability.vocabulary import Vocabulary
from torchnle.methods.aligned.sentences import Sentences
from torchnle.methods.aligned.text_choice import SURE_ABOVE, SURE_ABOVE_AT_LOCATION, choose_texts, described
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.translators.base import Translator
from torchnle.translators.config_values import Reference, check_config
from torchnle.translators.rows import Rows, batches, find_slot
from torchnle.types import ScoreKind


class MapTranslator(Translator):
    """Scores texts on features, and describes features, by a map from text into each layer's features.

    A text's direction is computed once; a location is scored by its product with the direction. Saliency
    maps, rankings and the probabilities of a vocabulary's phrases (`posterior`) are computed from these
    products; `describe` chooses the most specific text that is probable enough (`choose_texts`).

    Args:
        maps: One fitted map per layer, by the layer's dotted name.
        encoder: The frozen sentence encoder that the maps were fitted to.
        decoder: Describes whole pictures in sentences; a sentence is kept only if it scores at least as
            high as the best phrase. None = phrases only.
        phrases: The phrases of captions that the maps were fitted to, in the maps' order.
        class_names: The classifier's class names, as it states them.
        class_texts: The same names as the noun phrases that the maps were fitted to.
        vocabulary: Further phrases that `describe` chooses from.
        sure_above: A description of a whole picture that is less probable than this is unsure.
        sure_above_at_location: The same for a single location.

    Raises:
        TypeError: If `vocabulary` is one string, or holds something else than strings.
        ValueError: If there is no map or no phrase, phrases or class names are fewer than a map was fitted
            to, or one of `vocabulary` is blank.
    """

    score_kind: ClassVar[ScoreKind] = "projection"
    frozen_models: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    encoder: TextEncoder
    decoder: TextDecoder | None

    def __init__(
        self,
        maps: Mapping[str, TextMap],
        encoder: TextEncoder,
        decoder: TextDecoder | None = None,
        *,
        phrases: Sequence[str] = (),
        class_names: Sequence[str] = (),
        class_texts: Sequence[str] = (),
        vocabulary: Sequence[str] = (),
        sure_above: float = SURE_ABOVE,
        sure_above_at_location: float = SURE_ABOVE_AT_LOCATION,
    ) -> None:
        super().__init__()
        if not maps:
            raise ValueError("there is no map; pass at least one layer's.")
        if not (phrases or class_texts or vocabulary):
            raise ValueError("there is nothing to say; pass phrases=, class_names= or vocabulary=.")
        check_texts_fit(maps, phrases, class_names, class_texts)
        self.layers = tuple(maps)
        self.maps = nn.ModuleList(maps.values())
        self.encoder, self.decoder = encoder, decoder
        self.phrases, self.class_names, self.class_texts = (
            tuple(phrases),
            tuple(class_names),
            tuple(class_texts),
        )
        self.extra = tuple(check_texts(vocabulary)) if len(vocabulary) else ()
        self.sure_above, self.sure_above_at_location = sure_above, sure_above_at_location

    def map_for(self, layer: str, width: int) -> TextMap:
        """Find the map of a layer: the one of its name, else the only one of its width.

        Raises:
            TranslatorMismatchError: If there is none.
        """
        return self.by_layer[find_slot(layer, width, self._widths, self.name)]

    @property
    def _widths(self) -> dict[str, int]:
        return {layer: fitted.width for layer, fitted in self.by_layer.items()}

    @property
    def by_layer(self) -> dict[str, TextMap]:
        """The fitted map of each layer."""
        return dict(zip(self.layers, self.maps, strict=True))  # type: ignore[arg-type]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that `describe` chooses from."""
        return Vocabulary(
            [*self.phrases, *self.extra], class_names=self.class_names, class_texts=self.class_texts
        )

    def directions(self, layer: str, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Map texts to unit directions in a layer's whitened feature space.

        The directions of new class names are the weights of new classes (Zero-shot NLE, section 4.1).

        Raises:
            KeyError: If the layer has no map.
            TypeError: If `texts` is a single string.
            ValueError: If there are no texts or one is blank.
        """
        return self.text_directions.scored(layer, tuple(check_texts(texts)))

    def score(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Compute the projection of every row's whitened feature on every text's direction.

        In units of the features. If captions were fitted, directions along which features of the same phrases
        vary count less. 0 = the center of the pictures that are read.

        Args:
            rows: One group per layer; of layers read together the scores and probabilities are averaged.
            texts: The texts; no template is added.
            prior: Must be False: there is no language model whose prior could be subtracted.
            internal_batch_size: The largest number of rows at once.

        Raises:
            TranslatorMismatchError: If a layer fits no map.
            TypeError: If `texts` is a single string.
            ValueError: If there are no rows or texts, one is blank, a feature is NaN or infinite, or `prior`
                is True.
        """
        if prior:
            raise ValueError(
                "prior=True subtracts a text's log-probability under a language model; this translator "
                "scores by products and has none. Pass prior=False."
            )
        check_texts(texts)
        maps = self.by_layer
        parts = []
        for part in self._batches(rows, internal_batch_size):
            scores = [maps[s].score(x.squeeze(1), self.directions(s, texts)) for s, x in part.tokens.items()]
            parts.append(torch.stack(scores).mean(dim=0))
        return torch.cat(parts)

    def softmax_temperature(self, rows: Sequence[Rows]) -> float:
        """Return the divisor of scores before a softmax over texts, in units of the features.

        It is the one of `probabilities` for a row as long as the mean pooled feature, so that a model whose
        features are scaled, and its head's weights by the inverse, gives the same maps.
        """
        maps = [self.map_for(layer, x.shape[2]) for layer, x in rows[0].tokens.items()]
        return sum(float(fitted.pooled_norm / fitted.temperature) for fitted in maps) / len(maps)

    @torch.no_grad()
    def probabilities(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str] | None = None,
        *,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Estimate the probability of every text on every row; the remainder to one is "none of them".

        Args:
            rows: The features.
            texts: The texts that compete; texts that were not fitted are a priori as likely as those that
                were. None = the phrases of `vocabulary`, mixed with the classifier's own probabilities.
            internal_batch_size: The largest number of rows at once.
        """
        parts = [self._posterior(part, texts) for part in self._batches(rows, internal_batch_size)]
        return torch.cat(parts)

    @torch.no_grad()
    def describe(
        self,
        rows: Sequence[Rows],
        *,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Describe every row by the most specific text that is probable enough, with its probability.

        A single location without a probable phrase whose feature is shorter than the mean location's is
        described as background ("the sky", "grass", "a wall").

        Args:
            rows: One group per layer; of layers read together the scores and probabilities are averaged.
            internal_batch_size: The largest number of rows at once.

        Returns:
            One description per row: `phrases` holds the most probable phrases with their probabilities,
            `score` the text's raw score.
        """
        found: list[Description] = []
        for part in self._batches(rows, internal_batch_size):
            found += self._describe(part)
        return found

    def _describe(self, rows: Rows) -> list[Description]:
        shares = self._posterior(rows)
        choices = choose_texts(shares, self.vocabulary)
        local = not rows.pooled
        if local:
            choices = with_background(self, rows, choices)
        elif self.decoder is not None:
            choices = self._sentences.improve(rows, shares, choices)
        scores = self._scores(rows, [each.text for each in choices])
        return described(
            choices,
            scores,
            shares,
            self.vocabulary.phrases,
            sure_above=self.sure_above_at_location if local else self.sure_above,
        )

    def _posterior(self, rows: Rows, texts: Sequence[str] | None = None) -> Float[Tensor, "R P"]:
        local, maps, directions, parts = not rows.pooled, self.by_layer, self.text_directions, []
        for slot, tokens in rows.tokens.items():
            among = directions.candidates[slot] if texts is None else candidates_of(self, slot, texts)
            found, _ = posterior(maps[slot], tokens.squeeze(1), among, local=local)
            parts.append(found)
        return torch.stack(parts).mean(dim=0)

    def _scores(self, rows: Rows, texts: list[str]) -> Float[Tensor, "R"]:
        parts = []
        for slot, tokens in rows.tokens.items():
            own = self.text_directions.described(slot, texts)
            parts.append((self.by_layer[slot].whiten(tokens.squeeze(1)) * own).sum(dim=1))
        return torch.stack(parts).mean(dim=0)

    @property
    def adaptable(self) -> MapTranslator:
        """The translator itself, since its feature statistics can be replaced."""
        return self

    @cached_property
    def _sentences(self) -> Sentences:
        return Sentences(self)

    @cached_property
    def vectors(self) -> Float[Tensor, "P k"]:
        """The sentence embeddings of the vocabulary's phrases."""
        return embed_cached(self.encoder, self.vocabulary.phrases)

    @cached_property
    def text_directions(self) -> DirectionCache:
        """The directions of texts in the maps, computed when needed and dropped by `forget`."""
        return DirectionCache(self)

    def forget(self) -> None:
        """Clear everything cached from the maps, after they have changed."""
        self.__dict__.pop("text_directions", None)

    def _apply(self, *given: Any, **options: Any) -> Self:
        self.forget()
        return super()._apply(*given, **options)

    def _load_from_state_dict(self, *loaded: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*loaded)

    def _batches(self, rows: Sequence[Rows], internal_batch_size: int | None) -> list[Rows]:
        groups = [group.for_inputs(self._widths, self.name) for group in rows]
        return [part for batch in batches(groups, internal_batch_size) for part in batch]

    @property
    def config(self) -> dict[str, Any]:
        """Everything but the maps' tensors.

        Raises:
            ValueError: If the encoder or the decoder has no reference.
        """
        for model, what in ((self.encoder, "sentence encoder"), (self.decoder, "text decoder")):
            if model is not None and not model.reference:
                raise ValueError(
                    f"the {what} has no reference, so a saved translator could not name it. Load it with "
                    "from_pretrained, or build it with reference=..."
                )
        return {
            "maps": {layer: fitted.config for layer, fitted in self.by_layer.items()},
            "encoder": self.encoder.reference,
            "decoder": None if self.decoder is None else self.decoder.reference,
            "phrases": list(self.phrases),
            "class_names": list(self.class_names),
            "class_texts": list(self.class_texts),
            "vocabulary": list(self.extra),
            "backbone": self.backbone,
            "sure_above": self.sure_above,
            "sure_above_at_location": self.sure_above_at_location,
        }

    @classmethod
    def _build(
        cls,
        *,
        maps: Mapping[str, Mapping[str, Any]],
        encoder: Reference,
        decoder: Reference | None,
        phrases: Sequence[str],
        class_names: Sequence[str],
        class_texts: Sequence[str],
        vocabulary: Sequence[str],
        sure_above: float,
        sure_above_at_location: float,
        backbone: str = "",
    ) -> Self:
        built = cls(
            {layer: build_map(layer, given) for layer, given in maps.items()},
            TextEncoder.from_pretrained(encoder),
            None if decoder is None else TextDecoder.from_pretrained(decoder),
            phrases=phrases,
            class_names=class_names,
            class_texts=class_texts,
            vocabulary=vocabulary,
            sure_above=sure_above,
            sure_above_at_location=sure_above_at_location,
        )
        built.backbone = backbone
        return built


def build_map(layer: str, given: Mapping[str, Any]) -> TextMap:
    """Build an empty map from its saved configuration, checked."""
    check_config(given, TextMap, f"the map of {layer!r}")
    return TextMap(**given)
