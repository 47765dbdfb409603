"""Train a text decoder on text alone: first to hold the words, then to make the language model say them."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from torchnle.language.loss import ids_log_probs
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import (
    OPENING,
    PROMPT,
    STOP,
    PrefixFromSentence,
    TextDecoder,
)
from torchnle.training import checkpoint
from torchnle.training.identity import check_identity, language_identity

#: How many batches are drawn together and sorted by length, so that little padding is computed.
_BUCKET = 8


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, beside texts, encoder and language model.

    Args:
        steps: Steps through the language model.
        batch_size: Texts a step.
        learning_rate: The peak of a warm-up and cosine schedule (AdamW).
        warmup: Steps of linear warm-up.
        weight_decay: AdamW's.
        noise: Gaussian noise on standardised embeddings, of a size uniform in [0, noise] for each text.
        clip: The most norm of a gradient.
        word_steps: Steps before, without the language model, that teach each prefix vector the embedding of
            the text's token at its place.
        word_batch_size: Texts a step there.
        word_learning_rate: Peak learning rate there.
        opening: What comes before the sentence's vectors; trained too.
        prompt: What follows the prefix.
        stop: What ends a text; a text is trained to be followed by it.
        prefix_length: The number of the sentence's own vectors.
        hidden: The network's hidden width.
        seed: Seeds weights, order and noise.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 0.01
    noise: float = 0.7
    clip: float = 1.0
    word_steps: int = 4000
    word_batch_size: int = 512
    word_learning_rate: float = 2e-3
    opening: str = OPENING
    prompt: str = PROMPT
    stop: str = STOP
    prefix_length: int = 8
    hidden: int = 960
    seed: int = 0


def train(
    texts: Sequence[str],
    encoder: TextEncoder,
    language_model: LanguageModel,
    recipe: Recipe,
    folder: Path,
    *,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    checkpoint_every: int = 100,
) -> TextDecoder:
    """Train a decoder; a run that was killed goes on from its last checkpoint to the same weights.

    Args:
        texts: The corpus.
        encoder: Gives the embeddings that the decoder will read.
        language_model: Frozen; gradients pass through it.
        recipe: All settings.
        folder: For the checkpoint.
        report: Called with the step and its loss in nats a token.
        checkpoint_every: Steps between checkpoints.

    Raises:
        ValueError: If there are fewer texts than a batch, or the checkpoint is of another recipe.
        FloatingPointError: If the loss is not finite; the last checkpoint is kept.
    """
    if len(texts) < recipe.batch_size * _BUCKET:
        raise ValueError(
            f"{len(texts)} texts are too few; at least {recipe.batch_size * _BUCKET} are needed."
        )
    embeddings = _encoded(texts, encoder, folder / "embeddings.safetensors")
    tokens = targets(language_model, texts, recipe.stop)
    run = _Run(language_model, recipe, embeddings, tokens, folder / "checkpoint.pt")
    for step in run.steps():
        loss = run.step(step)
        report({"step": step, "loss": loss})
        if (step + 1) % checkpoint_every == 0 or step + 1 == run.total:
            run.save(step + 1)
    return TextDecoder(
        run.network,
        language_model,
        encoder=encoder.reference,
        prompt=recipe.prompt,
        stop=recipe.stop,
    ).eval()


def text_loss(
    network: PrefixFromSentence,
    language_model: LanguageModel,
    embeddings: Float[Tensor, "B k"],
    tokens: Sequence[Sequence[int]],
    *,
    prompt: str = PROMPT,
    noise: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean negative log-probability of the texts' tokens (and the line break that ends them), in nats."""
    log_probs = ids_log_probs(language_model, network(embeddings, noise), tokens, prompt=prompt)
    return -log_probs.sum() / sum(map(len, tokens))


def targets(language_model: LanguageModel, texts: Sequence[str], stop: str = STOP) -> list[list[int]]:
    """The tokens that follow the prompt: a text after a space, and what ends it."""
    word = language_model.tokenize([" a"])[0]
    end = language_model.tokenize([f" a{stop}"])[0][len(word) :]
    return [[*ids, *end] for ids in language_model.tokenize([f" {text}" for text in texts])]


