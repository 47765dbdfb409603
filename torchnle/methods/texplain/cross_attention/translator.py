"""TExplain's translator with a decoder that attends to the network's output vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.decoding import Decoded
from torchnle.methods.texplain.cross_attention.decoder import CrossAttentionDecoder
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.translators.config_values import Number, Reference, check_config
from torchnle.translators.generative import GenerativeTranslator


class CrossAttentionTranslator(GenerativeTranslator):
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
        super().__init__(network, decoder, max_new_tokens=max_new_tokens, backbone=backbone)
        self.decoder = decoder
        self.to(decoder.device)

    @property
    def _frozen(self) -> CrossAttentionDecoder:
        """The frozen decoder."""
        return self.decoder

    @property
    def config(self) -> dict[str, Any]:
        """The network's arguments, the decoder's reference and the limit.

        Raises:
            ValueError: If the decoder was built in code and has no reference to save.
        """
        return {
            "network_config": self.network.config,
            "decoder": self._reference(),
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

    def _decode(self, vectors: Float[Tensor, "R P E"], internal_batch_size: int | None) -> Decoded:
        return self.decoder.greedy(vectors, max_new_tokens=self.max_new_tokens)

    def _text_log_probs(
        self, vectors: Float[Tensor, "R P E"], texts: Sequence[str], internal_batch_size: int | None
    ) -> Float[Tensor, "R T"]:
        columns = [self.decoder.log_probs(vectors, [ids] * len(vectors)) for ids in self._tokenize(texts)]
        return torch.stack(columns, dim=1)

    def _own_log_probs(self, vectors: Float[Tensor, "R P E"], texts: Sequence[str]) -> Float[Tensor, "R"]:
        return self.decoder.log_probs(vectors, self._tokenize(texts))

    def _prior(self, texts: Sequence[str]) -> Float[Tensor, "T"]:
        return self.decoder.log_probs(None, self._tokenize(texts)).detach()

    def _odds(self, decoded: Decoded) -> list[float]:
        prior = self.decoder.log_probs(None, [ids or [self.decoder.end_id] for ids in decoded.ids])
        found: list[float] = (decoded.log_probs - prior).sigmoid().tolist()
        return [share if ids else 0.0 for share, ids in zip(found, decoded.ids, strict=True)]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self.decoder.tokenize(texts)
