"""One training step of a translator through the frozen language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from benchmarks.common import Contender, Job, close, dtype_name
from benchmarks.jobs import language_model
from torchnle.language.loss import caption_log_probs
from torchnle.language.model import LanguageModel
from torchnle.methods.devil.network import DeViLNetwork

_ROWS = 32
_PEER = "transformers' loss, full logits"
CAPTIONS = [
    " a small red bird on the grass near an old house",
    " two dogs",
    " the front of a blue car parked beside a brick wall in the snow",
    " a bowl of fruit on a table",
]


def jobs() -> Iterator[Job]:
    """32 captions of 2 to 13 words."""
    yield step(language_model(), agree=1e-4, targets={_PEER: 1.5})


def step(lm: LanguageModel, *, agree: float, targets: Mapping[str, float]) -> Job:
    """One step; `agree` is how far a gradient may lie from the other's."""
    torch.manual_seed(0)
    network = DeViLNetwork({"layer": 1280}, lm.width, width=384, depth=4, heads=6, feedforward=1536)
    network.to(lm.device)
    tokens = {"layer": torch.randn(_ROWS, 1, 1280).to(lm.device)}
    captions = (CAPTIONS * _ROWS)[:_ROWS]

    def run(loss: Callable[[LanguageModel, Tensor, list[str]], Tensor]) -> Tensor:
        network.zero_grad()
        torch.manual_seed(0)  # the same dropout for all
        loss(lm, network(tokens), captions).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    return Job(
        name=f"training step of a translator, {_ROWS} captions, {dtype_name(lm.dtype)}",
        ours=Contender("torchnle", lambda: run(_ours)),
        peers=[Contender(_PEER, lambda: run(_transformers))],
        agree=close(agree),
        targets=targets,
        note="a network of 4 layers of 384; forward and backward, without the optimiser's step.",
    )


def _ours(lm: LanguageModel, soft: Tensor, captions: list[str]) -> Tensor:
    return -caption_log_probs(lm, soft, captions).sum() / sum(map(len, lm.tokenize(captions)))


def _transformers(lm: LanguageModel, soft: Tensor, captions: list[str]) -> Tensor:
    context, ids = lm.context(soft), lm.tokenize(captions)
    longest = max(map(len, ids))
    words = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    labels = torch.tensor([[-100] * context.shape[1] + row + [-100] * (longest - len(row)) for row in ids])
    embeds = torch.cat([context, lm.embed(words.to(lm.device))], dim=1)
    loss: Tensor = lm.model(inputs_embeds=embeds, labels=labels.to(lm.device), use_cache=False).loss
    return loss
