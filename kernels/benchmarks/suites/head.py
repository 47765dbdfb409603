"""The language model's head on real hidden states: row statistics without logits, against logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import Contender, Job, close, dtype_name
from benchmarks.jobs import hidden_states, language_model
from torchnle import ops

#: Log-probabilities (R,) of target tokens (R,), from hidden states (R, W) and a head (V, W).
LogProbs: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

_ROWS = 1029
_NAIVE = "logits, log_softmax"
#: float32: rounding; bfloat16: the logits of the naive way are rounded, ours are not.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2}


def jobs() -> Iterator[Job]:
    """1,029 rows, forward and with the gradient, in float32 and bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        lm = language_model()
        weight = lm.head[0].detach().to(dtype)
        with torch.no_grad():
            hidden = hidden_states(lm, _ROWS).to(dtype)
        targets = torch.randint(weight.shape[0], (_ROWS,), generator=torch.Generator().manual_seed(1))
        narrow = dtype == torch.bfloat16
        yield forward(hidden, weight, targets, target=2 if narrow else 1.25)
        yield backward(hidden, weight, targets, target=2.2 if narrow else 1.25)


def forward(hidden: Tensor, weight: Tensor, targets: Tensor, *, target: float | None = None) -> Job:
    """Log-probabilities of one token a row."""
    peers = others(hidden.device)
    return Job(
        name=f"head forward, {len(hidden)} rows, {dtype_name(hidden.dtype)}",
        ours=Contender("linear_lse", lambda: _ours(hidden, weight, targets)),
        peers=[
            Contender(_NAIVE, lambda: _forward_naive(hidden, weight, targets)),
            *(Contender(name, partial(torch.no_grad()(run), hidden, weight, targets)) for name, run in peers),
        ],
        agree=close(_TOLERANCE[hidden.dtype]),
        targets={} if target is None else {_NAIVE: target},
    )


def backward(hidden: Tensor, weight: Tensor, targets: Tensor, *, target: float | None = None) -> Job:
    """The gradient of their sum."""
    return Job(
        name=f"head forward and backward, frozen, {len(hidden)} rows, {dtype_name(hidden.dtype)}",
        ours=Contender("linear_lse_mu", lambda: gradient(ours_log_probs, hidden, weight, targets)),
        peers=[
            Contender(name, lambda log_probs=log_probs: gradient(log_probs, hidden, weight, targets))
            for name, log_probs in ((_NAIVE, naive_log_probs), *others(hidden.device))
        ],
        agree=_agree_relatively,
        targets={} if target is None else {_NAIVE: target},
    )


def ours_log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities whose gradient is kept, not the logits."""
    return _logits(hidden, weight, targets) - ops.linear_lse_mu(hidden, weight)[0]


@torch.no_grad()
def _ours(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return _logits(hidden, weight, targets) - ops.linear_lse(hidden, weight)[0]


def _logits(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return (hidden.float() * weight[targets].float()).sum(dim=1)


def naive_log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """As transformers does: logits in the model's type, the softmax in float32."""
    return F.linear(hidden, weight).float().log_softmax(dim=1).gather(1, targets[:, None])[:, 0]


@torch.no_grad()
def _forward_naive(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return naive_log_probs(hidden, weight, targets)


def gradient(log_probs: LogProbs, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the summed log-probabilities."""
    leaf = hidden.clone().requires_grad_()
    log_probs(leaf, weight, targets).sum().backward()
    gradient: Tensor = leaf.grad
    return gradient


def others(device: torch.device) -> Iterator[tuple[str, LogProbs]]:
    """Other people's heads without logits, where they are installed and run."""
    if hasattr(F, "linear_cross_entropy"):
        yield "F.linear_cross_entropy", _linear_cross_entropy(None)
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=256)
        yield "F.linear_cross_entropy, chunks of 256", _linear_cross_entropy(options)
    if device.type == "cuda" and find_spec("cut_cross_entropy"):
        cut = import_module("cut_cross_entropy").linear_cross_entropy
        yield "Cut Cross-Entropy", lambda h, weight, t: -cut(h, weight, t, reduction="none").float()
    if device.type == "cuda" and find_spec("liger_kernel"):
        fused = import_module("liger_kernel.transformers.functional").liger_fused_linear_cross_entropy
        yield "Liger, fused", lambda h, weight, t: -fused(h, weight, t, reduction="none").float()


def _linear_cross_entropy(options: Any) -> LogProbs:
    def log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        losses: Tensor = F.linear_cross_entropy(hidden, weight, targets, reduction="none", options=options)
        return -losses.float()

    return log_probs


def _agree_relatively(ours: Tensor, theirs: Tensor) -> str:
    scale = theirs.float().abs().max()
    return close(1e-4 if ours.dtype == torch.float32 else 3e-2)(ours.float() / scale, theirs.float() / scale)
