"""Validation of a translator on held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torchnle.language.loss import ids_log_probs
from torchnle.training.dropout import pool
from torchnle.training.supply import Supply
from torchnle.training.texts import caption_tokens
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.rows import Rows

#: Maps candidates and the references of each to a number; higher is better (CIDEr).
Scorer: TypeAlias = Callable[[Sequence[str], Sequence[Sequence[str]]], float]


@dataclass(frozen=True)
class Validation:
    """Measures a translator on held-out pairs: its loss with all layers and with each, and a caption score.

    Args:
        supply: Features and captions, all of which are used.
        scorer: Scores descriptions against captions; it then decides which translator is best. None = the
            loss decides.
        described: The number of images that are described for the scorer.
        batch_size: Pairs at a time.
    """

    supply: Supply
    scorer: Scorer | None = None
    described: int = 256
    batch_size: int = 64

    @torch.no_grad()
    def measure(self, translator: PrefixTranslator) -> dict[str, Any]:
        """Measure a translator on the held-out pairs.

        Args:
            translator: The translator.

        Returns:
            "loss" and "loss_by_layer" in nats per token, "score", and "criterion", by which the best weights
            are chosen (higher is better).
        """
        translator.eval()
        nats: dict[str, list[Tensor]] = {name: [] for name in ("", *self.supply.widths)}
        tokens, descriptions, references = 0, list[str](), list[tuple[str, ...]]()
        count = len(self.supply)
        numbers = [list(range(i, min(i + self.batch_size, count))) for i in range(0, count, self.batch_size)]
        for batch in self.supply.batches(numbers):
            pooled = {layer: x.to(translator.device) for layer, x in pool(batch.tokens).items()}
            ids = caption_tokens(translator, [texts[0] for texts in batch.captions])
            tokens += sum(map(len, ids))
            for name in nats:
                chosen = {name: pooled[name]} if name else pooled
                nats[name].append(-_log_probs(translator, chosen, ids))
            if self.scorer is not None and len(descriptions) < self.described:
                descriptions += [d.text for d in translator.describe([Rows(pooled)])]
                references += batch.captions
        losses = {name: float(torch.cat(parts).sum()) / tokens for name, parts in nats.items()}
        found: dict[str, Any] = {"loss": losses.pop(""), "loss_by_layer": losses}
        if self.scorer is not None:
            found["score"] = float(self.scorer(descriptions, references))
        return {**found, "criterion": found.get("score", -found["loss"])}


def _log_probs(translator: PrefixTranslator, tokens: dict[str, Tensor], ids: list[list[int]]) -> Tensor:
    prefixes = translator.network(tokens)
    return ids_log_probs(translator.language_model, prefixes, ids, prompt=translator.prompt)
