"""A cache of the results of `packed.self_check`, so that it runs once per model."""

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
    """The result of `packed.self_check` for one model.

    Args:
        difference: The optimised way of reading that is not exact, and its error; None = all are exact.
        short_attention: Whether the attention may be replaced for single tokens.
    """

    difference: str | None
    short_attention: bool


def reading_of(lm: LanguageModel) -> Verdict:
    """Return the cached result of the self-check of a model, or run the check.

    Raises:
        ValueError: As `check_plain_reading`.
    """
    key = key_of(lm)
    verdict = recall(key)
    if verdict is None:
        self_check.check_plain_reading(lm)
        verdict = Verdict(self_check.difference_of_reading(lm), lm.short_attention)
        remember(key, verdict)
    return verdict


def key_of(lm: LanguageModel) -> str | None:
    """Hash all that the self-check depends on: code, configuration, dtype, device and weights.

    Returns:
        The hash; None for a model that these do not identify: of a class outside transformers (whose code has
        no version), with hooks, or with a forward replaced in an object or a class.
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
    """Return the stored result under a key, of this process or from disk; None if there is none.

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
    """Store a result in this process and on disk; a folder that cannot be written is ignored."""
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
    valid = verdict.difference is None or isinstance(verdict.difference, str)
    return verdict if valid and isinstance(verdict.short_attention, bool) else None
