"""Train a text decoder on text alone: first on token embeddings, then on the texts' log-probabilities."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import (
    OPENING,
    PROMPT,
    STOP,
    PrefixFromSentence,
    TextDecoder,
)
from torchnle.training import loop
from torchnle.training.identity import language_identity
from torchnle.training.loop import Examples, Report
from torchnle.training.processes import Share
from torchnle.training.randomness import generator
from torchnle.training.recipe import LoopRecipe
from torchnle.training.texts import SayTexts, ended, first_tokens

#: How many batches are drawn together and sorted by length, so that little padding is computed.
_BUCKET = 8


@dataclass(frozen=True)
class Recipe(LoopRecipe):
    """The settings of training a text decoder.

    Args:
        word_batch_size: Texts per step while token embeddings are learned.
        known: The share of a step's texts through the language model that are drawn from the known phrases,
            which are to be reproduced exactly.
        noise: The largest standard deviation of Gaussian noise on standardised embeddings, drawn uniformly
            from [0, noise] for each text.
        opening: The words at which the opening, the trained vectors before the sentence's, starts.
        prompt: The text after the prefix.
        stop: The string after every text, which ends it.
        prefix_length: The number of vectors of a sentence.
        hidden: The width of the hidden layers.
        others: As `LoopRecipe`.
    """

    word_steps: int = 4_000
    checkpoint_every: int = 100
    word_batch_size: int = 512
    known: float = 0.25
    noise: float = 0.7
    opening: str = OPENING
    prompt: str = PROMPT
    stop: str = STOP
    prefix_length: int = 8
    hidden: int = 960

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.known < 1:
            raise ValueError(f"known={self.known}; pass a share of 0 or more and below 1.")


class Texts(SayTexts):
    """Trains a network so that the language model writes a text after the prefix of its noisy embedding.

    Args:
        network: Maps embeddings to prefixes.
        language_model: The frozen language model.
        recipe: All settings.
        embeddings: The embeddings of the texts.
        tokens: The tokens of the texts, each with its end.
        known: The indices of the known phrases among the texts.
        begun: A digest of the weights from which training continues; "" if it starts at words.
    """

    network: PrefixFromSentence

    def __init__(
        self,
        network: PrefixFromSentence,
        language_model: LanguageModel,
        recipe: Recipe,
        embeddings: Float[Tensor, "T k"],
        tokens: Sequence[list[int]],
        known: Sequence[int] = (),
        begun: str = "",
    ) -> None:
        opening_length = len(network.opening)
        super().__init__(network, language_model, recipe, prompt=recipe.prompt, opening_length=opening_length)
        self.recipe, self.embeddings, self.tokens, self.known = recipe, embeddings, tokens, known
        self.begun = begun

    def identity(self) -> dict[str, str]:
        """Digest the corpus, its embeddings, the language model and the weights at the start."""
        corpus = sha256(self.embeddings.numpy().tobytes() + repr(self.tokens).encode()).hexdigest()
        found = {"corpus": corpus, "language model": language_identity(self.language_model)}
        return {**found, "start": self.begun} if self.begun else found

    def batches(self, steps: range, share: Share) -> Iterator[list[Examples]]:
        """Yield each step's texts, with noise on their embeddings."""
        for step in steps:
            chosen = self.words(step) if step < self.word_steps else self.texts(step)
            noisy = self._noisy(step, chosen)
            yield [
                Examples((noisy[rows],), [self.tokens[i] for i in chosen[rows]], chosen[rows])
                for rows in share.slices(len(chosen))
            ]

    def words(self, step: int) -> list[int]:
        """Draw the texts of a step that trains on token embeddings, of any lengths."""
        source = random.Random(self.recipe.seed * 1_000_003 + step)
        return source.choices(range(len(self.tokens)), k=self.recipe.word_batch_size)

    def texts(self, step: int) -> list[int]:
        """Draw the texts of a step through the language model, of similar lengths."""
        size = self.recipe.batch_size
        source = random.Random(self.recipe.seed * 1_000_003 + step // _BUCKET)
        count = int(self.recipe.known * size * _BUCKET) if self.known else 0
        pool = source.sample(range(len(self.tokens)), size * _BUCKET - count)
        pool += source.choices(self.known or [0], k=count)
        pool.sort(key=lambda i: len(self.tokens[i]))
        first = source.sample(range(_BUCKET), _BUCKET)[step % _BUCKET] * size
        return pool[first : first + size]

    def _noisy(self, step: int, chosen: list[int]) -> Float[Tensor, "B k"]:
        given, source = self.embeddings[chosen], generator("noise", self.recipe.seed, step)
        size = self.recipe.noise * torch.rand(len(chosen), 1, generator=source)
        noise = (size * torch.randn(given.shape, generator=source)).to(self.network.std)
        return given.to(noise) + noise * self.network.std


def train(
    texts: Sequence[str],
    encoder: TextEncoder,
    language_model: LanguageModel,
    recipe: Recipe,
    folder: Path,
    *,
    known: Sequence[str] = (),
    start: PrefixFromSentence | None = None,
    report: Report = lambda _: None,
) -> TextDecoder:
    """Train a text decoder; a killed run resumes from its last checkpoint and ends with the same weights.

    Args:
        texts: The corpus.
        encoder: The encoder whose embeddings the decoder will read.
        language_model: The frozen language model, through which gradients pass.
        recipe: The settings.
        folder: For the checkpoint and the embeddings.
        known: The texts that are to be reproduced exactly, a subset of `texts`.
        start: The network of a trained decoder for the same encoder and language model, from which training
            continues; None = a network that starts at the embeddings of words.
        report: Called with the facts of a step; its loss is in nats per token.

    Returns:
        The trained decoder, in evaluation mode.

    Raises:
        FloatingPointError: If the loss is not finite; the last checkpoint is kept.
        ValueError: If there are fewer texts than a batch, `start` has other sizes than the recipe's, or the
            checkpoint is of another recipe.
    """
    if len(texts) < recipe.batch_size * _BUCKET:
        raise ValueError(
            f"{len(texts)} texts are too few; at least {recipe.batch_size * _BUCKET} are needed."
        )
    embeddings = _encoded(texts, encoder, folder / "embeddings.safetensors")
    tokens = targets(language_model, texts, recipe.stop)
    torch.manual_seed(recipe.seed)
    network = fresh_network(language_model, recipe, embeddings, tokens)
    begun = continue_from(network, start) if start is not None else ""
    wanted = set(known)
    numbers = [number for number, text in enumerate(texts) if text in wanted]
    objective = Texts(network, language_model, recipe, embeddings, tokens, numbers, begun)
    loop.train(objective, recipe, folder, report=report)
    return TextDecoder(
        network, language_model, encoder=encoder.reference, prompt=recipe.prompt, stop=recipe.stop
    ).eval()


def targets(language_model: LanguageModel, texts: Sequence[str], stop: str = STOP) -> list[list[int]]:
    """Tokenize the texts as they follow the prompt: a space, the text, and the stop string."""
    return ended(language_model, [f" {text}" for text in texts], stop)


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
    """Build a network whose prefix starts at the opening's words and each position's mean token embedding."""
    opening = language_model.tokenize([recipe.opening])[0] if recipe.opening else []
    network = PrefixFromSentence(
        embeddings.shape[1],
        language_model.width,
        opening_length=len(opening),
        prefix_length=recipe.prefix_length,
        hidden=recipe.hidden,
    )
    positions = first_tokens(tokens, recipe.prefix_length).T
    words = torch.stack([language_model.embed(ids).float().mean(dim=0) for ids in positions])
    network.set_start(
        language_model.embed(torch.tensor(opening, dtype=torch.long)).float(), words, embeddings
    )
    return network


def continue_from(network: PrefixFromSentence, start: PrefixFromSentence) -> str:
    """Copy the weights of a trained network into another one, and return their digest.

    The moments that standardise embeddings are copied too, since the weights were trained with them.

    Raises:
        ValueError: If the two networks differ in a size.
    """
    ours, given = network.state_dict(), start.state_dict()
    other = [name for name in ours if ours[name].shape != given[name].shape]
    if other:
        told = ", ".join(
            f"{name} {tuple(given[name].shape)}, not {tuple(ours[name].shape)}" for name in other
        )
        raise ValueError(
            f"the decoder to continue from has other sizes than the recipe and its models: {told}. Pass one "
            "for the same encoder and language model, with the recipe's prefix_length and hidden width."
        )
    network.load_state_dict(given)
    digest = sha256(b"".join(given[name].float().cpu().numpy().tobytes() for name in sorted(given)))
    return digest.hexdigest()
