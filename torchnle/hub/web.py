"""Download one file from a plain http or https address; other protocols are refused."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib import request
from urllib.parse import unquote, urlsplit

from torchnle.hub import leftovers
from torchnle.hub.report import cause, hide_secrets, in_short

_SECONDS = 60  # without a byte, after which a server counts as gone
_LONGEST_NAME = 80
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def check_address(address: str) -> None:
    """Refuse an address that is not plain http or https.

    Raises:
        ValueError: If it has another scheme, no host, an invalid port, blanks or control characters.

    Example:
        >>> check_address("ftp://host/a.tar")
        Traceback (most recent call last):
        ...
        ValueError: 'ftp://host/a.tar' is no address that torchnle reads. Write it as https://host/path.
    """
    try:
        parts = urlsplit(address)
        plain = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        plain = False  # its port is no number
    if not plain or _CONTROL.search(address):
        shown = re.sub(r"^(?![A-Za-z]+://).*@", "***@", hide_secrets(address))  # of no address, just in case
        raise ValueError(f"{shown!r} is no address that torchnle reads. Write it as https://host/path.")


def fetch(address: str, folder: Path) -> Path:
    """Return the file in `folder` that an address names, downloading it at most once.

    The file appears in one step, when it is complete. Its name holds a hash of the address, so that two
    addresses with the same file name do not collide.

    Args:
        address: http or https; "user:password@" before the host is sent to that host only.
        folder: The folder for the file; created if needed.

    Raises:
        ValueError: As `check_address`.
        OSError: If it cannot be downloaded, or the download is interrupted.
    """
    check_address(address)
    target = folder / _file_name(address)
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    leftovers.sweep(folder)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=leftovers.mine())
    try:
        with os.fdopen(handle, "wb") as file:
            _download(address, file)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


def _download(address: str, file: IO[bytes]) -> None:
    try:
        with _opener().open(_request(address), timeout=_SECONDS) as answer:
            shutil.copyfileobj(answer, file, 1 << 20)
            stated = answer.headers.get("Content-Length", "")
    except (OSError, HTTPException, ValueError) as error:
        raise OSError(f"downloading {hide_secrets(address)} failed: {in_short(error)}.") from cause(error)
    if stated.isdigit() and int(stated) != file.tell():
        raise OSError(
            f"downloading {hide_secrets(address)} broke off after {file.tell()} of {stated} bytes. Try again."
        )


def _opener() -> request.OpenerDirector:
    """Build an opener for http and https, by the environment's proxy, and nothing else, redirected or not."""
    opener = request.OpenerDirector()
    handlers: list[type[Any]] = [
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.HTTPDefaultErrorHandler,
        request.UnknownHandler,
    ]
    for handler in handlers:
        opener.add_handler(handler())
    return opener


def _request(address: str) -> request.Request:
    parts = urlsplit(address)
    credentials, at, host = parts.netloc.rpartition("@")
    http_request = request.Request(parts._replace(netloc=host).geturl(), headers={"User-Agent": "torchnle"})
    if at:
        encoded = base64.b64encode(unquote(credentials).encode()).decode()
        http_request.add_unredirected_header("Authorization", f"Basic {encoded}")
    return http_request


def _file_name(address: str) -> str:
    parts = urlsplit(address)
    public = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    name = re.sub(r"[^\w.-]", "_", parts.path.rpartition("/")[2])[-_LONGEST_NAME:]
    return f"{hashlib.sha256(public.encode()).hexdigest()[:16]}-{name or 'file'}"
