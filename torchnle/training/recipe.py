"""The settings of training runs: of every run, of a run on features and captions, and of what these read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from torchnle.backbones.preprocess import Fit
from torchnle.training.feature_cache import Stored

#: The dtypes of recipes by their names.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoopRecipe:
    """The settings of steps, optimiser, learning rate and checkpoints, which every training run has.

    Args:
        steps: The number of steps through the language model.
        batch_size: Rows per step, over all processes and accumulated parts; their number does not change the
            run.
        learning_rate: AdamW's, after the warm-up.
        final_learning_rate: Its lowest value, after a linear decay.
        warmup: Steps over which it rises linearly.
        weight_decay: AdamW's; norms and biases do not decay.
        clip: The largest norm of the gradient; 0 = not clipped.
        word_steps: Earlier steps without the language model (`training.texts`).
        word_learning_rate: Their learning rate, which decays to zero.
        accumulate: The number of parts into which a process splits its share of a batch, to save memory.
        precision: The network's arithmetic: "no" (float32), "bf16" or "fp16".
        seed: The seed of all random numbers.
        checkpoint_every: Steps between checkpoints.
        validate_every: Steps between validations.
        log_every: Steps between reports.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int = 1_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warmup: int = 50
    weight_decay: float = 1e-2
    clip: float = 1.0
    word_steps: int = 0
    word_learning_rate: float = 2e-3
    accumulate: int = 1
    precision: Literal["no", "bf16", "fp16"] = "no"
    seed: int = 0
    checkpoint_every: int = 1_000
    validate_every: int = 10_000
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "checkpoint_every", "validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; pass 1 or more.")
        if min(self.steps, self.word_steps) < 0 or self.total < 1:
            raise ValueError(
                f"steps={self.steps}, word_steps={self.word_steps}: pass 0 or more, together 1 or more."
            )
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"precision={self.precision!r}; pass 'no', 'bf16' or 'fp16'.")

    @property
    def total(self) -> int:
        """The number of all steps, with and without the language model."""
        return self.word_steps + self.steps

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then linear decay."""
        if step < self.word_steps:
            return self._linear(step, self.word_steps, self.word_learning_rate, 0.0)
        return self._linear(step - self.word_steps, self.steps, self.learning_rate, self.final_learning_rate)

    def _linear(self, step: int, steps: int, peak: float, floor: float) -> float:
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        return max(floor, peak * (steps - step) / max(1, steps - self.warmup))


@dataclass(frozen=True)
class Recipe(LoopRecipe):
    """The settings of a run on features and captions; the defaults are DeViL's (supplement A).

    Args:
        layer_dropout: The probability of dropping a layer.
        location_dropout: The probability of dropping a location from its layer's mean: a number, or a range
            from which it is drawn for every image and layer.
        longest: The largest number of tokens of a caption.
        moments_of: The number of images whose means and deviations standardise the features, if the network
            does that.
        others: As `LoopRecipe`.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int = 1_000_000
    learning_rate: float = 1e-4
    warmup: int = 5_000
    weight_decay: float = 1e-6
    clip: float = 0.0
    layer_dropout: float = 0.5
    location_dropout: float | tuple[float, float] = 0.5
    longest: int = 100
    moments_of: int = 2_048

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < 1:
            raise ValueError(f"longest={self.longest}; pass 1 or more.")
        least, most = self.location_range
        if not (0 <= self.layer_dropout < 1 and 0 <= least <= most < 1):
            raise ValueError(
                f"layer_dropout={self.layer_dropout}, location_dropout={self.location_dropout}: pass 0 or "
                "more and below 1, for locations also a range (least, most)."
            )

    @property
    def location_range(self) -> tuple[float, float]:
        """The range from which a dropout of locations is drawn."""
        given = self.location_dropout
        if isinstance(given, (int, float)):
            return float(given), float(given)
        least, most = given
        return float(least), float(most)


@dataclass(frozen=True)
class Vision:
    """The settings of the vision model.

    Args:
        model: A name for `backbones.load`.
        layers: Dotted names; with the suffix ":input", the module's input.
        fit: How a photograph becomes square (`Preprocess`); the paper crops the center.
        pretrained: False = random weights, for examples without downloads.
    """

    model: str
    layers: tuple[str, ...]
    fit: Fit = "crop"
    pretrained: bool = True


@dataclass(frozen=True)
class Language:
    """The settings of the frozen language model, its prompt and its limits.

    Args:
        model: A model reference.
        dtype: "auto", "float32", "bfloat16" or "float16".
        prompt: The text between the prefix and the description.
        stop: A string that ends a text, besides the end-of-sequence token.
        max_new_tokens: The largest number of tokens that a trained translator decodes.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    prompt: str = ""
    stop: str | None = None
    max_new_tokens: int = 50


@dataclass(frozen=True)
class ModelSelection:
    """The measure by which the best weights of a training are chosen.

    Args:
        metric: "loss", or "cider" of the descriptions.
        described: The number of images described for CIDEr.
    """

    metric: Literal["loss", "cider"] = "loss"
    described: int = 256


@dataclass(frozen=True)
class DataLoading:
    """The settings of the supply of features: computed at every step, or cached on disk.

    Args:
        cache: The folder for a cache of features; "" = the vision model runs at every step.
        dtype: The dtype in the cache.
        workers: The number of processes that read images.
    """

    cache: str = ""
    dtype: Stored = "bfloat16"
    workers: int = 0
