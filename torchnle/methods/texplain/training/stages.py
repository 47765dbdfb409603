"""The two stages of TExplain's training: on much data first, then on the best (section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from torchnle.hub.digest import digest_module
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.methods.texplain.training.objective import (
    AnyTExplain,
    WholeImages,
    caption_ids,
    caption_scores,
    check_supply,
    inputs_of,
)
from torchnle.training import loop
from torchnle.training.loop import Report
from torchnle.training.order import Order, Part
from torchnle.training.recipe import LoopRecipe
from torchnle.training.supply import Supply

_BATCH = 64


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Args:
        supply: Features and captions.
        recipe: Its settings.
    """

    supply: Supply
    recipe: LoopRecipe


def train(
    translator: AnyTExplain,
    stages: Sequence[Stage],
    folder: str | Path,
    *,
    validation: Supply | None = None,
    longest: int = 60,
    report: Report = lambda _: None,
) -> AnyTExplain:
    """Train a translator in place, stage after stage; a killed run resumes and ends with the same weights.

    The paper's stages are 20 epochs on captions of the web and of Visual Genome, and 5 epochs on COCO, at a
    batch size of 512. Each has an optimiser and a learning rate of its own, and starts from the best weights
    of the stage before.

    Args:
        translator: The translator.
        stages: The stages, in order.
        folder: For the checkpoints, in a folder a stage.
        validation: Held-out pairs, by whose loss the best weights of a stage are chosen.
        longest: The largest number of tokens of a caption; the rest is cut off.
        report: Called in the main process with the facts of a step or of a validation, and "stage".

    Returns:
        The translator, in evaluation mode.

    Raises:
        FloatingPointError: As `loop.train`.
        TranslatorMismatchError: If the layers or tokens of a supply are not the network's.
        ValueError: If there is no stage; as `loop.train`.
    """
    if not stages:
        raise ValueError("there is no stage to train; pass one or more.")
    for supply in [*(stage.supply for stage in stages), *([] if validation is None else [validation])]:
        check_supply(translator, supply)

    def measure(network: nn.Module) -> dict[str, Any]:
        translator.network = cast(TExplainNetwork, network)
        return {} if validation is None else held_out(translator, validation, longest=longest)

    for number, stage in enumerate(stages, start=1):
        start = digest_module(translator.network) if number > 1 else ""
        objective = WholeImages(
            translator, stage.supply, stage.recipe, _order(stage), longest=longest, start=start
        )
        trained = loop.train(
            objective,
            stage.recipe,
            Path(folder) / f"stage_{number}",
            measure=None if validation is None else measure,
            report=lambda facts, number=number: report({"stage": number, **facts}),  # type: ignore[misc]
        )
        translator.network = cast(TExplainNetwork, trained)
    return translator.eval()


@torch.no_grad()
def held_out(translator: AnyTExplain, supply: Supply, *, longest: int = 60) -> dict[str, Any]:
    """Measure the nats per token of captions of held-out pairs: "loss", and "criterion", minus that."""
    translator.eval()
    nats: list[Tensor] = []
    tokens = 0
    starts = range(0, len(supply), _BATCH)
    for batch in supply.batches([range(i, min(i + _BATCH, len(supply))) for i in starts]):
        ids = caption_ids(translator, [texts[0] for texts in batch.captions], longest)
        vectors = translator.network(inputs_of(translator, batch.tokens))
        nats.append(-caption_scores(translator, vectors, ids))
        tokens += sum(map(len, ids))
    loss = float(torch.cat(nats).sum()) / tokens
    return {"loss": loss, "criterion": -loss}


def _order(stage: Stage) -> Order:
    recipe = stage.recipe
    return Order(
        [Part(range(len(stage.supply)))],
        steps=recipe.total,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
    )
