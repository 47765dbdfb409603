"""Peak resident memory above the loaded model, each contender in a process of its own."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.jobs import hidden_states, language_model, prefixes
from benchmarks.suites.head import gradient, naive_log_probs, ours_log_probs
from benchmarks.suites.scoring import naive_scores
from torchnle.language import scoring

_ROWS, _TEXT = 1029, " a small red bird flying"
#: In MB, of torchnle's way; and the most that the head's gradient may take, as a share of the naive way.
_LIMIT, _HEAD_SHARE = 350, 0.1
#: Every tensor from 1 MiB on is memory of its own, given back when it is freed: what glibc keeps for later
#: otherwise differs by 40 MB from run to run.
_RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}


def records() -> list[dict[str, Any]]:
    """Measure every contender, and print."""
    found = {name: _in_a_process(name) for name in _CONTENDERS}
    for name, megabytes in found.items():
        print(f"  {name:<44} {megabytes:9.0f} MB above the loaded model")
    head = found["head gradient: linear_lse_mu"] / found["head gradient: logits, log_softmax"]
    print(f"  scoring: limit {_LIMIT} MB: {_verdict(found['scoring: torchnle'] <= _LIMIT)}")
    print(f"  head: {head:.3f} of the naive way, limit {_HEAD_SHARE}: {_verdict(head <= _HEAD_SHARE)}")
    return [{"job": f"peak memory, {_ROWS} rows, float32", "megabytes": found, "limit": _LIMIT}]


def _scoring(score: Callable[[Any, Tensor, list[str]], Tensor]) -> Callable[[], object]:
    lm = language_model()
    soft = prefixes(lm, _ROWS)

    def run() -> Tensor:
        with torch.no_grad():
            return score(lm, soft, [_TEXT])

    return run


def _head(log_probs: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], object]:
    lm = language_model()
    with torch.no_grad():
        hidden = torch.cat([hidden_states(lm, 147)] * 7)
    targets = torch.arange(_ROWS)
    return lambda: gradient(log_probs, hidden, lm.head[0], targets)


_CONTENDERS: dict[str, Callable[[], Callable[[], object]]] = {
    "scoring: torchnle": lambda: _scoring(scoring.log_prob),
    "scoring: naive": lambda: _scoring(naive_scores),
    "head gradient: linear_lse_mu": lambda: _head(ours_log_probs),
    "head gradient: logits, log_softmax": lambda: _head(naive_log_probs),
}


def _in_a_process(name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.suites.memory", name]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | _RETURNED)
    return float(run.stdout.split()[-1])


def _peak_above(run: Callable[[], object]) -> float:
    """The most resident memory during a run above that before, in MB (Linux with glibc)."""
    ctypes.CDLL(None).malloc_trim(0)  # free memory that is still resident would be used unseen
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1e3


def _status(key: str) -> float:
    """A figure of /proc/self/status in KB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return float(re.findall(rf"{key}:\s+(\d+)", text)[0]) * 1.024


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(_peak_above(_CONTENDERS[sys.argv[1]]()))
