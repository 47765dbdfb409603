"""The objective of TExplain's translator: the log-probability of captions of whole images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.errors import TranslatorMismatchError
from torchnle.language.loss import ids_log_probs
from torchnle.methods.texplain.cross_attention.translator import CrossAttentionTranslator
from torchnle.training.dropout import pool
from torchnle.training.identity import run_identity, supply_identity
from torchnle.training.loop import Examples, Objective
from torchnle.training.order import Order
from torchnle.training.processes import Share
from torchnle.training.randomness import generator
from torchnle.training.recipe import LoopRecipe
from torchnle.training.supply import Batch, Supply
from torchnle.training.texts import caption_tokens, embedding_scale, word_errors
from torchnle.translators.prefix import PrefixTranslator

#: A translator whose network reads whole images, before a causal language model or a BERT decoder.
AnyTExplain: TypeAlias = PrefixTranslator | CrossAttentionTranslator


class WholeImages(Objective):
    """Trains a network so that a frozen language model writes an image's caption (section 2.2).

    The network reads every token of an image together, or with ``tokens=1`` the mean over its locations, as
    `describe` does. The loss is the cross-entropy of the caption with its end, in nats per token. In the word
    steps of the recipe, which the paper does not have, each vector learns the embedding of one word of the
    caption, without the language model.

    Args:
        translator: The translator.
        supply: Features and captions; of tokens that stand outside the grid too, where the network reads any.
        recipe: All settings.
        order: The pairs of each step.
        start: A digest of the weights that this run starts from, if another run made them.

    Raises:
        TranslatorMismatchError: If the supply's layer or number of tokens is not the network's.
        ValueError: If there are word steps for a decoder with cross-attention, which reads no embeddings.
    """

    def __init__(
        self,
        translator: AnyTExplain,
        supply: Supply,
        recipe: LoopRecipe,
        order: Order,
        *,
        longest: int = 60,
        start: str = "",
    ) -> None:
        super().__init__(translator.network)
        check_supply(translator, supply)
        self.translator, self.supply, self.recipe, self.order = translator, supply, recipe, order
        self.longest, self.start = longest, start
        self.scale = 1.0
        if recipe.word_steps:
            if not isinstance(translator, PrefixTranslator):
                raise ValueError(
                    f"word_steps={recipe.word_steps}: the vectors of a decoder with cross-attention are no "
                    "words. Pass word_steps=0."
                )
            self.scale = embedding_scale(translator.language_model)

    def identity(self) -> dict[str, str]:
        """Compute the digests of data, vision model, language model, network and initial weights."""
        started = {"start": self.start} if self.start else {}
        parts = self.order.parts
        if isinstance(self.translator, PrefixTranslator):
            return {**run_identity(self.translator, self.supply, parts), **started}
        network = self.translator.network
        return {
            "decoder": self.translator.decoder.fingerprint,
            "network": f"{type(network).__name__} {network.config}",
            "order of pairs": repr([(part.items, part.start, part.stop) for part in parts]),
            **supply_identity(self.supply),
            **started,
        }

    def to(self, device: torch.device) -> None:
        """Move the translator with its frozen model."""
        self.translator.to(device)

    def batches(self, steps: range, share: Share) -> Iterator[list[Examples]]:
        """Yield each step's images."""
        slices = share.slices(self.recipe.batch_size)
        read = self.supply.batches(self.order.batch(step)[rows] for step in steps for rows in slices)
        for step in steps:
            picks = torch.rand(
                self.recipe.batch_size, generator=generator("captions", self.recipe.seed, step)
            )
            yield [
                self._examples(batch, picks[rows].tolist()) for rows, batch in zip(slices, read, strict=False)
            ]

    def count(self, step: int, batch: Examples) -> int:
        """Count tokens, or rows in word steps."""
        return len(batch.ids) if step < self.recipe.word_steps else sum(map(len, batch.ids))

    def losses(self, network: nn.Module, step: int, batch: Examples) -> Float[Tensor, "R"]:
        """Compute the nats of each row's caption, or the error of its words' embeddings."""
        vectors = network(*batch.inputs)
        if step < self.recipe.word_steps and isinstance(self.translator, PrefixTranslator):
            return word_errors(self.translator.language_model, vectors, batch.ids, self.scale)
        return -caption_scores(self.translator, vectors, batch.ids)

    def _examples(self, batch: Batch, picks: Sequence[float]) -> Examples:
        captions = [texts[int(part * len(texts))] for texts, part in zip(batch.captions, picks, strict=True)]
        inputs = inputs_of(self.translator, batch.tokens)
        ids = caption_ids(self.translator, captions, self.longest)
        return Examples((inputs,), ids, batch.items, batch.unreadable)


def inputs_of(translator: AnyTExplain, tokens: Any) -> dict[str, Tensor]:
    """Return the tokens of images as the network reads them: all, or their mean."""
    moved = {layer: x.to(translator.device) for layer, x in tokens.items()}
    return pool(moved) if translator.tokens_per_row == 1 else moved


def caption_ids(translator: AnyTExplain, captions: Sequence[str], longest: int) -> list[list[int]]:
    """Tokenize captions, each with its end, as the translator's language model decodes them.

    Raises:
        ValueError: If a caption is blank.
    """
    if isinstance(translator, PrefixTranslator):
        return caption_tokens(translator, captions, longest=longest)
    decoder = translator.decoder
    return [[*ids, decoder.end_id][:longest] for ids in decoder.tokenize(captions)]


def caption_scores(
    translator: AnyTExplain, vectors: Float[Tensor, "R P E"], ids: Sequence[Sequence[int]]
) -> Float[Tensor, "R"]:
    """Compute the log-probability of each row's own caption, in nats, differentiable in the vectors."""
    if isinstance(translator, PrefixTranslator):
        return ids_log_probs(translator.language_model, vectors, ids, prompt=translator.prompt)
    return translator.decoder.log_probs(vectors, ids)


def check_supply(translator: AnyTExplain, supply: Supply) -> None:
    """Refuse data of another layer, width or number of tokens than the network reads.

    Raises:
        TranslatorMismatchError: With both.
    """
    network, count = translator.network, translator.tokens_per_row
    counts = supply.location_counts
    if dict(network.layers) != dict(supply.widths):
        raise TranslatorMismatchError(
            f"translator '{translator.name}' reads layers of widths {network.layers}; the data gives "
            f"{dict(supply.widths)}. Build the translator for these layers."
        )
    if count != 1 and any(found != count for found in counts.values()):
        raise TranslatorMismatchError(
            f"translator '{translator.name}' reads {count} tokens of an image; the data gives {dict(counts)}"
            ". Build it with tokens=... of these, or tokens=1 for their mean; class and register tokens "
            "count if the supply was built with extra=True."
        )
