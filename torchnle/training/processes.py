"""The processes and devices of a run, as accelerate finds them (one, torchrun's, accelerate launch's)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchnle.errors import optional_package
from torchnle.training.feature_cache import cached
from torchnle.training.recipe import DataLoading, LoopRecipe
from torchnle.training.supply import LiveFeatures, Supply

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState


@dataclass(frozen=True)
class Share:
    """The rows of every batch that one process computes, split into accumulated parts.

    Args:
        process: The index of the process.
        processes: The number of processes.
        accumulate: The number of parts per process.
    """

    process: int = 0
    processes: int = 1
    accumulate: int = 1

    @classmethod
    def of(cls, accelerator: Accelerator, recipe: LoopRecipe) -> Share:
        """Return this process's share.

        Raises:
            ValueError: If the recipe's batch cannot be cut evenly.
        """
        share = cls(accelerator.process_index, accelerator.num_processes, recipe.accumulate)
        share.slices(recipe.batch_size)
        return share

    def slices(self, batch_size: int) -> list[slice]:
        """Split a batch: one slice for each accumulated part.

        Raises:
            ValueError: If the batch cannot be cut evenly.

        Example:
            >>> Share(process=1, processes=2, accumulate=2).slices(8)
            [slice(4, 6, None), slice(6, 8, None)]
        """
        size, rest = divmod(batch_size, self.processes * self.accumulate)
        if rest:
            raise ValueError(
                f"batch_size={batch_size} does not divide by {self.processes} processes and "
                f"accumulate={self.accumulate}; choose numbers that do."
            )
        first = self.process * self.accumulate
        return [slice(part * size, (part + 1) * size) for part in range(first, first + self.accumulate)]


def state() -> PartialState:
    """Return accelerate's state of this process: `is_main_process`, `device`, `main_process_first()`.

    Raises:
        MissingDependencyError: If accelerate is not installed.
    """
    return _accelerate().PartialState()


def accelerator(recipe: LoopRecipe) -> Accelerator:
    """Return the accelerator that prepares a network for these processes.

    Raises:
        MissingDependencyError: If accelerate is not installed.
    """
    return _accelerate().Accelerator(
        mixed_precision=recipe.precision, gradient_accumulation_steps=recipe.accumulate
    )


def gathered(pairs: dict[int, str]) -> dict[int, str]:
    """Merge the dicts of all processes into one."""
    return dict(_accelerate().utils.gather_object(list(pairs.items())))


def _accelerate() -> Any:
    with optional_package("accelerate", extra="train", purpose="to train"):
        import accelerate
    return accelerate


def supply_of(live: LiveFeatures, loading: DataLoading, name: str) -> Supply:
    """Return features that are computed on this process's device, or read from a cache.

    Args:
        live: The source of the features.
        loading: Whether there is a cache, which the main process builds before the others open it.
        name: The cache's folder in that of all caches.

    Raises:
        ValueError: As `feature_cache.cached`.
        OSError: As `feature_cache.cached`.
    """
    if not loading.cache:
        live.model.to(state().device)
        return live
    with state().main_process_first():
        return cached(Path(loading.cache) / name, live, dtype=loading.dtype)
