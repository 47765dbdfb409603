"""A whole training run from a recipe file, from its models and data to the translator that is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from torchnle import backbones
from torchnle.backbones.preprocess import Fit
from torchnle.data import Mixture
from torchnle.language.model import LanguageModel
from torchnle.methods.devil import devil_translator
from torchnle.metrics import captions
from torchnle.training import devil, processes
from torchnle.training.feature_cache import Stored, cached
from torchnle.training.log import RunLog
from torchnle.training.order import Part
from torchnle.training.recipe import Recipe
from torchnle.training.sources import DataTable, data_table
from torchnle.training.supply import LiveFeatures, Supply
from torchnle.training.tables import build, override, read_toml
from torchnle.training.validation import Scorer, Validation
from torchnle.translators.aligned_start import AlignedStart
from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.prefix import PrefixTranslator

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Vision:
    """The vision model that is described.

    Args:
        model: A name for `backbones.load`.
        layers: Dotted names; with ":input" behind it, what that module receives.
        fit: How a photograph becomes square; the paper squeezes nothing and crops the middle.
        pretrained: False = random weights, for examples that download nothing.
    """

    model: str
    layers: tuple[str, ...]
    fit: Fit = "crop"
    pretrained: bool = True


@dataclass(frozen=True)
class Language:
    """The frozen language model and how it is addressed.

    Args:
        model: A model reference.
        dtype: "auto", "float32", "bfloat16" or "float16".
        prompt: What stands between the prefix and the words.
        stop: What ends a text beside the end-of-sequence token.
        max_new_tokens: The most tokens that a trained translator writes.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    prompt: str = ""
    stop: str | None = None
    max_new_tokens: int = 50


@dataclass(frozen=True)
class Network:
    """The translation network; defaults are the paper's.

    Args:
        prefix_length: The number of prefix vectors (of `aligned`'s text decoder, where one is given).
        width: The Transformer's width.
        depth: Its layers.
        heads: Its attention heads.
        feedforward: The width of its feed-forward layers.
        standardise: Standardise the features channel by channel.
        start: Words at whose embeddings the prefix starts.
        opening: Words whose embeddings stand before the prefix, trained too.
        aligned: A saved `AlignedTranslator` to start from: its prefix, to which the network adds.
        train_aligned: Go on training the text decoder's part of it.
        kept_change: The share of what the network learned to add that is kept in the end (as in WiSE-FT,
            Wortsman et al. 2022): less forgets less of what `aligned` says where training never looked.
        dtype: What the weights are saved as.

    Raises:
        ValueError: If `kept_change` is not between 0 and 1, or below 1 without `aligned`.
    """

    prefix_length: int = 10
    width: int = 768
    depth: int = 12
    heads: int = 12
    feedforward: int = 3072
    standardise: bool = False
    start: str = ""
    opening: str = ""
    aligned: str = ""
    train_aligned: bool = True
    kept_change: float = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.kept_change <= 1 or (self.kept_change < 1 and not self.aligned):
            raise ValueError(
                f"[network] kept_change = {self.kept_change}; pass a number from 0 to 1, and less than 1 "
                "only with aligned = '...', to which the network adds."
            )


@dataclass(frozen=True)
class Check:
    """How the translator is validated.

    Args:
        metric: "loss", or "cider" on what is said.
        described: How many images are described for CIDEr.
    """

    metric: Literal["loss", "cider"] = "loss"
    described: int = 256


@dataclass(frozen=True)
class Feeding:
    """How features come to the network.

    Args:
        cache: The folder for a cache of features; "" = the vision model runs at every step.
        dtype: How the cache stores them.
        workers: Processes that read images.
    """

    cache: str = ""
    dtype: Stored = "bfloat16"
    workers: int = 0


@dataclass(frozen=True)
class Run:
    """A recipe file, read and checked, with nothing loaded yet.

    Args:
        output: The folder for checkpoints, log and the translator.
        vision: The vision model.
        language: The language model.
        network: The translation network.
        training: The settings of training.
        data: Tables of training data, all of which are read together.
        check: How the translator is validated.
        validation: Tables of validation data; none = no validation.
        feeding: How features come to the network.
    """

    output: Path
    vision: Vision
    language: Language
    network: Network
    training: Recipe
    data: tuple[DataTable, ...]
    check: Check = field(default_factory=Check)
    validation: tuple[DataTable, ...] = ()
    feeding: Feeding = field(default_factory=Feeding)

    @classmethod
    def read(cls, path: str | Path, settings: Sequence[str] = ()) -> Run:
        """Read a recipe file.

        Args:
            path: A TOML file; see recipes/.
            settings: Changes, "training.steps=100".

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not TOML, or a key or value is not known; the message names the nearest.
        """
        file = Path(path)
        content = read_toml(file)
        override(content, settings)
        given = {name: _part(name, value) for name, value in content.items()}
        return build(cls, {"output": Path("runs") / file.stem, **given}, str(file))


