"""The aligned translator: a closed-form map into a sentence encoder's space, and a decoder that speaks it.

The map is fitted per layer in seconds; the decoder was trained once, on text, and serves every backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self

from torchnle.description import Description
from torchnle.features import Features
from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts
from torchnle.translators.base import Translator
from torchnle.translators.config_values import Number, Positive, Reference, Size
from torchnle.translators.recall import Recalling, cosines
from torchnle.translators.rows import Rows, as_list, batches, gather
from torchnle.translators.text_decoder import TextDecoder
from torchnle.translators.text_maps import TextMap, build_map, describe_map

#: Said where the decoder ends at once.
_NOTHING = "nothing it can name"


class AlignedTranslator(Recalling, Translator):
    """Maps a layer's features among sentence embeddings; scores by projection, speaks through a text decoder.

    Ridge regression shrinks what it is unsure of towards the mean of its targets. The direction away from
    that mean is what a feature says, and the distance is how surely it says it. So a text's score is the
    projection of the mapped feature on the text's direction, in units of the targets' spread: an empty place
    scores near 0 for all texts, where its cosines would be loud noise. A vector is brought to the mean
    distance of the targets before it is spoken. Layers of a place add up, each as surely as it speaks.

    Args:
        maps: One fitted map a layer, by the layer's dotted name.
        encoder: The frozen sentence encoder whose space is mapped to.
        decoder: Speaks the encoder's space; without one, `describe` gives the nearest phrase.
        phrases: What `describe` falls back on, and offers as runners-up.
        spread: The mean distance of the targets from their mean.
        sure_above: The least faithfulness, the cosine between the spoken text's embedding and the vector it
            was to say, with which a description is vouched for.
        best_of: How many ways of saying a row are tried, the greedy one first; the most faithful is kept.
        recall: The temperature with which a vector recalls `phrases` before it is spoken: what is said is
            the phrases' mean (`torchnle.translators.recall`), and no longer the vector with its errors.
            None = the vector itself is said.

    Raises:
        ValueError: If there is neither a decoder nor a phrase, or the widths of maps, encoder and decoder
            differ, `best_of` or `recall` is not positive, or there is no phrase to recall.
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
        spread: float = 1.0,
        sure_above: float = 0.5,
        best_of: int = 1,
        recall: float | None = None,
    ) -> None:
        super().__init__()
        if best_of < 1:
            raise ValueError(f"best_of={best_of}; pass at least 1.")
        if recall is not None and (recall <= 0 or not phrases):
            raise ValueError(
                f"recall={recall} with {len(phrases)} phrases; pass a positive temperature and phrases to "
                "recall, or None."
            )
        if decoder is None and not phrases:
            raise ValueError(
                "pass a text decoder, or phrases to choose from; without either nothing can be said."
            )
        self.layers = tuple(maps)
        self.maps = nn.ModuleList(maps.values())
        self.encoder, self.decoder = encoder, decoder
        self.phrases = tuple(dict.fromkeys(phrases))
        self.spread = spread
        self.sure_above = sure_above
        self.best_of = best_of
        self.recall = recall
        self._check_widths()

    @property
    def memory(self) -> Float[Tensor, "T k"] | None:
        """The phrases' embeddings, if they are recalled."""
        return None if self.recall is None else self._phrase_vectors

    @cached_property
    def _phrase_vectors(self) -> Float[Tensor, "T k"] | None:
        return self.encoder.encode(self.phrases) if self.phrases else None

    def embed(self, rows: Rows) -> Float[Tensor, "R k"]:
        """The vectors of rows in the encoder's space, at the mean distance of the targets from their mean."""
        return self.center + self.spread * F.normalize(self._deviation(rows), dim=-1)

    @property
    def center(self) -> Float[Tensor, "k"]:
        """The mean of the targets, over the maps."""
        return torch.stack([fitted.center for fitted in self.by_layer.values()]).mean(dim=0)

    def score(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
        through: Literal["space", "decoder"] = "space",
    ) -> Float[Tensor, "rows texts"]:
        """Score texts on rows.

        Args:
            features: The features of one layer or of several.
            texts: The texts; thousands cost one matrix product in the space.
            joint: Read the layers of a location together.
            prior: With ``through="decoder"``, subtract the texts' log-probability under the language model.
            internal_batch_size: The most rows in work at once.
            through: "space" = projections on the texts' directions; "decoder" = log-probabilities in nats.

        Raises:
            TranslatorMismatchError: If a layer fits no map.
            ValueError: If a prior is asked of projections, there is no decoder to ask, or a text is blank.
        """
        listed = check_texts(texts)
        if through == "space" and prior:
            raise ValueError("projections have no prior to subtract; pass prior=False, or through='decoder'.")
        groups = self._rows(features, joint)
        if through == "decoder":
            return self._spoken_scores(groups, listed, prior, internal_batch_size)
        directions = F.normalize(self.encoder.encode(listed).to(self.center) - self.center, dim=-1)
        parts = [self._deviation(rows) for batch in batches(groups, internal_batch_size) for rows in batch]
        return torch.cat(parts) @ directions.T / self.spread

    @torch.no_grad()
    def describe(
        self,
        features: Features | Sequence[Features],
        *,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Say every row, and say how faithful the words are.

        The spoken text is embedded again; its cosine (about the targets' mean) to the mapped feature is the
        description's score. Below `sure_above` the description is marked unsure. The nearest phrases come
        with it; without a decoder the nearest one is the text.
        """
        rows = [r for batch in batches(self._rows(features, joint), internal_batch_size) for r in batch]
        vectors = torch.cat([self.embed(r) for r in rows])
        places = [(r.layer, image, location) for r in rows for image, location in r.places]
        near = self._nearest(vectors)
        texts = self._say(vectors, near, internal_batch_size)
        scores = self._faithfulness(texts, vectors).tolist()
        return [
            Description(
                text, score, "cosine", layer, image, location, phrases, unsure=score < self.sure_above
            )
            for text, score, phrases, (layer, image, location) in zip(
                texts, scores, near, places, strict=True
            )
        ]

    def _say(
        self,
        vectors: Float[Tensor, "R k"],
        near: Sequence[tuple[tuple[str, float], ...]],
        internal_batch_size: int | None,
    ) -> list[str]:
        if self.decoder is None:
            return [phrases[0][0] for phrases in near]
        recalled = self.recalled(vectors)
        texts = self.decoder.decode(recalled, internal_batch_size=internal_batch_size).texts
        if self.best_of == 1:
            return [text or _NOTHING for text in texts]
        others = self.best_of - 1
        drawn = self.decoder.sample(recalled, others, internal_batch_size=internal_batch_size).texts
        rows = [[text, *drawn[i * others : (i + 1) * others]] for i, text in enumerate(texts)]
        ways = [text or _NOTHING for row in rows for text in row]
        scores = self._faithfulness(ways, vectors.repeat_interleave(self.best_of, dim=0))
        best = scores.view(-1, self.best_of).argmax(dim=1).tolist()
        return [ways[row * self.best_of + way] for row, way in enumerate(best)]

    def recalled(self, vectors: Float[Tensor, "R k"]) -> Float[Tensor, "R k"]:
        """What is said for vectors in the encoder's space: themselves, or what they recall."""
        if self.recall is None or self.memory is None:
            return vectors
        memory = self._memory_of(self.memory, self.center)
        return memory.recall(vectors, spread=self.spread, temperature=self.recall)

    def _nearest(self, vectors: Float[Tensor, "R k"], count: int = 3) -> list[tuple[tuple[str, float], ...]]:
        if self._phrase_vectors is None:
            return [()] * len(vectors)
        near = cosines(vectors, self._phrase_vectors, self.center)
        best = near.topk(min(count, len(self.phrases)), dim=1)
        return [
            tuple((self.phrases[i], c) for i, c in zip(indices, values, strict=True))
            for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _faithfulness(self, texts: Sequence[str], vectors: Float[Tensor, "R k"]) -> Float[Tensor, "R"]:
        unique = list(dict.fromkeys(texts))
        encoded = dict(zip(unique, self.encoder.encode(unique), strict=True))
        spoken = torch.stack([encoded[text] for text in texts]).to(vectors)
        return F.cosine_similarity(spoken - self.center, vectors - self.center, dim=-1)

    def _spoken_scores(
        self, groups: Sequence[Rows], texts: list[str], prior: bool, internal_batch_size: int | None
    ) -> Float[Tensor, "rows texts"]:
        if self.decoder is None:
            raise ValueError("this translator has no decoder; score through='space'.")
        vectors = self.recalled(torch.cat([self.embed(rows) for rows in groups]))
        return self.decoder.log_prob(vectors, texts, prior=prior, internal_batch_size=internal_batch_size)

    def _deviation(self, rows: Rows) -> Float[Tensor, "R k"]:
        """How far, and where to, rows lie from the mean of the targets: the mean over their layers."""
        maps = self.by_layer
        parts = [maps[slot](tokens.squeeze(1)) - maps[slot].center for slot, tokens in rows.tokens.items()]
        return torch.stack(parts).mean(dim=0)

    @property
    def by_layer(self) -> dict[str, TextMap]:
        """The fitted map of each layer."""
        return dict(zip(self.layers, self.maps, strict=True))  # type: ignore[arg-type]

    def _rows(self, features: Features | Sequence[Features], joint: bool) -> list[Rows]:
        widths = {layer: int(fitted.config["in_width"]) for layer, fitted in self.by_layer.items()}
        return gather(as_list(features), widths, joint=joint, tokens_per_row=1, translator=self.name)

    def _check_widths(self) -> None:
        widths = {f"the map of '{layer}'": len(fitted.center) for layer, fitted in self.by_layer.items()}
        widths["the sentence encoder"] = self.encoder.width
        if self.decoder is not None:
            widths["the text decoder"] = self.decoder.width
        if len(set(widths.values())) > 1:
            raise ValueError(f"maps, encoder and decoder must share one space; their widths are {widths}.")

    @property
    def config(self) -> dict[str, Any]:
        """Everything but the maps' tensors."""
        return {
            "maps": {layer: describe_map(fitted) for layer, fitted in self.by_layer.items()},
            "width": self.encoder.width,
            "encoder": self.encoder.reference,
            "decoder": self._decoder_reference(),
            "phrases": list(self.phrases),
            "spread": self.spread,
            "sure_above": self.sure_above,
            "best_of": self.best_of,
            "recall": self.recall,
        }

    def _decoder_reference(self) -> str | None:
        if self.decoder is None:
            return None
        if not self.decoder.reference:
            raise ValueError(
                "the text decoder has no reference that it could be found by again; save it with "
                "`save_pretrained` and load it with `TextDecoder.from_pretrained` first."
            )
        return self.decoder.reference

    @classmethod
    def _build(
        cls,
        *,
        maps: Mapping[str, Mapping[str, Any]],
        width: Size,
        encoder: Reference,
        decoder: Reference | None,
        phrases: Sequence[str],
        spread: Positive,
        sure_above: float,
        best_of: Number,
        recall: Positive | None = None,
    ) -> Self:
        return cls(
            {layer: build_map(width, described) for layer, described in maps.items()},
            TextEncoder.from_pretrained(encoder),
            None if decoder is None else TextDecoder.from_pretrained(decoder),
            phrases=phrases,
            spread=spread,
            sure_above=sure_above,
            best_of=best_of,
            recall=recall,
        )
