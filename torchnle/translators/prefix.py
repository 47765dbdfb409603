"""Prefix translator: a network maps features to a prefix, after which a frozen language model writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.errors import TranslatorMismatchError
from torchnle.language import decoding, scoring
from torchnle.language.loss import caption_log_probs
from torchnle.language.model import LanguageModel
from torchnle.language.packed import search
from torchnle.language.ranking import Ranking
from torchnle.language.texts import check_texts
from torchnle.translators import kinds
from torchnle.translators.base import Translator
from torchnle.translators.config_values import Number, Reference, check_config
from torchnle.translators.configuration import absolute
from torchnle.translators.prefix_network import PrefixNetwork
from torchnle.translators.rows import Rows, batches
from torchnle.types import ScoreKind
from torchnle.vision.running import evaluating

AnyPrefixTranslator = TypeVar("AnyPrefixTranslator", bound="PrefixTranslator")


class PrefixTranslator(Translator):
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

    score_kind: ClassVar[ScoreKind] = "log_prob"
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
        super().__init__()
        if network.language_width != language_model.width:
            raise TranslatorMismatchError(
                f"the network makes prefixes of width {network.language_width}; the language model "
                f"'{language_model.reference}' reads {language_model.width}. Build the network with "
                f"language_width={language_model.width}."
            )
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}; pass a positive number.")
        self.network, self.language_model = network, language_model
        self.layers = tuple(network.layers)
        self.prompt, self.stop, self.max_new_tokens, self.backbone = prompt, stop, max_new_tokens, backbone
        self.to(language_model.device)

    @property
    def device(self) -> torch.device:
        """The device of the network; `to` keeps the language model there too."""
        return next(self.network.parameters()).device

    @property
    def config(self) -> dict[str, Any]:
        """The network's kind and arguments, the language model's reference, and its prompt and limits.

        Raises:
            ValueError: If the language model was built in code and has no reference to save.
        """
        if not self.language_model.reference:
            raise ValueError(
                "the language model has no reference, so a saved translator could not name it. Load it with "
                "LanguageModel.from_pretrained, or build it with reference=..."
            )
        return {
            "network": kinds.kind_of(type(self.network)),
            "network_config": self.network.config,
            "language_model": absolute(self.language_model.reference),
            "prompt": self.prompt,
            "stop": self.stop,
            "max_new_tokens": self.max_new_tokens,
            "backbone": self.backbone,
        }

    @property
    def adaptable(self) -> Translator | None:
        """The translator that the network uses and whose feature statistics can be replaced, or None."""
        return self.network.adaptable

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of the language model, of the network's models, and of the vision model."""
        return tuple(dict.fromkeys([*super().base_models, *filter(None, self.network.base_models)]))

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

    def describe(
        self,
        rows: Sequence[Rows],
        *,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """Describe every row by a greedily decoded text.

        Args:
            rows: One group per layer, or one of several layers that are read together, as DeViL trains.
            internal_batch_size: The largest number of rows at once.

        Returns:
            One `Description` per row, in row order; `score` is what `score` gives for its text: its
            log-probability in nats, with the network's own evidence added if it has any. `probability` is
            the network's own estimate, if it has one, and the text may be replaced (`PrefixNetwork.judged`).
            Else it is p(text | row) / (p(text | row) + p(text)), with p(text) under the language model
            alone, and a text that is not more probable with the feature than without it is unsure.

        Raises:
            TranslatorMismatchError: If a layer fits no input of the network.
            ValueError: If there are no rows, a feature is NaN or infinite, features and translator are on
                different devices, or layers read together disagree.
        """
        found: list[Description] = []
        with torch.no_grad(), evaluating(self):
            for batch in batches(self._inputs(rows), internal_batch_size):
                decoded = decoding.greedy(
                    self.language_model,
                    self._prefixes(batch),
                    prompt=self.prompt,
                    stop=self.stop,
                    max_new_tokens=self.max_new_tokens,
                    internal_batch_size=internal_batch_size,
                )
                found += self._descriptions(batch, decoded)
        return found

    def score(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Compute the log-probability of every text on every row, in nats, summed over tokens.

        The end token is not scored. A network with evidence of its own adds it, times its weight
        (`PrefixNetwork.evidence`): a DeViL network that starts from a map adds the map's score.

        Args:
            rows: As `describe`.
            texts: The texts.
            prior: Subtract each text's log-probability without a prefix, given BOS and the prompt alone:
                the pointwise mutual information of text and features.
            internal_batch_size: The largest number of rows at once.

        Raises:
            TranslatorMismatchError: If a layer fits no input of the network.
            TypeError: If `texts` is a single string.
            ValueError: As `describe`, or if there are no texts or one is blank.
        """
        spaced = self.follow(texts)
        scores = self._log_probs(rows, spaced, internal_batch_size)
        if self.network.evidence_weight:
            evidence = [self.network.evidence(group, texts) for group in self._inputs(rows)]
            scores = scores + self.network.evidence_weight * torch.cat(evidence)
        return scores - self._prior(spaced) if prior else scores

    def text_lengths(self, texts: Sequence[str]) -> Float[Tensor, "texts"]:
        """Return the number of each text's tokens; see `score`."""
        ids = self.language_model.tokenize(self.follow(texts), self.prompt)
        return torch.tensor([float(len(tokens)) for tokens in ids], device=self.device)

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
            self._all_prefixes(rows, internal_batch_size),
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
            self._all_prefixes(rows, internal_batch_size),
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

    def _log_probs(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        internal_batch_size: int | None,
    ) -> Float[Tensor, "rows texts"]:
        groups = batches(self._inputs(rows), internal_batch_size)
        with evaluating(self):
            parts = [
                scoring.log_prob(
                    self.language_model,
                    self._prefixes(batch),
                    texts,
                    prompt=self.prompt,
                    internal_batch_size=internal_batch_size,
                )
                for batch in groups
            ]
        return torch.cat(parts)

    def _prior(self, texts: Sequence[str]) -> Float[Tensor, "T"]:
        return scoring.prior(self.language_model, texts, prompt=self.prompt)

    def _all_prefixes(
        self,
        rows: Sequence[Rows],
        internal_batch_size: int | None,
    ) -> Float[Tensor, "R P E"]:
        with evaluating(self):
            groups = batches(self._inputs(rows), internal_batch_size)
            return torch.cat([self._prefixes(batch) for batch in groups])

    @property
    def tokens_per_row(self) -> int:  # type: ignore[override]
        """The number of tokens of each layer in a row; see `PrefixNetwork`."""
        return self.network.tokens_per_row

    def _inputs(self, rows: Sequence[Rows]) -> list[Rows]:
        """Map the rows to the network's inputs."""
        self._check_devices(rows)
        return [group.for_inputs(self.network.layers, self.name) for group in rows]

    def _check_devices(self, rows: Sequence[Rows]) -> None:
        devices = sorted({str(x.device) for group in rows for x in group.tokens.values()})
        if devices not in ([], [str(self.device)]) or self.language_model.device != self.device:
            raise ValueError(
                f"translator '{self.name}' is on {self.device}, its language model on "
                f"{self.language_model.device}, the features on {', '.join(devices)}. Bring them to one "
                "device: translator.to(device) moves the language model too."
            )

    def _prefixes(self, batch: Sequence[Rows]) -> Float[Tensor, "R P E"]:
        return torch.cat([self.network(self._tokens(rows)) for rows in batch])

    def _tokens(self, rows: Rows) -> dict[str, Float[Tensor, "R S D"]]:
        dtype = next(self.network.parameters()).dtype
        return {slot: x.to(dtype) for slot, x in rows.tokens.items()}

    def _descriptions(self, batch: Sequence[Rows], decoded: decoding.Decoded) -> Iterator[Description]:
        network, end = self.network, 0
        for rows in batch:
            begin, end = end, end + len(rows)
            texts, scores = decoded.texts[begin:end], decoded.log_probs[begin:end]
            judged = network.judged(rows, texts)
            if judged is None:
                probabilities = self._odds(texts, scores)
            else:
                chosen, probabilities = [text for text, _ in judged], [share for _, share in judged]
                texts, scores = chosen, self._rescored(rows, texts, chosen, scores)
            if network.evidence_weight:
                own = network.evidence(rows, texts).diagonal()
                scores = scores + network.evidence_weight * own.to(scores)
            least = network.sure_above if rows.pooled else network.sure_above_at_location
            for text, score, probability in zip(texts, scores.tolist(), probabilities, strict=True):
                yield Description(
                    text.strip(),
                    score,
                    probability=probability,
                    unsure=probability is not None and probability < least,
                )

    def _rescored(
        self, rows: Rows, written: Sequence[str], chosen: Sequence[str], scores: Float[Tensor, "R"]
    ) -> Float[Tensor, "R"]:
        """The log-probabilities, recomputed for texts that replace the decoded ones."""
        other = [i for i, (old, new) in enumerate(zip(written, chosen, strict=True)) if old != new]
        if not other:
            return scores
        texts, prefixes = self.follow([chosen[i] for i in other]), self._prefixes([rows])[other]
        found = caption_log_probs(self.language_model, prefixes, texts, prompt=self.prompt)
        return scores.index_copy(0, torch.tensor(other, device=scores.device), found.to(scores))

    def _odds(self, texts: Sequence[str], log_probs: Float[Tensor, "R"]) -> Sequence[float | None]:
        """Compute the odds of texts with and without their prefixes, as probabilities; 0 for no text.

        None if the language model has no BOS token, and so no prior.
        """
        lm = self.language_model
        if lm.bos_id is None and lm.eos_id is None and not self.prompt:
            return [None] * len(texts)
        written = list(dict.fromkeys(text for text in texts if text.strip()))
        prior = dict(zip(written, self._prior(written).tolist(), strict=True)) if written else {}
        ratios = [p - prior.get(text, math.inf) for text, p in zip(texts, log_probs.tolist(), strict=True)]
        return [torch.tensor(ratio).sigmoid().item() for ratio in ratios]