def train(run: Run, *, tensorboard: bool = False, progress: bool = True) -> tuple[PrefixTranslator, RunLog]:
    """Do a run, or go on with it, and save the translator in ``output/translator``.

    Args:
        run: The recipe.
        tensorboard: Write for TensorBoard too.
        progress: Show a progress bar.

    Returns:
        The translator, and the log with what could not be read.

    Raises:
        FloatingPointError: If a loss or gradient is not finite.
        OSError: If there is no room on the disk.
        ValueError: If something in the recipe does not fit; the message says what.
    """
    if not run.data:
        raise ValueError("the recipe has no data; add a table [[data]] with kind = 'file' or another.")
    tables = {"train": run.data, "validation": run.validation}
    backbone = backbones.load(run.vision.model, fit=run.vision.fit, pretrained=run.vision.pretrained)
    mixtures = {name: Mixture([table.open() for table in part]) for name, part in tables.items() if part}
    supplies = {name: _supply(run, backbone, name, mixture) for name, mixture in mixtures.items()}
    translator = _translator(run, supplies["train"])
    checks = _validation(run, supplies.get("validation"))
    main = processes.state().is_main_process
    with RunLog(
        run.output,
        run.training.total,
        done=devil.steps_done(run.output),
        tensorboard=tensorboard and main,
        progress=progress and main,
    ) as log:
        devil.train(
            translator,
            supplies["train"],
            run.training,
            run.output,
            parts=_parts(run.data, mixtures["train"]),
            chunks=mixtures["train"].chunks,
            validation=checks,
            report=log,
        )
    if main:
        if isinstance(translator.network, AlignedStart):
            translator.network.scale_change(run.network.kept_change)
        translator.network.to(_DTYPES[run.network.dtype])
        translator.save_pretrained(run.output / "translator")
    return translator, log


def _part(name: str, value: Any) -> Any:
    tables = {"vision": Vision, "language": Language, "network": Network, "training": Recipe}
    tables |= {"check": Check, "feeding": Feeding}
    if name in ("data", "validation"):
        listed = value if isinstance(value, list) else [value]
        return tuple(data_table(table, name) for table in listed)
    if name in tables:
        return build(tables[name], value, name)
    return Path(value) if name == "output" else value


def _supply(run: Run, backbone: backbones.Backbone, name: str, mixture: Mixture) -> Supply:
    live = LiveFeatures(
        backbone.model, list(run.vision.layers), mixture, backbone.preprocess, workers=run.feeding.workers
    )
    if not run.feeding.cache:
        live.model.to(processes.state().device)
        return live
    with processes.state().main_process_first():
        return cached(Path(run.feeding.cache) / name, live, dtype=run.feeding.dtype)


def _translator(run: Run, supply: Supply) -> PrefixTranslator:
    lm = LanguageModel.from_pretrained(
        run.language.model,
        dtype="auto" if run.language.dtype == "auto" else _DTYPES[run.language.dtype],
    )
    torch.manual_seed(run.training.seed)  # here: what was loaded before may have drawn from it, or not
    if run.network.aligned:
        return _from_aligned(run, lm)
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


def _from_aligned(run: Run, lm: LanguageModel) -> PrefixTranslator:
    aligned = AlignedTranslator.from_pretrained(run.network.aligned)
    settings = run.network
    network = AlignedStart.of(
        aligned,
        lm.width,
        width=settings.width,
        depth=settings.depth,
        heads=settings.heads,
        feedforward=settings.feedforward,
        standardise=settings.standardise,
    )
    if not settings.train_aligned:
        network.freeze_start()
    asked, language = _asked(aligned), run.language
    if (language.prompt, language.stop) not in (asked, ("", None)):
        raise ValueError(
            f"[language] prompt = {language.prompt!r}, stop = {language.stop!r}: the text decoder was "
            f"trained with {asked[0]!r} and {asked[1]!r}. Leave both out."
        )
    return PrefixTranslator(
        network,
        lm,
        prompt=asked[0],
        stop=asked[1],
        max_new_tokens=language.max_new_tokens,
        backbone=run.vision.model,
    )


def _asked(aligned: AlignedTranslator) -> tuple[str, str | None]:
    """The prompt and the stop that the text decoder was trained with."""
    return ("", None) if aligned.decoder is None else (aligned.decoder.prompt, aligned.decoder.stop)


def _parts(tables: Sequence[DataTable], mixture: Mixture) -> list[Part]:
    return [
        Part(items, table.start, table.stop or None)
        for table, items in zip(tables, mixture.ranges, strict=True)
    ]


def _validation(run: Run, supply: Supply | None) -> Validation | None:
    if supply is None:
        return None
    scorer = _scorer(run.check.metric)
    return Validation(supply, scorer, run.check.described, run.training.batch_size)


def _scorer(metric: str) -> Scorer | None:
    return None if metric == "loss" else captions.cider
