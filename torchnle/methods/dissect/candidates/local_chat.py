"""A chat model on this machine: any causal language model of transformers with a chat template."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchnle.language import decoding
from torchnle.language.model import LanguageModel
from torchnle.methods.dissect.candidates.prompts import Message


class LocalChat:
    """Answers conversations with a frozen chat model; the embedded default is SmolLM2-135M-Instruct.

    Args:
        lm: The language model; None = the embedded default.
        temperature: The temperature of sampling (the paper's code: 0.3); 0 = greedy.
        max_new_tokens: The largest number of tokens of an answer.
        seed: The seed of sampling; the same conversation and number give the same answer.

    Raises:
        ValueError: If the tokenizer has no chat template.

    Example:
        >>> chat = LocalChat()  # doctest: +SKIP
        >>> chat([{"role": "user", "content": "Say hello."}], 0)  # doctest: +SKIP
        'Hello!'
    """

    def __init__(
        self,
        lm: LanguageModel | None = None,
        *,
        temperature: float = 0.3,
        max_new_tokens: int = 16,
        seed: int = 0,
    ) -> None:
        self.lm = LanguageModel.from_pretrained() if lm is None else lm
        if not getattr(self.lm.tokenizer, "chat_template", None):
            raise ValueError(
                f"the language model '{self.lm.reference}' has no chat template; pass an instruction model."
            )
        self.temperature, self.max_new_tokens, self.seed = temperature, max_new_tokens, seed

    @property
    def fingerprint(self) -> str | None:
        """The identity of everything that its answers depend on; None for a model without a reference."""
        settings = f"{self.temperature} {self.max_new_tokens} {self.seed} {self.lm.dtype}"
        return f"{self.lm.reference} {settings}" if self.lm.reference else None

    @torch.no_grad()
    def __call__(self, messages: Sequence[Message], number: int) -> str:
        """Answer a conversation.

        Args:
            messages: The turns so far.
            number: Tells several answers to one conversation apart.
        """
        ids = self._ids(messages)
        prefix = self.lm.embed(torch.tensor([ids], device=self.lm.device))
        stop = {"stop": "\n", "max_new_tokens": self.max_new_tokens}
        if self.temperature == 0:
            return decoding.greedy(self.lm, prefix, **stop).texts[0].strip()  # type: ignore[arg-type]
        draws = torch.Generator().manual_seed(1_000_003 * self.seed + number)
        found = decoding.sample(
            self.lm,
            prefix,
            1,
            temperature=self.temperature,
            generator=draws,
            **stop,  # type: ignore[arg-type]
        )
        return found.texts[0].strip()

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        """The conversation as tokens, without the one that the language model begins with anyway."""
        text: str = self.lm.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        ids = self.lm.tokenize([text])[0]
        return ids[1:] if ids[:1] == [self.lm.bos_id] else ids
