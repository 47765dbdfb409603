"""The training loop: steps over an objective's batches, checkpoints, resuming and validation."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.training import checkpoint, processes
from torchnle.training.identity import check_identity
from torchnle.training.processes import Share
from torchnle.training.recipe import LoopRecipe

_LAST, _BEST = "last.pt", "best.pt"
_NORMS = (nn.LayerNorm, nn.BatchNorm1d)
_ENTRIES = ("recipe", "done", "best", "network", "optimiser", "scaler")
#: Takes the facts of a step or of a validation.
Report: TypeAlias = Callable[[dict[str, Any]], None]
#: Measures a network; higher values of "criterion" are better.
Measure: TypeAlias = Callable[[nn.Module], dict[str, Any]]


@dataclass(frozen=True)
class Examples:
    """Some rows of a step's batch.

    Args:
        inputs: The arguments of the network.
        ids: The target tokens of each row.
        items: The number of each row in the data, for messages.
        unreadable: The errors of pairs that could not be read, by number.
    """

    inputs: tuple[Any, ...]
    ids: list[list[int]]
    items: Sequence[int]
    unreadable: Mapping[int, str] = field(default_factory=dict)


class Objective(ABC):
    """A training objective: a network, the batches of each step, and their losses.

    Batches must depend on the step alone, so that a resumed run reads the same ones.

    Args:
        network: The trained network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def identity(self) -> dict[str, str]:
        """Compute the digests of a run's inputs besides the recipe: data, models, prompt; none by default."""
        return {}

    @abstractmethod
    def batches(self, steps: range, share: Share) -> Iterator[list[Examples]]:
        """Yield this process's parts of every step's batch, in the order of the steps."""

    @abstractmethod
    def losses(self, network: nn.Module, step: int, batch: Examples) -> Float[Tensor, "R"]:
        """Compute the loss of each row, summed over what `count` counts."""

    @abstractmethod
    def count(self, step: int, batch: Examples) -> int:
        """Count the units over which a part's losses are summed; the step's loss is the mean over units."""

    def begin(self) -> None:
        """Prepare the network of a new run."""
        return

    def to(self, device: torch.device) -> None:
        """Move the objective's other tensors and models."""
        return


def train(
    objective: Objective,
    recipe: LoopRecipe,
    folder: str | Path,
    *,
    measure: Measure | None = None,
    report: Report = lambda _: None,
) -> nn.Module:
    """Train an objective's network in place; a killed run resumes and ends with the same weights.

    With several processes (``torchrun`` or ``accelerate launch``) each takes its rows of every batch.

    Args:
        objective: The objective.
        recipe: All settings.
        folder: For the checkpoints ``last.pt`` and, with `measure`, ``best.pt``.
        measure: Validates the network at intervals; the best one is returned.
        report: Called in the main process with the facts of a step or of a validation.

    Returns:
        The network, with the best weights, in evaluation mode.

    Raises:
        FloatingPointError: If a loss or gradient is not finite: the last good checkpoint is kept, and the
            message names the step and its pairs.
        MissingDependencyError: If accelerate is not installed.
        ValueError: If the checkpoint is damaged, of another recipe or of other data or models; or the batch
            cannot be shared evenly.
    """
    run = _Run(objective, recipe, Path(folder), measure, report)
    run.go()
    return run.result()


def steps_done(folder: str | Path) -> int:
    """Return the number of steps in a run's last checkpoint."""
    path = Path(folder) / _LAST
    state = checkpoint.load(path)
    if state is None:
        return 0
    checkpoint.require(state, _ENTRIES, path)
    return int(state["done"])


