"""One training step of a translator through the frozen language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.common import Contender, Job, close
from benchmarks.jobs import language_model
from torchnle.language.loss import caption_log_probs
from torchnle.language.model import LanguageModel
from torchnle.translators.devil_network import DeViLNetwork

_ROWS = 32
_CAPTIONS = [
    " a small red bird on the grass near an old house",
    " two dogs",
    " the front of a blue car parked beside a brick wall in the snow",
    " a bowl of fruit on a table",
]


def jobs() -> Iterator[Job]:
    """32 captions of 2 to 13 words."""
    lm = language_model()
    torch.manual_seed(0)
    network = DeViLNetwork({"layer": 1280}, lm.width, width=384, depth=4, heads=6, feedforward=1536)
    tokens = {"layer": torch.randn(_ROWS, 1, 1280)}
    captions = (_CAPTIONS * _ROWS)[:_ROWS]

    def step(loss: Callable[[LanguageModel, Tensor, list[str]], Tensor]) -> Tensor:
        network.zero_grad()
        torch.manual_seed(0)  # the same dropout for all
        loss(lm, network(tokens), captions).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    yield Job(
        name=f"training step of a translator, {_ROWS} captions, float32",
        ours=Contender("torchnle", lambda: step(_ours)),
        peers=[Contender("transformers' loss, full logits", lambda: step(_transformers))],
        agree=close(1e-4),
        targets={"transformers' loss, full logits": 1.5},
        note="a network of 4 layers of 384; forward and backward, without the optimiser's step.",
    )


def _ours(lm: LanguageModel, soft: Tensor, captions: list[str]) -> Tensor:
    return -caption_log_probs(lm, soft, captions).sum() / sum(map(len, lm.tokenize(captions)))


def _transformers(lm: LanguageModel, soft: Tensor, captions: list[str]) -> Tensor:
    context, ids = lm.context(soft), lm.tokenize(captions)
    longest = max(map(len, ids))
    words = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    labels = torch.tensor([[-100] * context.shape[1] + row + [-100] * (longest - len(row)) for row in ids])
    loss: Tensor = lm.model(
        inputs_embeds=torch.cat([context, lm.embed(words)], dim=1), labels=labels, use_cache=False
    ).loss
    return loss
