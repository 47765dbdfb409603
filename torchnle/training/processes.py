"""The processes and devices of a run, as accelerate finds them (one, torchrun's, accelerate launch's)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchnle.errors import MissingDependencyError
from torchnle.training.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState


def state() -> PartialState:
    """This process among all: `is_main_process`, `device`, `main_process_first()`.

    Raises:
        MissingDependencyError: If accelerate is not installed.
    """
    return _accelerate().PartialState()


def accelerator(recipe: Recipe) -> Accelerator:
    """What prepares a network for these processes.

    Raises:
        MissingDependencyError: If accelerate is not installed.
    """
    return _accelerate().Accelerator(
        mixed_precision=recipe.precision, gradient_accumulation_steps=recipe.accumulate
    )


def gathered(pairs: dict[int, str]) -> dict[int, str]:
    """The pairs of all processes."""
    return dict(_accelerate().utils.gather_object(list(pairs.items())))


def rows(recipe: Recipe, process: int, processes: int) -> list[slice]:
    """The rows of every batch that a process reads, one slice for each part that is accumulated.

    Raises:
        ValueError: If the batch cannot be cut evenly.

    Example:
        >>> rows(Recipe(batch_size=8, accumulate=2), process=1, processes=2)
        [slice(4, 6, None), slice(6, 8, None)]
    """
    share, rest = divmod(recipe.batch_size, processes * recipe.accumulate)
    if rest:
        raise ValueError(
            f"batch_size={recipe.batch_size} does not divide by {processes} processes and "
            f"accumulate={recipe.accumulate}; choose numbers that do."
        )
    first = process * recipe.accumulate
    return [slice(part * share, (part + 1) * share) for part in range(first, first + recipe.accumulate)]


def _accelerate() -> Any:
    try:
        import accelerate
    except ImportError as error:
        raise MissingDependencyError("accelerate", extra="train", purpose="to train") from error
    return accelerate
