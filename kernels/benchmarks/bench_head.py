"""The language model's head on real hidden states: row statistics without logits, against logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import Contender, Job, close
from benchmarks.jobs import hidden_states, language_model
from torchnle import ops

_ROWS = 1029
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
        yield _forward(hidden, weight, targets)
        yield _backward(hidden, weight, targets)


def _forward(hidden: Tensor, weight: Tensor, targets: Tensor) -> Job:
    return Job(
        name=f"head forward, {_ROWS} rows, {_name(hidden)}",
        ours=Contender("linear_lse", lambda: _ours(hidden, weight, targets)),
        peers=[
            Contender("logits, log_softmax", lambda: _forward_naive(hidden, weight, targets)),
            *_linear_cross_entropy(hidden, weight, targets),
        ],
        agree=close(_TOLERANCE[hidden.dtype]),
        targets={"logits, log_softmax": 1.25 if hidden.dtype == torch.float32 else 2},
    )


def _backward(hidden: Tensor, weight: Tensor, targets: Tensor) -> Job:
    return Job(
        name=f"head forward and backward, frozen, {_ROWS} rows, {_name(hidden)}",
        ours=Contender("linear_lse_mu", lambda: gradient(ours_log_probs, hidden, weight, targets)),
        peers=[Contender("logits, log_softmax", lambda: gradient(naive_log_probs, hidden, weight, targets))],
        agree=_agree_relatively,
        targets={"logits, log_softmax": 1.25 if hidden.dtype == torch.float32 else 2.2},
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


def gradient(
    log_probs: Callable[[Tensor, Tensor, Tensor], Tensor], hidden: Tensor, weight: Tensor, targets: Tensor
) -> Tensor:
    """The gradient of the summed log-probabilities."""
    leaf = hidden.clone().requires_grad_()
    log_probs(leaf, weight, targets).sum().backward()
    gradient: Tensor = leaf.grad
    return gradient


def _linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> list[Contender]:
    """PyTorch's own, where this version has it, in its default setting and in large chunks."""
    function = getattr(F, "linear_cross_entropy", None)
    if function is None:
        return []

    def run() -> Tensor:
        with torch.no_grad():
            return -function(hidden, weight, targets, reduction="none").float()

    return [Contender("F.linear_cross_entropy", run)]


def _agree_relatively(ours: Tensor, theirs: Tensor) -> str:
    scale = theirs.float().abs().max()
    return close(1e-4 if ours.dtype == torch.float32 else 3e-2)(ours.float() / scale, theirs.float() / scale)


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
