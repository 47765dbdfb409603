"""Log-probabilities of tokens after a prompt, for sequences of different lengths in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.language.model import LanguageModel

#: The text before a sentence where no class is named.
NEUTRAL_PROMPT = "The photo shows"


def next_log_probs(lm: LanguageModel, rows: Sequence[Sequence[int]], prompt: str) -> Float[Tensor, "B V"]:
    """Compute the log-probabilities of all next tokens of each sequence.

    Args:
        lm: The language model.
        rows: Tokens after the prompt, possibly none.
        prompt: The text before them.
    """
    hidden, start = _hidden(lm, rows, prompt)
    last = torch.tensor([start + len(row) - 1 for row in rows], device=hidden.device)
    return _log_probs(lm, hidden[torch.arange(len(rows), device=hidden.device), last])


def sequence_log_probs(
    lm: LanguageModel, rows: Sequence[Sequence[int]], prompt: str
) -> list[Float[Tensor, "L"]]:
    """Compute the log-probability of every token of each sequence, given the prompt and what precedes it.

    Args:
        lm: The language model.
        rows: Tokens after the prompt, at least one each.
        prompt: The text before them.
    """
    hidden, start = _hidden(lm, [row[:-1] for row in rows], prompt)
    found = []
    for states, row in zip(hidden, rows, strict=True):
        steps = _log_probs(lm, states[start - 1 : start - 1 + len(row)])
        found.append(steps.gather(1, torch.tensor(row, device=steps.device)[:, None])[:, 0])
    return found


def _hidden(
    lm: LanguageModel, rows: Sequence[Sequence[int]], prompt: str
) -> tuple[Float[Tensor, "B L W"], int]:
    """Run the model on the prompt and each sequence, padded at its end; with the length of the prompt."""
    longest = max(len(row) for row in rows)
    padded = [[*row, *[0] * (longest - len(row))] for row in rows]
    embeds = lm.embed(torch.tensor(padded, dtype=torch.long, device=lm.device).view(len(rows), longest))
    context = lm.context(embeds[:, :0], prompt)
    return lm.hidden(torch.cat([context, embeds.to(context)], dim=1)), context.shape[1]


def _log_probs(lm: LanguageModel, hidden: Float[Tensor, "R W"]) -> Float[Tensor, "R V"]:
    return F.linear(hidden, *lm.head).float().log_softmax(dim=1)
