"""A training run from a recipe file: models, data, training, and the saved translator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from torchnle import backbones
from torchnle.data import Mixture
from torchnle.data.recipe_tables import DataTable, read_recipe
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.language.model import LanguageModel
from torchnle.methods.aligned.fit import class_phrase
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.devil import devil_translator
from torchnle.methods.devil.map_start import MapStart
from torchnle.methods.devil.training.class_features import ClassFeatures
from torchnle.methods.devil.training.settings import Classes, Map, Network
from torchnle.methods.devil.training.start_map import start_map
from torchnle.metrics import captions
from torchnle.training import loop, prefix, processes
from torchnle.training.log import RunLog
from torchnle.training.order import Part
from torchnle.training.recipe import DTYPES, DataLoading, Language, ModelSelection, Recipe, Vision
from torchnle.training.supply import LiveFeatures, Supply
from torchnle.training.validation import Scorer, Validation
from torchnle.translators.prefix import PrefixTranslator

#: The tables of a recipe, by name, and the classes that hold their keys.
TABLES: dict[str, type] = {
    "vision": Vision,
    "language": Language,
    "network": Network,
    "training": Recipe,
    "model_selection": ModelSelection,
    "loading": DataLoading,
    "classes": Classes,
    "map": Map,
}


@dataclass(frozen=True)
class Run:
    """The checked settings of a recipe file; no model or data is loaded yet.

    Args:
        output: The folder for checkpoints, log and the translator.
        vision: The vision model.
        language: The language model.
        network: The translation network.
        training: The settings of training.
        data: Tables of training data, all of which are read together.
        map: The map from text into features that training starts from; None = the paper's start.
        classes: Pairs of the classifier's own classes, read beside the data.
        model_selection: The measure by which the best weights are chosen.
        validation: Tables of validation data; none = no validation.
        loading: How features come to the network.
    """

    output: Path
    vision: Vision
    language: Language
    network: Network
    training: Recipe
    data: tuple[DataTable, ...]
    map: Map | None = None
    classes: Classes = field(default_factory=Classes)
    model_selection: ModelSelection = field(default_factory=ModelSelection)
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
            ValueError: If it is not TOML, or a key or value is not known; the message names the nearest.
        """
        return read_recipe(cls, path, settings, tables=TABLES, data=("data", "validation"))


def train(run: Run, *, tensorboard: bool = False, progress: bool = True) -> tuple[PrefixTranslator, RunLog]:
    """Train by a recipe, or resume its run, and save the translator in ``output/translator``.

    Args:
        run: The recipe.
        tensorboard: Write for TensorBoard too.
        progress: Show a progress bar.

    Returns:
        The translator, and the log with the images that could not be read.

    Raises:
        FloatingPointError: If a loss or gradient is not finite.
        OSError: If there is no room on the disk.
        ValueError: If settings of the recipe do not fit the models, the data or each other.
    """
    if not run.data:
        raise ValueError("the recipe has no data; add a table [[data]] with kind = 'file' or another.")
    tables = {"train": run.data, "validation": run.validation}
    mixtures = {name: Mixture([table.open() for table in part]) for name, part in tables.items() if part}
    backbone = backbones.load(run.vision.model, fit=run.vision.fit, pretrained=run.vision.pretrained)
    supplies = {name: _supply(run, backbone, name, mixture) for name, mixture in mixtures.items()}
    start = _start(run, backbone, mixtures["train"], progress)
    translator = _translator(run, supplies["train"], start)
    supply, parts = _with_classes(run, backbone, supplies["train"], _parts(run.data, mixtures["train"]))
    checks = _validation(run, supplies.get("validation"))
    main = processes.state().is_main_process
    with RunLog(
        run.output,
        run.training.total,
        done=loop.steps_done(run.output),
        tensorboard=tensorboard and main,
        progress=progress and main,
    ) as log:
        prefix.train(
            translator,
            supply,
            run.training,
            run.output,
            parts=parts,
            chunks=_chunks(mixtures["train"].chunks, run.classes.count),
            validation=checks,
            report=log,
        )
    if main:
        translator.save_pretrained(run.output / "translator", dtype=DTYPES[run.network.dtype])
    return translator, log


