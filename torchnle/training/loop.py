"""Train DeViL's translator on images and captions (sections 3.2 and 3.3, supplement A)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.errors import TranslatorMismatchError
from torchnle.language.loss import ids_log_probs
from torchnle.training import checkpoint, processes
from torchnle.training.dropout import Draws, of_the_known, pool
from torchnle.training.identity import check_identity, run_identity
from torchnle.training.moments import fit_moments
from torchnle.training.order import Order, Part
from torchnle.training.recipe import Recipe
from torchnle.training.supply import Batch, Supply
from torchnle.training.targets import caption_tokens
from torchnle.training.validation import Validation
from torchnle.training.words import embedding_scale, word_errors
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.prefix_network import PrefixNetwork

_LAST, _BEST = "last.pt", "best.pt"
_ENTRIES = ("recipe", "done", "best", "network", "optimiser", "scaler")
#: Takes the facts of a step or of a validation.
Report = Callable[[dict[str, Any]], None]


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
    """Train a translator in place; a run that was killed goes on and ends with the same weights.

    With several processes (``torchrun`` or ``accelerate launch``) each takes its rows of every batch.

    Args:
        translator: With a network that reads one token of each layer, and the frozen language model.
        supply: Features and captions.
        recipe: All settings.
        folder: For the checkpoints ``last.pt`` and, with validation, ``best.pt``.
        parts: Which pairs are read during which steps; None = all of them always.
        chunks: The shard of each pair, where pairs are read fast only near one another.
        validation: Measures the translator now and then; the best one is returned.
        report: Called in the main process with the facts of a step or of a validation.

    Returns:
        The translator, with the best weights, in evaluation mode.

    Raises:
        FloatingPointError: If a loss or gradient is not finite: the last good checkpoint is kept, and the
            message names the step and its pairs.
        MissingDependencyError: If accelerate is not installed.
        TranslatorMismatchError: If the supply's layers are not the network's.
        ValueError: If the checkpoint is damaged, or of another recipe, other data, another prompt, vision or
            language model; or the batch cannot be shared evenly.
    """
    order = Order(
        [Part(range(len(supply)))] if parts is None else parts,
        steps=recipe.total,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        chunks=chunks,
    )
    run = _Run(translator, supply, recipe, Path(folder), order, validation, report)
    run.go()
    return run.result()


def steps_done(folder: str | Path) -> int:
    """How many steps of a run its last checkpoint holds."""
    path = Path(folder) / _LAST
    state = checkpoint.load(path)
    if state is None:
        return 0
    checkpoint.require(state, _ENTRIES, path)
    return int(state["done"])


class _Run:
    """The state of one run: network, optimiser, where it was, and the best so far."""

    def __init__(
        self,
        translator: PrefixTranslator,
        supply: Supply,
        recipe: Recipe,
        folder: Path,
        order: Order,
        validation: Validation | None,
        report: Report,
    ) -> None:
        self.translator, self.supply, self.recipe, self.order = translator, supply, recipe, order
        self.validation, self.report = validation, report
        self.path, self.best_path = folder / _LAST, folder / _BEST
        self.accelerator = processes.accelerator(recipe)
        self.rows = processes.rows(recipe, self.accelerator.process_index, self.accelerator.num_processes)
        network = _network(translator, supply)
        self.done, self.best = 0, -math.inf
        checked = getattr(validation, "supply", None)
        self.identity = run_identity(translator, supply, order.parts, checked)
        self.unreadable: dict[int, str] = {}
        optimiser = torch.optim.AdamW(_groups(network, recipe.weight_decay), lr=recipe.learning_rate)
        if not self._resume(network, optimiser):
            fit_moments(network, supply, recipe.moments_of)
        translator.to(self.accelerator.device)
        self.scale, self.opening_length = embedding_scale(translator.language_model), network.opening_length
        self.network, self.optimiser = self.accelerator.prepare(network.train(), optimiser)

    def go(self) -> None:
        """All remaining steps."""
        recipe = self.recipe
        for step, batches in self._steps():
            facts = self.step(step, batches)
            if self._due(step, recipe.log_every):
                self._report({**facts, **self._unreadable()})
            if step >= recipe.word_steps and self._due(step, recipe.validate_every):
                self._validate(step)
            if self._due(step, recipe.checkpoint_every):
                self._save(step + 1)

    def step(self, step: int, batches: Sequence[Batch]) -> dict[str, Any]:
        """One step on this process's rows; the facts of it are those of all processes."""
        began = time.perf_counter()
        accelerator, recipe = self.accelerator, self.recipe
        draws = self._draws(step)
        tokens = [self._tokens(batch, rows) for batch, rows in zip(batches, draws, strict=True)]
        words = step < recipe.word_steps
        if step == recipe.word_steps:
            self.optimiser.state.clear()  # sentences begin with an optimiser of their own
        total = self._sum(sum(1 if words else len(ids) for texts in tokens for ids in texts))
        scale = accelerator.num_processes * recipe.accumulate / total  # what DDP and accelerate divide by
        losses = []
        for batch, rows, ids in zip(batches, draws, tokens, strict=True):
            with accelerator.accumulate(self.network):
                losses.append(self._losses(batch, rows, ids, words=words))
                accelerator.backward(losses[-1].sum() * scale)
        loss = self._sum(torch.cat(losses).detach().sum()) / total
        norm = accelerator.clip_grad_norm_(self.network.parameters(), recipe.clip or math.inf)
        self._check(step, batches, losses, loss, norm)
        rate = recipe.learning_rate_at(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        for batch in batches:
            self.unreadable |= batch.unreadable
        seconds = round(time.perf_counter() - began, 4)
        facts = {"step": step, "word_loss" if words else "loss": loss, "learning_rate": rate}
        return {**facts, "gradient": float(norm), "seconds": seconds}

    def result(self) -> PrefixTranslator:
        """The translator with the best weights, or the last where nothing was validated."""
        self.accelerator.wait_for_everyone()
        network = self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        best = checkpoint.load(self.best_path) if self.validation else None
        if best is not None:
            network.load_state_dict(best["network"])
        self.translator.network = network
        return self.translator.eval()

    def _steps(self) -> Iterator[tuple[int, list[Batch]]]:
        """Each remaining step with this process's parts of its batch."""
        steps = range(self.done, self.recipe.total)
        batches = self.supply.batches(self.order.batch(step)[rows] for step in steps for rows in self.rows)
        for step in steps:
            yield step, list(islice(batches, len(self.rows)))

    def _draws(self, step: int) -> list[Draws]:
        recipe = self.recipe
        draws = Draws.of_step(
            recipe.seed,
            step,
            recipe.batch_size,
            self.supply.places,
            layer_dropout=recipe.layer_dropout,
            location_dropout=recipe.location_range,
        )
        return [draws[rows] for rows in self.rows]

    def _tokens(self, batch: Batch, draws: Draws) -> list[list[int]]:
        picks = zip(batch.captions, draws.captions.tolist(), strict=True)
        captions = [texts[int(part * len(texts))] for texts, part in picks]
        return caption_tokens(self.translator, captions, longest=self.recipe.longest)

    def _losses(self, batch: Batch, draws: Draws, ids: list[list[int]], *, words: bool) -> Tensor:
        """One number a row: nats of its caption, or the error of its words."""
        device = self.accelerator.device
        tokens = {layer: x.to(device) for layer, x in batch.tokens.items()}
        read = of_the_known(draws.layers, batch.known)
        keep = {layer: kept[:, None].to(device) for layer, kept in read.items()}
        prefixes = self.network(pool(tokens, draws.locations), keep)
        lm = self.translator.language_model
        if words:
            return word_errors(lm, prefixes[:, self.opening_length :], ids, self.scale)
        return -ids_log_probs(lm, prefixes, ids, prompt=self.translator.prompt)

    def _sum(self, value: Tensor | float) -> float:
        """A number's sum over all processes."""
        tensor = torch.as_tensor(value, dtype=torch.float32).to(self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "sum"))

    def _check(
        self, step: int, batches: Sequence[Batch], losses: Sequence[Tensor], loss: float, norm: Tensor
    ) -> None:
        scaled = self.accelerator.scaler is not None  # then an infinite gradient is skipped, and is no error
        if math.isfinite(loss) and (scaled or bool(torch.isfinite(norm))):
            return
        items = [number for batch in batches for number in batch.items]
        bad = [
            n for n, x in zip(items, torch.cat(list(losses)).tolist(), strict=True) if not math.isfinite(x)
        ]
        what = (
            f"the loss of step {step} is {loss}"
            if not math.isfinite(loss)
            else (f"the gradient of step {step} is not finite")
        )
        kept = self.path if self.path.is_file() else "none yet"
        raise FloatingPointError(
            f"{what}; its pairs are {bad or items}. Training stopped before the weights were changed; the "
            f"last good checkpoint is {kept}. Look at these images, lower the learning rate, or use "
            "precision='no'."
        )

    def _unreadable(self) -> dict[str, dict[int, str]]:
        """What could not be read since it was last asked, in all processes."""
        found = processes.gathered(self.unreadable)
        self.unreadable = {}
        return {"unreadable": found} if found else {}

    def _due(self, step: int, every: int) -> bool:
        return (step + 1) % every == 0 or step + 1 == self.recipe.total

    def _report(self, facts: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.report(facts)

    def _validate(self, step: int) -> None:
        """In the main process; the best network is kept beside the checkpoint."""
        if self.validation is None:
            return
        if self.accelerator.is_main_process:
            network = self.accelerator.unwrap_model(self.network)
            self.translator.network = network
            found = self.validation.measure(self.translator)
            network.train()
            if found["worth"] > self.best:
                self.best = found["worth"]
                checkpoint.save(
                    {"network": network.state_dict(), "step": step, "found": found}, self.best_path
                )
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


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters with weight decay, and norms and biases without."""
    norms = {id(p) for m in network.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    decays = [p for name, p in trained if id(p) not in norms and not name.endswith("bias")]
    decayed = {id(p) for p in decays}
    rest = [p for _, p in trained if id(p) not in decayed]
    return [{"params": decays, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as a checkpoint keeps them: lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
