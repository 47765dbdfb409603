"""The base of translators that compute vectors of features on which a frozen language model writes texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.errors import TranslatorMismatchError
from torchnle.language.decoding import Decoded
from torchnle.language.texts import check_texts
from torchnle.translators.base import Translator
from torchnle.translators.configuration import absolute
from torchnle.translators.prefix_network import PrefixNetwork
from torchnle.translators.pretrained import Frozen
from torchnle.translators.rows import Rows, batches
from torchnle.types import ScoreKind
from torchnle.vision.running import evaluating


@runtime_checkable
class FrozenReader(Frozen, Protocol):
    """A frozen language model that reads vectors."""

    @property
    def width(self) -> int:
        """The width of the vectors that it reads."""


class GenerativeTranslator(Translator):
    """Describes features by a frozen language model that writes a text on vectors computed from them.

    A subclass keeps the language model under a name of its own, returns it by `_frozen`, and defines how it
    writes and scores texts on given vectors.

    Args:
        network: The network from the tokens of its layers to vectors.
        frozen: The frozen language model.
        max_new_tokens: The largest number of decoded tokens.
        backbone: The reference of the vision model that the network was trained on.

    Raises:
        TranslatorMismatchError: If the network's vectors are not as wide as those that the model reads.
        ValueError: If `max_new_tokens` is not positive.
    """

    score_kind: ClassVar[ScoreKind] = "log_prob"

    def __init__(
        self, network: PrefixNetwork, frozen: FrozenReader, *, max_new_tokens: int, backbone: str
    ) -> None:
        super().__init__()
        if network.language_width != frozen.width:
            raise TranslatorMismatchError(
                f"the network makes vectors of width {network.language_width}; {type(frozen).__name__} "
                f"'{frozen.reference}' reads {frozen.width}. Build the network with "
                f"language_width={frozen.width}."
            )
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}; pass a positive number.")
        self.network, self.layers = network, tuple(network.layers)
        self.max_new_tokens, self.backbone = max_new_tokens, backbone

    @property
    @abstractmethod
    def _frozen(self) -> FrozenReader:
        """The frozen language model."""

    @abstractmethod
    def _decode(self, vectors: Float[Tensor, "R P E"], internal_batch_size: int | None) -> Decoded:
        """Decode a text greedily on each row's vectors."""

    @abstractmethod
    def _text_log_probs(
        self, vectors: Float[Tensor, "R P E"], texts: Sequence[str], internal_batch_size: int | None
    ) -> Float[Tensor, "R T"]:
        """Compute the log-probability of every text on every row's vectors."""

    @abstractmethod
    def _own_log_probs(self, vectors: Float[Tensor, "R P E"], texts: Sequence[str]) -> Float[Tensor, "R"]:
        """Compute the log-probability of each row's own text."""

    @abstractmethod
    def _prior(self, texts: Sequence[str]) -> Float[Tensor, "T"]:
        """Compute the log-probability of every text under the language model alone."""

    @abstractmethod
    def _odds(self, decoded: Decoded) -> Sequence[float | None]:
        """Compute the odds of texts with and without their vectors, as probabilities; 0 for no text."""

    @abstractmethod
    def _tokenize(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Turn texts, as `follow` returns them, into the tokens that are scored."""

    def follow(self, texts: Sequence[str]) -> list[str]:
        """Return the texts as they are scored.

        Raises:
            TypeError: If `texts` is a single string.
            ValueError: If there are no texts or one is blank.
        """
        return list(check_texts(texts))

    @property
    def device(self) -> torch.device:
        """The device of the network; `to` keeps the language model there too."""
        return next(self.network.parameters()).device

    @property
    def tokens_per_row(self) -> int:  # type: ignore[override]
        """The number of tokens of each layer in a row; see `PrefixNetwork`."""
        return self.network.tokens_per_row

    @property
    def adaptable(self) -> Translator | None:
        """The translator that the network uses and whose feature statistics can be replaced, or None."""
        return self.network.adaptable

    @property
    def base_models(self) -> tuple[str, ...]:
        """The references of the language model, of the network's models, and of the vision model."""
        return tuple(dict.fromkeys([*super().base_models, *filter(None, self.network.base_models)]))

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
                found += self._descriptions(batch, self._decode(self._vectors(batch), internal_batch_size))
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
            prior: Subtract each text's log-probability under the language model alone, given its start and
                the prompt: the pointwise mutual information of text and features.
            internal_batch_size: The largest number of rows at once.

        Raises:
            TranslatorMismatchError: If a layer fits no input of the network.
            TypeError: If `texts` is a single string.
            ValueError: As `describe`, or if there are no texts or one is blank.
        """
        followed = self.follow(texts)
        scores = self._log_probs(rows, followed, internal_batch_size)
        if self.network.evidence_weight:
            evidence = [self.network.evidence(group, texts) for group in self._inputs(rows)]
            scores = scores + self.network.evidence_weight * torch.cat(evidence)
        return scores - self._prior(followed) if prior else scores

    def text_lengths(self, texts: Sequence[str]) -> Float[Tensor, "texts"]:
        """Return the number of each text's tokens; see `score`."""
        lengths = [float(len(ids)) for ids in self._tokenize(self.follow(texts))]
        return torch.tensor(lengths, device=self.device)

    @torch.no_grad()
    def vectors(
        self, rows: Sequence[Rows], *, internal_batch_size: int | None = None
    ) -> Float[Tensor, "R P E"]:
        """Compute the vectors of every row that the language model reads, in evaluation mode.

        Raises:
            TranslatorMismatchError: If a layer fits no input of the network.
            ValueError: As `describe`.
        """
        with evaluating(self):
            groups = batches(self._inputs(rows), internal_batch_size)
            return torch.cat([self._vectors(batch) for batch in groups])

    def _log_probs(
        self, rows: Sequence[Rows], texts: Sequence[str], internal_batch_size: int | None
    ) -> Float[Tensor, "rows texts"]:
        groups = batches(self._inputs(rows), internal_batch_size)
        with evaluating(self):
            parts = [self._text_log_probs(self._vectors(b), texts, internal_batch_size) for b in groups]
        return torch.cat(parts)

    def _inputs(self, rows: Sequence[Rows]) -> list[Rows]:
        """Map the rows to the network's inputs."""
        devices = sorted({str(x.device) for group in rows for x in group.tokens.values()})
        if devices not in ([], [str(self.device)]) or self._frozen.device != self.device:
            raise ValueError(
                f"translator '{self.name}' is on {self.device}, its language model on "
                f"{self._frozen.device}, the features on {', '.join(devices)}. Bring them to one "
                "device: translator.to(device) moves the language model too."
            )
        return [group.for_inputs(self.network.layers, self.name) for group in rows]

    def _vectors(self, batch: Sequence[Rows]) -> Float[Tensor, "R P E"]:
        dtype = next(self.network.parameters()).dtype
        return torch.cat(
            [self.network({slot: x.to(dtype) for slot, x in rows.tokens.items()}) for rows in batch]
        )

    def _descriptions(self, batch: Sequence[Rows], decoded: Decoded) -> Iterator[Description]:
        end = 0
        for rows in batch:
            begin, end = end, end + len(rows)
            yield from self._judged(rows, decoded[torch.arange(begin, end)])

    def _judged(self, rows: Rows, decoded: Decoded) -> Iterator[Description]:
        """Yield one group's descriptions: the network's own texts and probabilities, or the decoded ones."""
        network, texts, scores = self.network, decoded.texts, decoded.log_probs
        judged = network.judged(rows, texts)
        if judged is None:
            probabilities = self._odds(decoded)
        else:
            texts, probabilities = [text for text, _ in judged], [share for _, share in judged]
            scores = self._rescored(rows, decoded, texts)
        if network.evidence_weight:
            own = network.evidence(rows, texts).diagonal()
            scores = scores + network.evidence_weight * own.to(scores)
        least = network.sure_above if rows.pooled else network.sure_above_at_location
        for text, score, probability in zip(texts, scores.tolist(), probabilities, strict=True):
            unsure = probability is not None and probability < least
            yield Description(text.strip(), score, probability=probability, unsure=unsure)

    def _rescored(self, rows: Rows, decoded: Decoded, texts: Sequence[str]) -> Float[Tensor, "R"]:
        """Return the log-probabilities of texts, computed anew where a text replaces the decoded one."""
        scores = decoded.log_probs
        other = [i for i, (old, new) in enumerate(zip(decoded.texts, texts, strict=True)) if old != new]
        if not other:
            return scores
        found = self._own_log_probs(self._vectors([rows])[other], self.follow([texts[i] for i in other]))
        return scores.index_copy(0, torch.tensor(other, device=scores.device), found.to(scores))

    def _reference(self) -> str:
        """Return the language model's reference, as it is saved.

        Raises:
            ValueError: If it was built in code and has none.
        """
        if not self._frozen.reference:
            what = self.frozen_models[0].replace("_", " ")
            raise ValueError(
                f"the {what} has no reference, so a saved translator could not name it. Load it with "
                "from_pretrained, or build it with reference=..."
            )
        return absolute(self._frozen.reference)
