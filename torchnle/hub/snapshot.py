"""Models on the Hugging Face Hub: the files needed, each checked against the Hub's own hash."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from torchnle.hub import digest, paths, web
from torchnle.hub.report import cause, hide_secrets, in_short, unresolved

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_TEXT = ("*.json", "*.txt", "*.model", "*.jinja")
_SAFE_WEIGHTS = ("*.safetensors",)
_OTHER_WEIGHTS = ("*.bin", "*.pth", "*.pt", "*.gguf")

_logger = logging.getLogger("torchnle")


@dataclass(frozen=True)
class HubModel:
    """One model repository of the Hub at one revision.

    Args:
        repo: "org/name".
        revision: A branch, tag or commit.
        cache: The folder for downloads; None = the Hub client's own cache.
    """

    repo: str
    revision: str
    cache: Path | None

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


def fetch(model: HubModel, verified: Path, *, offline: bool, tried: list[str]) -> Path:
    """Return the folder of a model's weight, configuration and tokenizer files, downloaded if needed.

    The Hub is requested first, so that a moved branch is noticed; if it cannot be reached, the cache is used.

    Args:
        model: The model.
        verified: A folder of marks, one a commit whose files were found to match their hashes.
        offline: Whether to make no request.
        tried: Earlier attempts, for the message.

    Raises:
        FileNotFoundError: If there is no such model or revision, or neither Hub nor cache has it.
        OSError: If a download is interrupted.
        ValueError: If a file does not have the hash that the Hub states; the file is deleted.
    """
    if offline:
        tried.append("the Hugging Face Hub: not asked (offline=True or HF_HUB_OFFLINE is set)")
        return _cached(model, verified, tried)
    info = _ask(model, tried)
    if info is not None:
        return _download(model, info, verified)
    folder = _cached(model, verified, tried)
    _logger.warning("%s comes from the cache; %s", model, tried[-1])
    return folder


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _network_errors() -> tuple[type[BaseException], ...]:
    """Whatever a failed request raises: the Hub's HTTP library, which changed twice, is its error's base."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


@contextmanager
def hidden_secrets() -> Iterator[None]:
    """Convert failures of requests in the block to OSErrors that show no password and no query of a URL.

    Raises:
        OSError: If a request fails.
    """
    try:
        yield
    except _network_errors() as error:
        if isinstance(error, OSError) and cause(error) is error:
            raise
        raise OSError(f"the request failed: {in_short(error)}") from cause(error)


def _ask(model: HubModel, tried: list[str]) -> ModelInfo | None:
    """Ask the Hub about the model; return its answer, or None where it could not be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    hub = f"the Hugging Face Hub at {hide_secrets(_endpoint())}"
    try:
        web.check_address(_endpoint())
    except ValueError as error:
        tried.append(f"the Hugging Face Hub at HF_ENDPOINT: {error}")
        return None
    try:
        return HfApi(endpoint=_endpoint()).model_info(
            model.repo, revision=model.revision, files_metadata=True
        )
    except RepositoryNotFoundError as error:
        tried.append(f"{hub}: has no such model, or it is private or gated (then: 'hf auth login')")
        raise unresolved(str(model), tried) from cause(error)
    except RevisionNotFoundError as error:
        tried.append(f"{hub}: has {model.repo!r}, but not the revision {model.revision!r}")
        raise unresolved(str(model), tried) from cause(error)
    except _network_errors() as error:
        tried.append(f"{hub}: {in_short(error)}")
        return None


def _cached(model: HubModel, verified: Path, tried: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            model.repo,
            revision=model.revision,
            cache_dir=model.cache,
            allow_patterns=[*_TEXT, *_SAFE_WEIGHTS, *_OTHER_WEIGHTS],
            local_files_only=True,
        )
    except LocalEntryNotFoundError as error:
        tried.append(f"the Hub's cache {_cache_folder(model)}: has no complete copy")
        raise unresolved(str(model), tried) from error
    if lacking := _missing(model, Path(folder), verified):
        named = ", ".join(lacking[:5])
        tried.append(f"the Hub's cache {_cache_folder(model)}: its copy is not whole, it lacks {named}")
        raise unresolved(str(model), tried)
    return Path(folder)


def _cache_folder(model: HubModel) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return model.cache or Path(HF_HUB_CACHE)


def _download(model: HubModel, info: ModelInfo, verified: Path) -> Path:
    from huggingface_hub import snapshot_download

    files = _needed(info.siblings or ())
    for file in files:
        paths.checked(file.rfilename, str(model))
    try:
        folder = Path(
            snapshot_download(
                model.repo,
                revision=model.revision,
                cache_dir=model.cache,
                endpoint=_endpoint(),
                allow_patterns=[file.rfilename for file in files],
            )
        )
    except _network_errors() as error:
        raise OSError(
            f"downloading {model} from {hide_secrets(_endpoint())} failed: {in_short(error)}. Nothing "
            "half-written is used; try again."
        ) from cause(error)
    mark = _mark(model, folder, verified)
    if not mark.exists():
        _verify(model, folder, files)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps([file.rfilename for file in files]), encoding="utf-8")
    return folder


def _mark(model: HubModel, folder: Path, verified: Path) -> Path:
    """The file that lists what was found whole in a snapshot, whose folder is named after its commit."""
    return verified / f"{model.repo.replace('/', '--')}-{folder.name}"


def _missing(model: HubModel, folder: Path, verified: Path) -> list[str]:
    """Files that a snapshot should have and has not: those listed when it was whole, else what it names."""
    mark = _mark(model, folder, verified)
    try:
        listed = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else None
    except ValueError:
        listed = None  # an empty mark of before there were lists
    if isinstance(listed, list):
        return [name for name in listed if not (folder / name).is_file()]
    there = [path for pattern in (*_SAFE_WEIGHTS, *_OTHER_WEIGHTS) for path in folder.rglob(pattern)]
    lacking = [] if any(path.is_file() for path in there) else ["weights"]
    for index in folder.rglob("*.index.json"):
        lacking += [name for name in _shards(index) if not (index.parent / name).is_file()]
    blobs = folder.parents[1] / "blobs"
    unfinished = sorted(path.name for path in blobs.glob("*.incomplete")) if blobs.is_dir() else []
    return lacking or unfinished


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {index.name}


def _needed(siblings: Iterable[RepoSibling]) -> list[RepoSibling]:
    """Text files and safetensors; other weights only where there are no safetensors."""
    files = list(siblings)
    safe = _matching(files, _SAFE_WEIGHTS)
    return _matching(files, _TEXT) + (safe or _matching(files, _OTHER_WEIGHTS))


def _matching(files: Iterable[RepoSibling], patterns: Iterable[str]) -> list[RepoSibling]:
    return [file for file in files if any(fnmatch(file.rfilename, pattern) for pattern in patterns)]


def _verify(model: HubModel, folder: Path, files: Iterable[RepoSibling]) -> None:
    for file in files:
        path = folder / file.rfilename
        expected = file.lfs.sha256 if file.lfs is not None else file.blob_id
        found = digest.sha256(path) if file.lfs is not None else digest.git_blob(path)
        if expected is not None and found != expected:  # some mirrors state no hashes
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise ValueError(
                f"{model}: {file.rfilename} has the hash {found}, but the Hub states {expected}. "
                "The file was deleted; try again, and if it happens again do not trust this source."
            )
