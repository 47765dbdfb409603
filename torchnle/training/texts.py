"""The text objective: a prefix learns token embeddings first, then the text's log-probability after it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.language.loss import ids_log_probs
from torchnle.language.model import LanguageModel
from torchnle.training.loop import Examples, Objective
from torchnle.training.recipe import LoopRecipe
from torchnle.translators.prefix import PrefixTranslator


class SayTexts(Objective):
    """Trains a network so that a frozen language model writes each row's text after its prefix.

    The loss is DeViL's equation 1, in nats per token. In the `word_steps` steps before, each prefix vector is
    regressed on the embedding of the text's token at its position: such a step does not run the language
    model and costs hundreds of times less, and gives prefixes that the language model can read. The paper
    does not do this.

    Args:
        network: Maps a row's inputs to prefixes.
        language_model: The frozen language model.
        recipe: Gives the number of word steps.
        prompt: The text between the prefix and the row's text.
        opening_length: The number of vectors at the start of a prefix that are the same for all rows.
    """

    def __init__(
        self,
        network: nn.Module,
        language_model: LanguageModel,
        recipe: LoopRecipe,
        *,
        prompt: str,
        opening_length: int,
    ) -> None:
        super().__init__(network)
        self.language_model, self.word_steps = language_model, recipe.word_steps
        self.prompt, self.opening_length = prompt, opening_length
        self.scale = embedding_scale(language_model)

    def to(self, device: torch.device) -> None:
        """Move the language model."""
        self.language_model.to(device)

    def count(self, step: int, batch: Examples) -> int:
        """Count tokens, or rows in word steps."""
        return len(batch.ids) if step < self.word_steps else sum(map(len, batch.ids))

    def losses(self, network: nn.Module, step: int, batch: Examples) -> Float[Tensor, "R"]:
        """Compute each row's negative log-probability in nats, or in word steps its embedding error."""
        prefixes = network(*batch.inputs)
        if step < self.word_steps:
            return word_errors(self.language_model, prefixes[:, self.opening_length :], batch.ids, self.scale)
        return -ids_log_probs(self.language_model, prefixes, batch.ids, prompt=self.prompt)


def word_errors(
    lm: LanguageModel, prefixes: Float[Tensor, "B P E"], tokens: Sequence[Sequence[int]], scale: float
) -> Float[Tensor, "B"]:
    """Compute the squared error of each row's prefix against its tokens' embeddings, over their variance.

    Args:
        lm: The language model.
        prefixes: One per row, without its opening.
        tokens: One text's tokens per row; the first P are used, a shorter text's last token is repeated.
        scale: The standard deviation of the language model's embeddings (`embedding_scale`).
    """
    ids = first_tokens(tokens, prefixes.shape[1]).to(lm.device)
    errors: Tensor = ((prefixes.float() - lm.embed(ids).float()) / scale).square().mean(dim=(1, 2))
    return errors


def first_tokens(tokens: Sequence[Sequence[int]], length: int) -> Tensor:
    """Truncate texts to their first tokens, (B, length); a shorter text's last token is repeated.

    Example:
        >>> first_tokens([[5, 6, 7], [8]], 2).tolist()
        [[5, 6], [8, 8]]
    """
    return torch.tensor([[*ids[:length], *[ids[-1]] * (length - len(ids))] for ids in tokens])


def embedding_scale(lm: LanguageModel) -> float:
    """Compute the standard deviation of a language model's embeddings."""
    table = lm.embed(torch.arange(lm.vocab_size, device=lm.device))
    return float(table.float().std())


def ended(lm: LanguageModel, texts: Sequence[str], stop: str | None, prompt: str = "") -> list[list[int]]:
    """Tokenize texts, each followed by the stop string, or by the end-of-sequence token if there is none.

    Raises:
        ValueError: If a text is blank, or there is no end token.
    """
    if stop is None and lm.eos_id is None:
        raise ValueError(
            "the language model has no token that ends a text; build the translator with a stop."
        )
    if stop is None:
        end = [lm.eos_id] if lm.eos_id is not None else []
    else:
        word = lm.tokenize([" a"])[0]
        end = lm.tokenize([f" a{stop}"])[0][len(word) :]
    return [[*ids, *end] for ids in lm.tokenize(texts, prompt)]


def caption_tokens(
    translator: PrefixTranslator, captions: Sequence[str], *, longest: int = 100
) -> list[list[int]]:
    """Tokenize captions as they follow the translator's prompt, with their end (`ended`).

    Args:
        translator: Gives the language model, prompt and stop.
        captions: The captions.
        longest: The largest number of tokens of a caption with its end; the rest is cut off (DeViL: 100).

    Raises:
        ValueError: If a caption is blank, or there is no end token.
    """
    followed = translator.follow(captions)
    texts = ended(translator.language_model, followed, translator.stop, translator.prompt)
    return [ids[:longest] for ids in texts]
