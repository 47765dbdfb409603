"""A whole training run of TExplain from a recipe file, in two stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from torchnle import backbones
from torchnle.data import Mixture
from torchnle.data.recipe_tables import DataTable, read_recipe
from torchnle.language.model import LanguageModel
from torchnle.methods.texplain.cross_attention.decoder import CrossAttentionDecoder
from torchnle.methods.texplain.cross_attention.translator import CrossAttentionTranslator
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.methods.texplain.training.objective import AnyTExplain
from torchnle.methods.texplain.training.settings import Network
from torchnle.methods.texplain.training.stages import Stage
from torchnle.methods.texplain.training.stages import train as train_stages
from torchnle.training import loop, processes
from torchnle.training.log import RunLog
from torchnle.training.recipe import DTYPES, DataLoading, Language, LoopRecipe, Vision
from torchnle.training.supply import LiveFeatures, Supply
from torchnle.translators.prefix import PrefixTranslator

_TABLES: dict[str, type] = {
    "vision": Vision,
    "language": Language,
    "network": Network,
    "training": LoopRecipe,
    "finetuning": LoopRecipe,
    "loading": DataLoading,
}
_DATA = ("data", "finetuning_data", "validation")


@dataclass(frozen=True)
class Run:
    """A recipe file of TExplain, read and checked, with nothing loaded yet.

    Args:
        output: The folder for checkpoints, log and the translator.
        vision: The vision model, of which one layer is read.
        language: The frozen language model.
        network: The perceptron.
        training: The settings of the first stage.
        data: Tables of its data.
        finetuning: The settings of the second stage; None = there is none.
        finetuning_data: Tables of the second stage's data.
        validation: Tables of held-out data; none = no validation.
        loading: How features come to the network.
    """

    output: Path
    vision: Vision
    language: Language
    training: LoopRecipe
    data: tuple[DataTable, ...]
    network: Network = field(default_factory=Network)
    finetuning: LoopRecipe | None = None
    finetuning_data: tuple[DataTable, ...] = ()
    validation: tuple[DataTable, ...] = ()
    loading: DataLoading = field(default_factory=DataLoading)

    @classmethod
    def read(cls, path: str | Path, settings: Sequence[str] = ()) -> Run:
        """Read a recipe file.

        Args:
            path: A TOML file, or the name of a shipped one (torchnle/recipes).
            settings: Changes, "training.steps=100".

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not TOML, a key or value is not known, or it names no layer or several.
        """
        run = read_recipe(cls, path, settings, tables=_TABLES, data=_DATA)
        run.check()
        return run

    def check(self) -> None:
        """Refuse a recipe whose tables contradict each other.

        Raises:
            ValueError: If a table is wrong; the message names it.
        """
        if len(self.vision.layers) != 1:
            raise ValueError(f"[vision] layers = {list(self.vision.layers)}: TExplain reads one layer.")
        if not self.data:
            raise ValueError("the recipe has no data; add a table [[data]] with kind = 'file' or another.")
        if (self.finetuning is None) != (not self.finetuning_data):
            raise ValueError(
                "a second stage has settings and data: give both [finetuning] and [[finetuning_data]], or "
                "neither."
            )
        if any(table.start or table.stop for table in (*self.data, *self.finetuning_data)):
            raise ValueError(
                "start and stop of a data table are DeViL's; here a stage reads all of its tables from its "
                "first step to its last. Leave them out."
            )


def train(run: Run, *, tensorboard: bool = False, progress: bool = True) -> tuple[AnyTExplain, RunLog]:
    """Train by a recipe, or resume its run, and save the translator in ``output/translator``.

    Args:
        run: The recipe.
        tensorboard: Write for TensorBoard too.
        progress: Show a progress bar.

    Raises:
        FloatingPointError: If a loss or gradient is not finite.
        OSError: If there is no room on the disk.
        ValueError: If something in the recipe does not fit; the message says what.
    """
    backbone = backbones.load(run.vision.model, fit=run.vision.fit, pretrained=run.vision.pretrained)
    recipes = [run.training, *([] if run.finetuning is None else [run.finetuning])]
    tables = {"stage_1": run.data, "stage_2": run.finetuning_data, "validation": run.validation}
    supplies = {name: _supply(run, backbone, name, part) for name, part in tables.items() if part}
    translator = _translator(run, supplies["stage_1"])
    stages = [Stage(supplies[f"stage_{n}"], recipe) for n, recipe in enumerate(recipes, start=1)]
    main = processes.state().is_main_process
    done = sum(loop.steps_done(run.output / f"stage_{n}") for n in range(1, len(stages) + 1))
    with RunLog(
        run.output,
        sum(recipe.total for recipe in recipes),
        done=done,
        tensorboard=tensorboard and main,
        progress=progress and main,
    ) as log:
        offsets = {1: 0, 2: run.training.total}

        def report(facts: dict[str, Any]) -> None:
            log({**facts, "step": facts["step"] + offsets[facts["stage"]]})

        train_stages(translator, stages, run.output, validation=supplies.get("validation"), report=report)
    if main:
        translator.save_pretrained(run.output / "translator", dtype=DTYPES[run.network.dtype])
    return translator, log


def _supply(run: Run, backbone: backbones.Backbone, name: str, tables: Sequence[DataTable]) -> Supply:
    live = LiveFeatures(
        backbone.model,
        list(run.vision.layers),
        Mixture([table.open() for table in tables]),
        backbone.preprocess,
        workers=run.loading.workers,
        extra=not run.network.pooled,
    )
    return processes.supply_of(live, run.loading, name)


def _translator(run: Run, supply: Supply) -> AnyTExplain:
    ((layer, width),) = supply.widths.items()
    network, language = run.network, run.language
    dtype: Any = "auto" if language.dtype == "auto" else DTYPES[language.dtype]
    attended = network.decoder == "cross-attention"
    if attended and (language.prompt or language.stop is not None):
        raise ValueError("[language] prompt and stop are for decoder = 'prefix'; leave both out.")
    kind = CrossAttentionDecoder if attended else LanguageModel
    frozen = kind.from_pretrained(language.model, dtype=dtype)
    torch.manual_seed(run.training.seed)
    built = TExplainNetwork(
        {layer: width},
        frozen.width,
        tokens=1 if network.pooled else supply.location_counts[layer],
        mode=network.mode,
        prefix_length=network.prefix_length or None,
        hidden=network.hidden or None,
        activation=network.activation,
    )
    options: dict[str, Any] = {"max_new_tokens": language.max_new_tokens, "backbone": run.vision.model}
    if isinstance(frozen, CrossAttentionDecoder):
        return CrossAttentionTranslator(built, frozen, **options)
    return PrefixTranslator(built, frozen, prompt=language.prompt, stop=language.stop, **options)
