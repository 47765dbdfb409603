"""TExplain's translator with a decoder that attends to the network's output vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.errors import TranslatorMismatchError
from torchnle.language.texts import check_texts
from torchnle.methods.texplain.cross_attention.decoder import CrossAttentionDecoder
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.translators.base import Translator
from torchnle.translators.config_values import Number, Reference, check_config
from torchnle.translators.configuration import absolute
from torchnle.translators.rows import Rows, batches
from torchnle.types import ScoreKind
from torchnle.vision.running import evaluating


class CrossAttentionTranslator(Translator):
    """Describes features by a frozen BERT decoder that attends to vectors computed from them (section 3).

    Args:
        network: Makes the vectors of the tokens of its layer.
        decoder: The frozen decoder.
        max_new_tokens: The largest number of tokens that are written.
        backbone: The reference of the vision model that the network was trained on.

    Raises:
        TranslatorMismatchError: If the network's vectors are not as wide as the decoder's hidden states.
        ValueError: If `max_new_tokens` is not positive.
    """

    score_kind: ClassVar[ScoreKind] = "log_prob"
    frozen_models: ClassVar[tuple[str, ...]] = ("decoder",)

    decoder: CrossAttentionDecoder

    def __init__(
        self,
        network: TExplainNetwork,
        decoder: CrossAttentionDecoder,
        *,
        max_new_tokens: int = 40,
        backbone: str = "",
    ) -> None:
        super().__init__()
        if network.language_width != decoder.width:
            raise TranslatorMismatchError(
                f"the network makes vectors of width {network.language_width}; the decoder attends to "
                f"{decoder.width}. Build the network with language_width={decoder.width}."
            )
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}; pass a positive number.")
        self.network, self.decoder = network, decoder
        self.layers = tuple(network.layers)
        self.max_new_tokens, self.backbone = max_new_tokens, backbone
        self.to(decoder.device)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    @property
    def tokens_per_row(self) -> int:  # type: ignore[override]
        """The number of tokens of the layer in a row."""
        return self.network.tokens_per_row

    @property
    def config(self) -> dict[str, Any]:
        """The network's arguments, the decoder's reference and the limit.

        Raises:
            ValueError: If the decoder was built in code and has no reference to save.
        """
        if not self.decoder.reference:
            raise ValueError(
                "the decoder has no reference, so a saved translator could not name it. Save it, and load it "
                "with CrossAttentionDecoder.from_pretrained."
            )
        return {
            "network_config": self.network.config,
            "decoder": absolute(self.decoder.reference),
            "max_new_tokens": self.max_new_tokens,
            "backbone": self.backbone,
        }

    @classmethod
    def _build(
        cls,
        *,
        network_config: Mapping[str, Any],
        decoder: Reference,
        max_new_tokens: Number = 40,
        backbone: str = "",
    ) -> CrossAttentionTranslator:
        check_config(network_config, TExplainNetwork, "the configuration of TExplainNetwork")
        return cls(
            TExplainNetwork(**network_config),
            CrossAttentionDecoder.from_pretrained(decoder),
            max_new_tokens=max_new_tokens,
            backbone=backbone,
        )

    def describe(self, rows: Sequence[Rows], *, internal_batch_size: int | None = None) -> list[Description]:
        """Write a text for every row.

        Returns:
            One `Description` per row; `score` is its log-probability, and `probability` the odds of the text
            with the features against those of the decoder alone, as `PrefixTranslator` gives them.

        Raises:
            TranslatorMismatchError: If the layer is not the network's.
            ValueError: If there are no rows.
        """
        found = []
        with torch.no_grad(), evaluating(self):
            for batch in batches(self._inputs(rows), internal_batch_size):
                written = self.decoder.greedy(self._states(batch), max_new_tokens=self.max_new_tokens)
                odds = self._odds(written.ids, written.log_probs)
                scores = written.log_probs.tolist()
                found += [
                    Description(text.strip(), score, probability=share, unsure=share < 0.5)
                    for text, score, share in zip(written.texts, scores, odds, strict=True)
                ]
        return found

    def score(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Compute the log-probability of every text on every row, in nats, without an end token.

        Args:
            rows: As `describe`.
            texts: The texts.
            prior: Subtract each text's log-probability under the decoder alone.
            internal_batch_size: The largest number of rows at once.
        """
        ids = self.decoder.tokenize(check_texts(texts))
        parts = []
        with evaluating(self):
            for batch in batches(self._inputs(rows), internal_batch_size):
                states = self._states(batch)
                columns = [self.decoder.log_probs(states, [text] * len(states)) for text in ids]
                parts.append(torch.stack(columns, dim=1))
        scores = torch.cat(parts)
        return scores - self.decoder.log_probs(None, ids).detach() if prior else scores

    def text_lengths(self, texts: Sequence[str]) -> Float[Tensor, "texts"]:
        """Return the number of each text's tokens; see `score`."""
        return torch.tensor([float(len(ids)) for ids in self.decoder.tokenize(texts)])

    @torch.no_grad()
    def vectors(self, rows: Rows) -> Float[Tensor, "R P E"]:
        """Compute the vectors that the decoder attends to, in evaluation mode.

        Raises:
            TranslatorMismatchError: If the layer is not the network's.
        """
        with evaluating(self):
            return self._states(self._inputs([rows]))

    def _inputs(self, rows: Sequence[Rows]) -> list[Rows]:
        return [group.for_inputs(self.network.layers, self.name) for group in rows]

    def _states(self, batch: Sequence[Rows]) -> Float[Tensor, "R P E"]:
        dtype = next(self.network.parameters()).dtype
        return torch.cat(
            [self.network({layer: x.to(dtype) for layer, x in rows.tokens.items()}) for rows in batch]
        )

    def _odds(self, ids: Sequence[list[int]], log_probs: Float[Tensor, "R"]) -> list[float]:
        written = [text or [self.decoder.end_id] for text in ids]
        prior = self.decoder.log_probs(None, written)
        found: list[float] = (log_probs - prior).sigmoid().tolist()
        return [share if text else 0.0 for share, text in zip(found, ids, strict=True)]
