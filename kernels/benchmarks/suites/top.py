"""The best texts of every location, the best locations of a text: best-first against scoring everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.common import Contender, DisagreementError, Job
from benchmarks.jobs import CLASS_NAMES, language_model, prefixes
from torchnle.language import scoring
from torchnle.language.packed import search
from torchnle.language.ranking import Ranking

_TEXT = " a small red bird"


def jobs() -> Iterator[Job]:
    """The 5 best of 100 class names and of 20 phrases at 16 locations; the 5 best of 98 locations."""
    lm = language_model()
    for kind, texts in (
        ("class names", [" " + name for name in CLASS_NAMES]),
        ("phrases", [f" the {name} on the left" for name in CLASS_NAMES[:20]]),
    ):
        soft = prefixes(lm, 16)
        found = search.top_texts(lm, soft, texts, 5)
        yield Job(
            name=f"the 5 best of {len(texts)} {kind} at 16 locations, float32",
            ours=Contender("top_texts", lambda s=soft, t=texts: search.top_texts(lm, s, t, 5)),
            peers=[_exhaustive(lambda s=soft, t=texts: Ranking.of(scoring.log_prob(lm, s, t), 5))],
            agree=_same,
            note=_work(found),
        )
    soft = prefixes(lm, 98)
    yield Job(
        name="the 5 best of 98 locations for a text of 4 tokens, float32",
        ours=Contender("top_rows", lambda: search.top_rows(lm, soft, _TEXT, 5)),
        peers=[_exhaustive(lambda: Ranking.of(scoring.log_prob(lm, soft, [_TEXT])[:, 0], 5))],
        agree=_same,
        note=_work(search.top_rows(lm, soft, _TEXT, 5)),
    )


def _exhaustive(run: Callable[[], Ranking]) -> Contender:
    return Contender("score everything, then sort", run)


def _work(found: Ranking) -> str:
    return f"{found.extensions} of {found.exhaustive} beginnings were read on."


def _same(ours: Ranking, theirs: Ranking) -> str:
    """Equal but for near ties, which rounding may turn."""
    difference = (ours.scores - theirs.scores).abs().max().item()
    if difference > 1e-3:
        raise DisagreementError(f"the best scores differ by {difference:.2g}")
    equal = (ours.indices == theirs.indices).float().mean().item()
    return f"{equal:.1%} of the numbers equal, largest difference {difference:.1e}"
