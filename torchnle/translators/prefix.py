"""Prefix translator: a network maps features to a prefix, after which a frozen language model writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language import decoding, scoring
from torchnle.language.loss import caption_log_probs
from torchnle.language.model import LanguageModel
from torchnle.language.packed import search
from torchnle.language.ranking import Ranking
from torchnle.language.texts import check_texts
from torchnle.translators import kinds
from torchnle.translators.config_values import Number, Reference, check_config
from torchnle.translators.generative import GenerativeTranslator
from torchnle.translators.prefix_network import PrefixNetwork
from torchnle.translators.rows import Rows

AnyPrefixTranslator = TypeVar("AnyPrefixTranslator", bound="PrefixTranslator")


class PrefixTranslator(GenerativeTranslator):
    """Describes features by a frozen language model that decodes a text after a prefix computed from them.

    The language model reads BOS (if it has one), the prefix, and the prompt; then it decodes greedily, or
    scores a text by its log-probability (DeViL, equation 1 and section 3.4). It is no submodule: it is not in
    `parameters`, `state_dict` or the saved weights, but moves with `to`.

    Args:
        network: The network from the tokens of its layers to prefixes.
        language_model: The frozen language model.
        prompt: Text between the prefix and the text that is decoded or scored.
        stop: A string that ends a decoded text, besides the end-of-sequence token.
        max_new_tokens: The largest number of decoded tokens.
        backbone: The reference of the vision model that the network was trained on.

    Raises:
        TranslatorMismatchError: If the network's prefixes are not as wide as the language model's embeddings.
        ValueError: If `max_new_tokens` is not positive.
    """

    frozen_models: ClassVar[tuple[str, ...]] = ("language_model",)

    language_model: LanguageModel

    def __init__(
        self,
        network: PrefixNetwork,
        language_model: LanguageModel,
        *,
        prompt: str = "",
        stop: str | None = None,
        max_new_tokens: int = 20,
        backbone: str = "",
    ) -> None:
        super().__init__(network, language_model, max_new_tokens=max_new_tokens, backbone=backbone)
        self.language_model, self.prompt, self.stop = language_model, prompt, stop
        self.to(language_model.device)

    @property
    def _frozen(self) -> LanguageModel:
        return self.language_model

    @property
    def config(self) -> dict[str, Any]:
        """The network's kind and arguments, the language model's reference, and its prompt and limits.

        Raises:
            ValueError: If the language model was built in code and has no reference to save.
        """
        return {
            "network": kinds.kind_of(type(self.network)),
            "network_config": self.network.config,
            "language_model": self._reference(),
            "prompt": self.prompt,
            "stop": self.stop,
            "max_new_tokens": self.max_new_tokens,
            "backbone": self.backbone,
        }

    @classmethod
    def _build(
        cls: type[AnyPrefixTranslator],
        *,
        network: str,
        network_config: Mapping[str, Any],
        language_model: Reference,
        prompt: str = "",
        stop: str | None = None,
        max_new_tokens: Number = 20,
        backbone: str = "",
    ) -> AnyPrefixTranslator:
        network_class = kinds.find(network, PrefixNetwork)  # type: ignore[type-abstract]
        build = getattr(network_class, "_build", network_class)
        check_config(network_config, build, f"the configuration of {network_class.__name__}")
        return cls(
            build(**network_config),
            LanguageModel.from_pretrained(language_model),
            prompt=prompt,
            stop=stop,
            max_new_tokens=max_new_tokens,
            backbone=backbone,
        )

    @torch.no_grad()
    def top_texts(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        k: int,
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Ranking:
        """Find the `k` texts of highest score on every row, exactly, without scoring all of them.

        If the network has evidence of its own, all texts are scored.

        Raises:
            TranslatorMismatchError: If a layer fits no input of the network.
            TypeError: If `texts` is a single string.
            ValueError: As `score`, or if `k` is not positive.
        """
        if self.network.evidence_weight:
            return super().top_texts(rows, texts, k, prior=prior, internal_batch_size=internal_batch_size)
        lm, texts = self.language_model, self.follow(texts)
        return search.top_texts(
            lm,
            self.vectors(rows, internal_batch_size=internal_batch_size),
            texts,
            k,
            prompt=self.prompt,
            offsets=-self._prior(texts) if prior else None,
            internal_batch_size=internal_batch_size,
        )

    @torch.no_grad()
    def top_rows(
        self,
        rows: Sequence[Rows],
        text: str,
        k: int,
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Ranking:
        """Find the `k` rows of highest score for a text, exactly, without scoring all of them.

        If the network has evidence of its own, all rows are scored.

        Raises:
            TranslatorMismatchError: If a layer fits no input of the network.
            ValueError: As `score`, or if `k` is not positive.
        """
        if self.network.evidence_weight:
            return super().top_rows(rows, text, k, prior=prior, internal_batch_size=internal_batch_size)
        (text,) = self.follow([text])
        found = search.top_rows(
            self.language_model,
            self.vectors(rows, internal_batch_size=internal_batch_size),
            text,
            k,
            prompt=self.prompt,
            internal_batch_size=internal_batch_size,
        )
        return replace(found, scores=found.scores - self._prior([text])) if prior else found

    def follow(self, texts: Sequence[str]) -> list[str]:
        """Return the texts as continuations of a prompt: each after a space.

        Raises:
            TypeError: If `texts` is a single string.
            ValueError: If there are no texts or one is blank.
        """
        spaced = bool(self.prompt) and self.prompt[-1] not in "\n\t"
        return [f" {text.lstrip()}" if spaced else text for text in check_texts(texts)]

    def _decode(self, vectors: Float[Tensor, "R P E"], internal_batch_size: int | None) -> decoding.Decoded:
        return decoding.greedy(
            self.language_model,
            vectors,
            prompt=self.prompt,
            stop=self.stop,
            max_new_tokens=self.max_new_tokens,
            internal_batch_size=internal_batch_size,
        )

    def _text_log_probs(
        self, vectors: Float[Tensor, "R P E"], texts: Sequence[str], internal_batch_size: int | None
    ) -> Float[Tensor, "R T"]:
        return scoring.log_prob(
            self.language_model, vectors, texts, prompt=self.prompt, internal_batch_size=internal_batch_size
        )

    def _own_log_probs(self, vectors: Float[Tensor, "R P E"], texts: Sequence[str]) -> Float[Tensor, "R"]:
        return caption_log_probs(self.language_model, vectors, texts, prompt=self.prompt)

    def _prior(self, texts: Sequence[str]) -> Float[Tensor, "T"]:
        return scoring.prior(self.language_model, texts, prompt=self.prompt)

    def _odds(self, decoded: decoding.Decoded) -> Sequence[float | None]:
        """Compute the odds of decoded texts, as probabilities.

        None if the language model has no BOS token, and so no prior.
        """
        lm, texts = self.language_model, decoded.texts
        if lm.bos_id is None and lm.eos_id is None and not self.prompt:
            return [None] * len(texts)
        written = list(dict.fromkeys(text for text in texts if text.strip()))
        prior = dict(zip(written, self._prior(written).tolist(), strict=True)) if written else {}
        scored = zip(texts, decoded.log_probs.tolist(), strict=True)
        return [torch.tensor(p - prior.get(text, math.inf)).sigmoid().item() for text, p in scored]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self.language_model.tokenize(texts, self.prompt)
