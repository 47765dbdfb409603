"""Wraps a tiny model of every architecture, and compares what torchnle reads with the model's own forward."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurements.reading.tiny_models import build, tokenizer
from torchnle.evaluation import record
from torchnle.journal import Journal
from torchnle.language.decoding import greedy
from torchnle.language.loss import caption_log_probs
from torchnle.language.model import LanguageModel
from torchnle.language.scoring import log_prob

TEXTS = ["w8 w9 w7", "w5 w6 w7 w30", "w8 w9 w31", "w6", "w40 w41"]
_ROWS, _PREFIX, _STEPS = 3, 4, 8
_LIMIT = 1e-3  # nats


@dataclass(frozen=True)
class Outcome:
    """The reading of one architecture.

    Args:
        kind: The model type.
        state: "as it is", "plainly", "refused" with the reason, or "not built".
        same_texts: How many of the greedy texts are those of a plain uncached loop.
        rows: How many there are.
        apart: The largest difference of a log-probability from the plain forward's, in nats.
        reason: The warning or error.
    """

    kind: str
    state: str
    same_texts: int = 0
    rows: int = 0
    apart: float = 0.0
    reason: str = ""

    @property
    def right(self) -> bool:
        """True if it is refused, or read as its own plain forward reads."""
        read = self.same_texts == self.rows and self.apart <= _LIMIT
        return self.state in ("refused", "not built") or read


def kinds() -> list[str]:
    """Every model type that transformers has a causal language model of, and variants."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted([*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "falcon_alibi", "phi3_longrope"])


def examine(kind: str, *, largest: int = 3_000_000) -> Outcome:
    """Wrap a tiny model of one architecture and compare.

    Args:
        kind: A model type.
        largest: Models of more parameters than that are left out: their sizes have other names.
    """
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in build(kind).parameters())
        if count > largest:
            return Outcome(kind, "not built", reason=f"{count:,} parameters with these sizes")
        model = build(kind)
    except Exception as error:  # noqa: BLE001 - transformers' validators raise classes of their own
        return Outcome(kind, "not built", reason=_short(error))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            lm = LanguageModel(model, tokenizer(), reference=kind)
        except (TypeError, ValueError) as error:
            return Outcome(kind, "refused", reason=_short(error))
    warned = [str(each.message) for each in caught if "will be read without" in str(each.message)]
    return _compare(kind, lm, warned[0] if warned else "")


def _compare(kind: str, lm: LanguageModel, reason: str) -> Outcome:
    prefixes = torch.randn(_ROWS, _PREFIX, lm.width, generator=torch.Generator().manual_seed(0)) * 0.5
    most = lm.max_positions or 1000
    steps, texts = (
        min(_STEPS, most - _PREFIX),
        [text for text in TEXTS if len(text.split()) <= most - _PREFIX],
    )
    written = greedy(lm, prefixes, max_new_tokens=steps).ids
    same = sum(ids == plain_greedy(lm, prefix, steps) for ids, prefix in zip(written, prefixes, strict=True))
    oracle = torch.stack([plain_log_probs(lm, prefix, texts) for prefix in prefixes])
    beside = log_prob(lm, prefixes, texts)
    alone = torch.cat([log_prob(lm, prefixes, [text]) for text in texts], dim=1)
    trained = caption_log_probs(lm, prefixes, texts[:_ROWS])
    apart = max(
        float((beside - oracle).abs().max()),
        float((alone - oracle).abs().max()),
        float((trained - oracle.diagonal()[:_ROWS]).abs().max()),
    )
    state = "plainly" if lm.plain else "as it is"
    return Outcome(kind, state, same, _ROWS, apart, reason)


@torch.no_grad()
def plain_greedy(lm: LanguageModel, prefix: Tensor, steps: int) -> list[int]:
    """The most probable token, again and again, by the whole model from the start each time."""
    written: list[int] = []
    for _ in range(steps):
        token = int(_logits(lm, prefix, written)[-1].argmax())
        if token in lm.eos_ids:
            break
        written.append(token)
    return written


@torch.no_grad()
def plain_log_probs(lm: LanguageModel, prefix: Tensor, texts: Iterable[str]) -> Tensor:
    """The log-probability of every text by one forward of the whole model each."""
    scores = []
    for text in texts:
        ids = [int(word[1:]) for word in text.split()]
        logits = _logits(lm, prefix, ids)[-len(ids) - 1 : -1].double().log_softmax(dim=1)
        scores.append(logits[torch.arange(len(ids)), torch.tensor(ids)].sum())
    return torch.stack(scores)


def _logits(lm: LanguageModel, prefix: Tensor, ids: list[int]) -> Tensor:
    table = lm.model.get_input_embeddings()
    embeds = torch.cat([table(torch.tensor([1])), prefix, table(torch.tensor(ids, dtype=torch.long))])
    logits: Tensor = lm.model(inputs_embeds=embeds[None], use_cache=False).logits[0]
    return logits


def measure(chosen: Sequence[str], journal: Path, most: int | None = None) -> list[Outcome]:
    """Examine architectures that the journal does not hold yet, at most so many now.

    Args:
        chosen: Model types.
        journal: Keeps what was found, for the next call.
        most: How many to examine now; None = all.
    """
    book, found = Journal(journal, {"texts": TEXTS, "rows": _ROWS}), []
    for kind in chosen:
        if most is not None and kind not in book and not most:
            continue
        most = most if most is None or kind in book else most - 1
        found.append(Outcome(**book.get(kind, lambda kind=kind: asdict(examine(kind)))))  # type: ignore[misc]
    return found


def report(outcomes: list[Outcome]) -> tuple[dict[str, Any], str]:
    """Return what JSON keeps, and the page."""
    counts = {state: sum(o.state == state for o in outcomes) for state in _STATES}
    wrong = [outcome.kind for outcome in outcomes if not outcome.right]
    rows = [
        [
            o.kind,
            o.state,
            f"{o.same_texts} of {o.rows}" if o.rows else None,
            o.apart if o.rows else None,
            o.reason,
        ]
        for o in outcomes
    ]
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    page = (
        "# Language models of every architecture, beside their own plain forward\n\n"
        "Tiny models with random weights, built from configuration classes "
        "(`python -m measurements reading`). "
        f"Read {summary}. Not right: {len(wrong)} {' '.join(wrong)}\n\n"
        + record.table(["architecture", "read", "same texts", "nats apart", "said"], rows)
    )
    data = {"setting": record.setting(), "counts": counts, "wrong": wrong}
    return data | {"outcomes": [asdict(outcome) for outcome in outcomes]}, page


_STATES = ("as it is", "plainly", "refused", "not built")


def _short(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text.replace("|", "/")[:160]
