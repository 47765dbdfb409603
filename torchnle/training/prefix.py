"""Train a translator's prefix network on features and captions (DeViL, sections 3.2, 3.3, supplement A)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from torchnle.errors import TranslatorMismatchError
from torchnle.training import loop
from torchnle.training.dropout import Draws, pool, present_layers
from torchnle.training.identity import run_identity
from torchnle.training.loop import Examples, Report
from torchnle.training.moments import fit_moments
from torchnle.training.order import Order, Part
from torchnle.training.processes import Share
from torchnle.training.recipe import Recipe
from torchnle.training.supply import Batch, Supply
from torchnle.training.texts import SayTexts, caption_tokens
from torchnle.training.validation import Validation
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.prefix_network import PrefixNetwork


class Pairs(SayTexts):
    """Trains a prefix network on images and captions, with DeViL's two dropouts.

    Args:
        translator: With a network that reads one token of each layer, and the frozen language model.
        supply: Features and captions.
        recipe: All settings.
        order: The pairs of each step.

    Raises:
        TranslatorMismatchError: If the supply's layers are not the network's.
        TypeError: If the network reads several tokens of a layer together.
    """

    network: PrefixNetwork

    def __init__(self, translator: PrefixTranslator, supply: Supply, recipe: Recipe, order: Order) -> None:
        network = _network(translator, supply)
        super().__init__(
            network,
            translator.language_model,
            recipe,
            prompt=translator.prompt,
            opening_length=network.opening_length,
        )
        self.translator, self.supply, self.recipe, self.order = translator, supply, recipe, order

    def identity(self) -> dict[str, str]:
        """Compute the digests of data, vision model, language model, prompt and network."""
        return run_identity(self.translator, self.supply, self.order.parts)

    def begin(self) -> None:
        """Fit the moments with which the network standardises."""
        fit_moments(self.network, self.supply, self.recipe.moments_of)

    def to(self, device: torch.device) -> None:
        """Move the translator with its language model."""
        self.translator.to(device)

    def batches(self, steps: range, share: Share) -> Iterator[list[Examples]]:
        """Yield each step's pairs, pooled over the drawn locations."""
        slices = share.slices(self.recipe.batch_size)
        read = self.supply.batches(self.order.batch(step)[rows] for step in steps for rows in slices)
        for step in steps:
            draws = self._draws(step)
            yield [self._examples(batch, draws[rows]) for rows, batch in zip(slices, read, strict=False)]

    def _draws(self, step: int) -> Draws:
        recipe = self.recipe
        return Draws.of_step(
            recipe.seed,
            step,
            recipe.batch_size,
            self.supply.location_counts,
            layer_dropout=recipe.layer_dropout,
            location_dropout=recipe.location_range,
        )

    def _examples(self, batch: Batch, draws: Draws) -> Examples:
        picks = zip(batch.captions, draws.captions.tolist(), strict=True)
        captions = [texts[int(part * len(texts))] for texts, part in picks]
        device = self.translator.device
        tokens = {layer: x.to(device) for layer, x in batch.tokens.items()}
        read = present_layers(draws.layers, batch.known)
        keep = {layer: mask[:, None].to(device) for layer, mask in read.items()}
        ids = caption_tokens(self.translator, captions, longest=self.recipe.longest)
        return Examples((pool(tokens, draws.locations), keep), ids, batch.items, batch.unreadable)


def train(
    translator: PrefixTranslator,
    supply: Supply,
    recipe: Recipe,
    folder: str | Path,
    *,
    parts: Sequence[Part] | None = None,
    chunks: Sequence[int] | None = None,
    validation: Validation | None = None,
    report: Report = lambda _: None,
) -> PrefixTranslator:
    """Train a translator in place; a killed run resumes and ends with the same weights.

    Args:
        translator: With a network that reads one token of each layer, and the frozen language model.
        supply: Features and captions.
        recipe: All settings.
        folder: For the checkpoints ``last.pt`` and, with validation, ``best.pt``.
        parts: The ranges of pairs and their steps; None = all pairs in all steps.
        chunks: The shard of each pair, if pairs of one shard are read fast together.
        validation: Measures the translator at intervals; the best one is returned.
        report: Called in the main process with the facts of a step or of a validation.

    Returns:
        The translator, with the best weights, in evaluation mode.

    Raises:
        FloatingPointError: As `loop.train`.
        MissingDependencyError: If accelerate is not installed.
        TranslatorMismatchError: If the supply's layers are not the network's.
        ValueError: As `loop.train`.
    """
    order = Order(
        [Part(range(len(supply)))] if parts is None else parts,
        steps=recipe.total,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        chunks=chunks,
    )

    def measure(network: nn.Module) -> dict[str, Any]:
        translator.network = cast(PrefixNetwork, network)
        return {} if validation is None else validation.measure(translator)

    objective = Pairs(translator, supply, recipe, order)
    checked = None if validation is None else measure
    trained = loop.train(objective, recipe, folder, measure=checked, report=report)
    translator.network = cast(PrefixNetwork, trained)
    return translator.eval()


def _network(translator: PrefixTranslator, supply: Supply) -> PrefixNetwork:
    network = translator.network
    if network.tokens_per_row != 1:
        raise TypeError(
            f"a {type(network).__name__} reads {network.tokens_per_row} tokens of an image together; this "
            "training pools each layer into one token. Pass a network of tokens_per_row=1."
        )
    if dict(network.layers) != dict(supply.widths):
        raise TranslatorMismatchError(
            f"translator '{translator.name}' reads layers of widths {network.layers}; the data gives "
            f"{dict(supply.widths)}. Build the translator for these layers."
        )
    return network