def _supply(run: Run, backbone: backbones.Backbone, name: str, mixture: Mixture) -> Supply:
    live = LiveFeatures(
        backbone.model, list(run.vision.layers), mixture, backbone.preprocess, workers=run.loading.workers
    )
    return processes.supply_of(live, run.loading, name)


def _start(run: Run, backbone: backbones.Backbone, data: Mixture, progress: bool) -> MapTranslator | None:
    if run.map is None:
        return None
    main = processes.state().is_main_process
    return start_map(run.map, run.vision, backbone, data, run.output / "map", progress=progress and main)


def _translator(run: Run, supply: Supply, start: MapTranslator | None) -> PrefixTranslator:
    lm = LanguageModel.from_pretrained(
        run.language.model,
        dtype="auto" if run.language.dtype == "auto" else DTYPES[run.language.dtype],
    )
    torch.manual_seed(run.training.seed)  # here: what was loaded before may have drawn from it, or not
    if start is not None:
        return _from_map(run, lm, start)
    network = run.network
    return devil_translator(
        supply.widths,
        lm,
        prefix_length=network.prefix_length,
        width=network.width,
        depth=network.depth,
        heads=network.heads,
        feedforward=network.feedforward,
        standardise=network.standardise,
        start=network.start,
        opening=network.opening,
        prompt=run.language.prompt,
        stop=run.language.stop,
        max_new_tokens=run.language.max_new_tokens,
        backbone=run.vision.model,
    )


def _from_map(run: Run, lm: LanguageModel, start: MapTranslator) -> PrefixTranslator:
    settings, language, decoder = run.network, run.language, start.decoder
    network = MapStart.of(
        start,
        lm.width,
        width=settings.width,
        depth=settings.depth,
        heads=settings.heads,
        feedforward=settings.feedforward,
        standardise=settings.standardise,
    )
    expected = ("", None) if decoder is None else (decoder.prompt, decoder.stop)
    if (language.prompt, language.stop) not in (expected, ("", None)):
        raise ValueError(
            f"[language] prompt = {language.prompt!r}, stop = {language.stop!r}: the text decoder was "
            f"trained with {expected[0]!r} and {expected[1]!r}. Leave both out."
        )
    return PrefixTranslator(
        network,
        lm,
        prompt=expected[0],
        stop=expected[1],
        max_new_tokens=language.max_new_tokens,
        backbone=run.vision.model,
    )


def _parts(tables: Sequence[DataTable], mixture: Mixture) -> list[Part]:
    return [
        Part(items, table.start, table.stop or None)
        for table, items in zip(tables, mixture.ranges, strict=True)
    ]


def _with_classes(
    run: Run, backbone: backbones.Backbone, pictures: Supply, parts: list[Part]
) -> tuple[Supply, list[Part]]:
    """Pairs of classes behind those of pictures, from the first step to the last."""
    if not run.classes.count:
        return pictures, parts
    if not backbone.class_names:
        raise ValueError(f"[classes] count = {run.classes.count}, but '{backbone.name}' has no class names.")
    head = find_head(backbone.model, example_for(backbone.model), len(backbone.class_names))
    if not head.plain:
        raise ValueError(
            "[classes] needs a head that reads the mean over the locations of a layer; here more stands "
            f"between. {head.summary} Leave [classes] out."
        )
    supply = ClassFeatures(
        pictures,
        head.tap.name,
        head.weight,
        head.bias,
        [class_phrase(name) for name in backbone.class_names],
        count=run.classes.count,
        seed=run.classes.seed,
    )
    return supply, [*parts, Part(range(len(pictures), len(supply)))]


def _chunks(chunks: Sequence[int] | None, classes: int) -> list[int] | None:
    """Pairs of classes are a shard of their own."""
    return None if chunks is None else [*chunks, *[max(chunks) + 1] * classes]


def _validation(run: Run, supply: Supply | None) -> Validation | None:
    if supply is None:
        return None
    scorer = _scorer(run.model_selection.metric)
    return Validation(supply, scorer, run.model_selection.described, run.training.batch_size)


def _scorer(metric: str) -> Scorer | None:
    return None if metric == "loss" else captions.cider