class _Run:
    """The state of one run: network, optimiser, and where it was."""

    def __init__(
        self,
        language_model: LanguageModel,
        recipe: Recipe,
        embeddings: Float[Tensor, "T k"],
        tokens: list[list[int]],
        path: Path,
    ) -> None:
        self.language_model, self.recipe, self.path = language_model, recipe, path
        self.embeddings, self.tokens = embeddings, tokens
        self.identity = {
            "corpus": sha256(embeddings.numpy().tobytes() + repr(tokens).encode()).hexdigest(),
            "language model": language_identity(language_model),
        }
        torch.manual_seed(recipe.seed)
        self.slots = recipe.prefix_length
        self.network = fresh_network(language_model, recipe, embeddings, tokens)
        every = torch.arange(language_model.vocab_size, device=language_model.device)
        self.scale = language_model.embed(every).float().std()
        self.optimiser = self._new_optimiser(recipe.word_learning_rate)
        self.total = recipe.word_steps + recipe.steps
        self.done = self._resume()

    def steps(self) -> Iterator[int]:
        return iter(range(self.done, self.total))

    def step(self, step: int) -> float:
        recipe = self.recipe
        torch.manual_seed(recipe.seed + 1 + step)
        if step == recipe.word_steps:
            self.optimiser = self._new_optimiser(recipe.learning_rate)
        loss = self._word_loss(step) if step < recipe.word_steps else self._text_loss(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of step {step} is {loss.item()}; kept: {self.path}")
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(step)
        self.optimiser.step()
        return loss.item()

    def save(self, done: int) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "identity": self.identity,
            "done": done,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        checkpoint.save(state, self.path)

    def _resume(self) -> int:
        state = checkpoint.load(self.path)
        if state is None:
            return 0
        checkpoint.require(state, ("recipe", "done", "network", "optimiser"), self.path)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"'{self.path}' is of another recipe; pass another folder, or delete it.")
        check_identity(state.get("identity", {}), self.identity, str(self.path))
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["done"])

    def _new_optimiser(self, learning_rate: float) -> torch.optim.AdamW:
        weight_decay = self.recipe.weight_decay
        return torch.optim.AdamW(self.network.parameters(), lr=learning_rate, weight_decay=weight_decay)

    def _learning_rate(self, step: int) -> float:
        recipe = self.recipe
        if step < recipe.word_steps:
            at, total, peak = step, recipe.word_steps, recipe.word_learning_rate
        else:
            at, total, peak = step - recipe.word_steps, recipe.steps, recipe.learning_rate
        return scheduled(peak, at, total, recipe.warmup)

    def _word_loss(self, step: int) -> Float[Tensor, ""]:
        """Squared error of each prefix vector to the embedding of the token at its place, in variances."""
        source = random.Random(self.recipe.seed * 1_000_003 + step)
        chosen = source.choices(range(len(self.tokens)), k=self.recipe.word_batch_size)
        words = self.language_model.embed(first_tokens([self.tokens[i] for i in chosen], self.slots)).float()
        prefixes = self.network.words(self.embeddings[chosen], self.recipe.noise)
        loss: Tensor = ((prefixes - words) / self.scale).square().mean()
        return loss

    def _text_loss(self, step: int) -> Float[Tensor, ""]:
        chosen = self._batch(step)
        tokens = [self.tokens[i] for i in chosen]
        return text_loss(
            self.network,
            self.language_model,
            self.embeddings[chosen],
            tokens,
            prompt=self.recipe.prompt,
            noise=self.recipe.noise,
        )

    def _batch(self, step: int) -> list[int]:
        """Texts of like length, the same for the same step however the run was interrupted."""
        size = self.recipe.batch_size
        source = random.Random(self.recipe.seed * 1_000_003 + step // _BUCKET)
        pool = source.sample(range(len(self.tokens)), size * _BUCKET)
        pool.sort(key=lambda i: len(self.tokens[i]))
        order = source.sample(range(_BUCKET), _BUCKET)
        first = order[step % _BUCKET] * size
        return pool[first : first + size]


def scheduled(peak: float, step: int, steps: int, warmup: int) -> float:
    """The learning rate of a step: up to the peak in a line, down in half a cosine, never quite 0."""
    return peak * min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-6


def first_tokens(rows: Sequence[Sequence[int]], length: int) -> Int[Tensor, "B P"]:
    """The first tokens of each text; a short text's last token, which ends it, is repeated."""
    return torch.tensor([[*row[:length], *[row[-1]] * (length - len(row))] for row in rows])


def _encoded(texts: Sequence[str], encoder: TextEncoder, path: Path) -> Float[Tensor, "T k"]:
    """Encode the corpus once: a run that goes on finds its embeddings beside its checkpoint."""
    key = sha256("\n".join([encoder.reference, *texts]).encode()).hexdigest()
    if path.is_file():
        with (
            contextlib.suppress(SafetensorError),
            safe_open(path, "pt") as file,
        ):  # a damaged one is made anew
            if (file.metadata() or {}).get("key") == key:
                found: Tensor = file.get_tensor("embeddings")
                return found
    embeddings = encoder.encode(texts, batch_size=256).cpu()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file({"embeddings": embeddings}, unfinished, {"key": key})
    unfinished.replace(path)
    return embeddings


def fresh_network(
    language_model: LanguageModel,
    recipe: Recipe,
    embeddings: Float[Tensor, "T k"],
    tokens: Sequence[Sequence[int]],
) -> PrefixFromSentence:
    """A network whose prefix starts at the opening's words and at the mean word of each place."""
    opening = language_model.tokenize([recipe.opening])[0] if recipe.opening else []
    network = PrefixFromSentence(
        embeddings.shape[1],
        language_model.width,
        opening_length=len(opening),
        prefix_length=recipe.prefix_length,
        hidden=recipe.hidden,
    )
    places = first_tokens(tokens, recipe.prefix_length).T
    words = torch.stack([language_model.embed(place).float().mean(dim=0) for place in places])
    network.begin_at(language_model.embed(torch.tensor(opening, dtype=torch.long)).float(), words, embeddings)
    return network
