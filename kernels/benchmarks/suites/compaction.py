"""Captions of mixed lengths: rows leave the batch when they end, or stay to the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.common import Contender, Job, same_ids
from benchmarks.jobs import language_model, prefixes
from torchnle.language import decoding
from torchnle.language.model import LanguageModel
from torchnle.language.packed import step_decoding

_ROWS, _TOKENS, _STOP = 98, 50, "."


def jobs() -> Iterator[Job]:
    """98 rows that end at a full stop, or after 50 tokens."""
    lm = language_model()
    lengths = sorted(map(len, _compacted(lm)))
    yield Job(
        name=f"captions of mixed lengths, {_ROWS} rows, at most {_TOKENS} tokens, float32",
        ours=Contender("torchnle, finished rows leave", lambda: _compacted(lm)),
        peers=[
            Contender("the same, rows stay until all have ended", lambda: _never_compacted(lm)),
            Contender("always the full length", lambda: _full(lm)),
        ],
        agree=same_ids(0.98),
        targets={"always the full length": 2},
        note=f"tokens: mean {sum(lengths) / _ROWS:.1f}, median {lengths[_ROWS // 2]}, largest {lengths[-1]}.",
    )


def _compacted(lm: LanguageModel) -> list[list[int]]:
    return decoding.greedy(lm, prefixes(lm, _ROWS), stop=_STOP, max_new_tokens=_TOKENS).ids


def _never_compacted(lm: LanguageModel) -> list[list[int]]:
    with _never_compact():
        return _compacted(lm)


def _full(lm: LanguageModel) -> list[list[int]]:
    with _never_compact():
        decoded = decoding.greedy(lm, prefixes(lm, _ROWS), max_new_tokens=_TOKENS)
    return [ids[: step_decoding.Ends(lm, _STOP).cut(ids)[0]] for ids in decoded.ids]


@contextmanager
def _never_compact() -> Iterator[None]:
    before = step_decoding.compact_below
    step_decoding.compact_below = lambda _: 0.0
    try:
        yield
    finally:
        step_decoding.compact_below = before
