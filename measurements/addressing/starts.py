"""Starts of training: a new prefix from the mean token embeddings, or from random directions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence
from torchnle.methods.aligned.decoder.training import Recipe, Texts, fresh_network, targets
from torchnle.training import loop
from torchnle.training.loop import Examples

Start: TypeAlias = Literal["mean words", "random"]
STARTS: tuple[Start, ...] = ("mean words", "random")
#: The shipped decoder's settings for a few steps, without noise, and without the word steps before them.
START_RECIPE = Recipe(steps=60, batch_size=32, warmup=10, word_steps=0, noise=0.0)


def loss_from_start(
    lm: LanguageModel,
    encoder: TextEncoder,
    texts: Sequence[str],
    training_texts: Sequence[str],
    start: Start,
    recipe: Recipe = START_RECIPE,
) -> dict[str, float]:
    """Train a new network through the language model for a few steps, as the text decoder is trained.

    Args:
        lm: The language model.
        encoder: Gives the embeddings that the network reads.
        texts: The texts on which losses are measured.
        training_texts: The texts to train on.
        start: "mean words" = each prefix vector starts at the mean embedding of the token at its position;
            "random" = at random directions of the same lengths. The opening starts at its words in both.
        recipe: All settings; its noise and its word steps are not used.

    Returns:
        The loss on `texts`, in nats a token, "before" and "after" the steps.

    Raises:
        FloatingPointError: If the loss is not finite in the end.
    """
    torch.manual_seed(recipe.seed)
    learned, held = _encoded(encoder, training_texts), _encoded(encoder, texts)
    tokens, held_tokens = targets(lm, training_texts, recipe.stop), targets(lm, texts, recipe.stop)
    network = fresh_network(lm, recipe, learned, tokens)
    if start == "random":
        _scatter(network)
    examples = Examples((held,), held_tokens, range(len(held)))
    plain = replace(recipe, steps=max(1, recipe.steps), word_steps=0, noise=0.0)
    objective = _AnyTexts(network, lm, plain, learned, tokens)
    before = _loss(objective, examples)
    if recipe.steps:
        with TemporaryDirectory() as folder:
            loop.train(objective, plain, folder)
    return {"before": before, "after": _loss(objective, examples)}


class _AnyTexts(Texts):
    """Draws texts one by one, so that a dozen are enough."""

    def texts(self, step: int) -> list[int]:
        """Draw the texts of a step."""
        source = random.Random(f"{self.recipe.seed} {step}")
        return source.choices(range(len(self.tokens)), k=self.recipe.batch_size)


@torch.no_grad()
def _scatter(network: PrefixFromSentence) -> None:
    """Replace every vector that the prefix starts at by a random direction of the same length."""
    drawn = torch.randn_like(network.start)
    network.start.copy_(nn.functional.normalize(drawn, dim=1) * network.start.norm(dim=1, keepdim=True))


@torch.no_grad()
def _loss(objective: Texts, examples: Examples) -> float:
    """Compute the loss in nats a token."""
    nats = objective.losses(objective.network, 0, examples).sum()
    return float(nats) / objective.count(0, examples)


def _encoded(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    return encoder.encode(texts, batch_size=256).cpu()
