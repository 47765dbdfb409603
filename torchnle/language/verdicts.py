"""Remembers how a language model may be read, so that `packed.self_check` runs once a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub.constants import HF_HOME

from torchnle.hub import leftovers
from torchnle.language.packed import self_check
from torchnle.version import __version__

if TYPE_CHECKING:
    from torchnle.language.model import LanguageModel

#: Of every parameter so many numbers, evenly spaced, tell weights apart.
_SAMPLE = 64
_OF_LIBRARIES = ("transformers.", "torch.")
_seen: dict[str, Verdict] = {}


@dataclass(frozen=True)
class Verdict:
    """The finding on a model that reads its own embeddings from left to right.

    Args:
        difference: What may not be used, and why; None = caches and packed texts are right.
        short_attention: Whether attention may be replaced for single tokens.
    """

    difference: str | None
    short_attention: bool


def reading_of(lm: LanguageModel) -> Verdict:
    """Check how a model may be read, unless that is known.

    Raises:
        ValueError: If it cannot be read at all.
    """
    key = key_of(lm)
    verdict = recall(key)
    if verdict is None:
        self_check.check_plain_reading(lm)
        verdict = Verdict(self_check.difference_of_reading(lm), lm.short_attention)
        remember(key, verdict)
    return verdict


def key_of(lm: LanguageModel) -> str | None:
    """Compute the key under which a verdict holds: code, configuration, dtype, device and weights.

    Returns:
        None for a model that cannot be told from another by these: of a class that is not of transformers
        (its code has no version), with hooks, or with a forward that was replaced in an object or a class.
    """
    import transformers

    model = lm.model
    for part in model.modules():
        written = (type(part).__module__, str(getattr(type(part).forward, "__module__", "")))
        foreign = not all(module.startswith(_OF_LIBRARIES) for module in written)
        if foreign or part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            return None
    config = model.config
    setting = [
        [__version__, torch.__version__, transformers.__version__],
        [type(model).__module__, type(model).__qualname__, repr(model)],
        [config.to_json_string(use_diff=False), str(getattr(config, "_attn_implementation", ""))],
        [str(lm.dtype), lm.device.type, lm.vocab_size, lm.embedding_count],
    ]
    total = hashlib.sha256(json.dumps(setting).encode())
    for name, weight in model.state_dict().items():
        flat = weight.detach().flatten()
        step = max(1, len(flat) // _SAMPLE)
        total.update(f"{name} {tuple(weight.shape)}".encode())
        total.update(flat[::step][:_SAMPLE].float().cpu().numpy().tobytes())
    return total.hexdigest()


def recall(key: str | None) -> Verdict | None:
    """Return the verdict under a key, of this process or of an earlier one; None if there is none.

    Example:
        >>> recall(None) is None
        True
    """
    if key is None:
        return None
    if key not in _seen:
        found = _read(_file(key))
        if found is not None:
            _seen[key] = found
    return _seen.get(key)


def remember(key: str | None, verdict: Verdict) -> None:
    """Keep a verdict; a folder that cannot be written is passed over."""
    if key is None:
        return
    _seen[key] = verdict
    file = _file(key)
    with contextlib.suppress(OSError), leftovers.replacing(file) as scratch:
        scratch.write_text(json.dumps(asdict(verdict)), encoding="utf-8")


def _file(key: str) -> Path:
    return Path(HF_HOME) / "torchnle" / "readings" / f"{key}.json"


def _read(file: Path) -> Verdict | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        verdict = Verdict(**found)
    except (OSError, ValueError, TypeError):
        return None
    said = verdict.difference is None or isinstance(verdict.difference, str)
    return verdict if said and isinstance(verdict.short_attention, bool) else None