class _Run:
    """The state of one run: network, optimiser, step, and the best network so far."""

    def __init__(
        self, objective: Objective, recipe: LoopRecipe, folder: Path, measure: Measure | None, report: Report
    ) -> None:
        self.objective, self.recipe, self.measure, self.report = objective, recipe, measure, report
        self.path, self.best_path = folder / _LAST, folder / _BEST
        self.accelerator = processes.accelerator(recipe)
        self.share = Share.of(self.accelerator, recipe)
        self.done, self.best = 0, -math.inf
        self.identity = objective.identity()
        self.unreadable: dict[int, str] = {}
        network = objective.network
        optimiser = torch.optim.AdamW(_groups(network, recipe.weight_decay), lr=recipe.learning_rate)
        if not self._resume(network, optimiser):
            objective.begin()
        objective.to(self.accelerator.device)
        self.network, self.optimiser = self.accelerator.prepare(network.train(), optimiser)

    def go(self) -> None:
        """Run all remaining steps."""
        recipe = self.recipe
        steps = range(self.done, recipe.total)
        for step, batches in zip(steps, self.objective.batches(steps, self.share), strict=True):
            facts = self.step(step, batches)
            if self._due(step, recipe.log_every):
                self._report({**facts, **self._unreadable()})
            if step >= recipe.word_steps and self._due(step, recipe.validate_every):
                self._validate(step)
            if self._due(step, recipe.checkpoint_every):
                self._save(step + 1)

    def step(self, step: int, batches: Sequence[Examples]) -> dict[str, Any]:
        """Run one step on this process's rows; its reported facts are those of all processes."""
        began = time.perf_counter()
        accelerator, recipe, objective = self.accelerator, self.recipe, self.objective
        if step == recipe.word_steps:
            self.optimiser.state.clear()  # steps on sentences have an optimiser of their own
        total = self._sum(sum(objective.count(step, batch) for batch in batches))
        scale = (
            accelerator.num_processes * recipe.accumulate / total
        )  # the number that DDP and accelerate divide by
        losses = []
        for batch in batches:
            with accelerator.accumulate(self.network):
                losses.append(objective.losses(self.network, step, batch))
                accelerator.backward(losses[-1].sum() * scale)
            self.unreadable |= batch.unreadable
        rows = torch.cat(losses).detach()
        loss = self._sum(rows.sum()) / total
        norm = accelerator.clip_grad_norm_(self.network.parameters(), recipe.clip or math.inf)
        self._check(step, [number for batch in batches for number in batch.items], rows, loss, norm)
        rate = recipe.learning_rate_at(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        seconds = round(time.perf_counter() - began, 4)
        facts = {"step": step, "word_loss" if step < recipe.word_steps else "loss": loss}
        return {**facts, "learning_rate": rate, "gradient": float(norm), "seconds": seconds}

    def result(self) -> nn.Module:
        """Return the network with the best weights, or the last if nothing was validated."""
        self.accelerator.wait_for_everyone()
        network: nn.Module = self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        best = checkpoint.load(self.best_path) if self.measure else None
        if best is not None:
            network.load_state_dict(best["network"])
        return network.eval()

    def _sum(self, value: Tensor | float) -> float:
        """Sum a number over all processes."""
        tensor = torch.as_tensor(value, dtype=torch.float32).to(self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "sum"))

    def _check(
        self, step: int, items: list[int], rows: Float[Tensor, "R"], loss: float, norm: Tensor
    ) -> None:
        scaled = self.accelerator.scaler is not None  # then an infinite gradient is skipped, and is no error
        if math.isfinite(loss) and (scaled or bool(torch.isfinite(norm))):
            return
        bad = [number for number, x in zip(items, rows.tolist(), strict=True) if not math.isfinite(x)]
        what = f"gradient of step {step} is not finite"
        if not math.isfinite(loss):
            what = f"loss of step {step} is {loss}"
        raise FloatingPointError(
            f"the {what}; its pairs are {bad or items}. Training stopped before the weights were changed; "
            f"the last good checkpoint is {self.path if self.path.is_file() else 'none yet'}. Look at these "
            "pairs, lower the learning rate, or use precision='no'."
        )

    def _unreadable(self) -> dict[str, dict[int, str]]:
        """Return the pairs that could not be read since the last call, in all processes."""
        found = processes.gathered(self.unreadable)
        self.unreadable = {}
        return {"unreadable": found} if found else {}

    def _due(self, step: int, every: int) -> bool:
        return (step + 1) % every == 0 or step + 1 == self.recipe.total

    def _report(self, facts: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.report(facts)

    def _validate(self, step: int) -> None:
        """Validate in the main process; the best network is saved with the checkpoint."""
        if self.measure is None:
            return
        if self.accelerator.is_main_process:
            network = self.accelerator.unwrap_model(self.network)
            found = self.measure(network)
            network.train()
            if found["criterion"] > self.best:
                self.best = found["criterion"]
                state = {"network": network.state_dict(), "step": step, "found": found}
                checkpoint.save(state, self.best_path)
            self.report({"step": step, "validation": found})
        self.accelerator.wait_for_everyone()

    def _save(self, done: int) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "recipe": _plain(asdict(self.recipe)),
                "identity": self.identity,
                "done": done,
                "best": self.best,
                "network": self.accelerator.unwrap_model(self.network).state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            checkpoint.save(state, self.path)
        self.accelerator.wait_for_everyone()

    def _resume(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> bool:
        state = checkpoint.load(self.path)
        if state is None:
            return False
        checkpoint.require(state, _ENTRIES, self.path)
        ours = _plain(asdict(self.recipe))
        other = [name for name in ours if state["recipe"].get(name) != ours[name]]
        if other:
            told = ", ".join(f"{name}={state['recipe'].get(name)}" for name in other)
            raise ValueError(f"'{self.path}' is of a recipe with {told}; pass another folder, or delete it.")
        check_identity(state.get("identity", {}), self.identity, str(self.path))
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        self.done, self.best = int(state["done"]), float(state["best"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        return True


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters into those with weight decay, and norms and biases without."""
    norms = {id(p) for m in network.modules() if isinstance(m, _NORMS) for p in m.parameters()}
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    decays = [p for name, p in trained if id(p) not in norms and not name.endswith("bias")]
    decayed = {id(p) for p in decays}
    rest = [p for _, p in trained if id(p) not in decayed]
    return [{"params": decays, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Convert settings to a checkpoint's plain values: lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
