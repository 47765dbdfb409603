"""Names of tar shards: expanded, and checked before any file is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit
from urllib.request import url2pathname

from torchnle.errors import optional_package
from torchnle.hub.report import hide_secrets
from torchnle.hub.web import check_address

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)\s*:")
_IGNORED = re.compile(r"^\s+|[\x00-\x1f\x7f]")  # characters that readers of addresses skip or drop
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_WEB = ("http", "https")


def expand(shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """Expand a pattern to its shards, as local paths and web addresses, without opening them.

    Args:
        shards: webdataset's notation ("cc3m-{0000..0575}.tar", "a.tar::b.tar", "${ROOT}/a.tar" for the
            environment variable WDS_ROOT), or a list of it.

    Raises:
        MissingDependencyError: If webdataset is not installed.
        TypeError: If a name is no string and no path.
        ValueError: If a name is neither a local path nor a plain http or https address, or is not written
            as the notation asks.

    Example:
        >>> expand("cc3m-{0..1}.tar")
        ['cc3m-0.tar', 'cc3m-1.tar']
        >>> expand("{a.tar,pipe:cat a.tar}")
        Traceback (most recent call last):
        ...
        ValueError: the shard 'pipe:cat a.tar' is not read: torchnle opens local files and plain http and
        https addresses, and never starts a program or speaks 'pipe:'. Download it and pass the path of the
        file.
    """
    listed = [shards] if isinstance(shards, (str, os.PathLike)) else list(shards)
    return [_checked(name) for name in _names(listed)]


def is_address(name: str) -> bool:
    """Return whether a name from `expand` is a web address."""
    return _scheme(name) in _WEB


def _names(listed: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    with optional_package("webdataset", extra="data", purpose="to read tar shards"):
        from webdataset import shardlists
    for each in listed:
        text = os.fspath(each) if isinstance(each, os.PathLike) else each
        if not isinstance(text, str):
            raise TypeError(f"the shard {each!r} is {type(each).__name__}; pass a string or a path.")
        try:
            yield from shardlists.expand_urls(_VARIABLE.sub(_from_environment, text))
        except ValueError as error:
            raise ValueError(f"the shards {hide_secrets(text)!r}: {error}.") from error


def _from_environment(variable: re.Match[str]) -> str:
    name = f"WDS_{variable[1]}"
    value = os.environ.get(name)
    if value is None or _VARIABLE.search(value):
        raise ValueError(f"the environment variable {name} is {'not set' if value is None else 'no name'}")
    return value


def _checked(name: str) -> str:
    scheme = _scheme(name)
    if scheme is None and name.strip() != "-":
        return name
    if scheme in _WEB:
        check_address(name)
        return name
    if scheme == "file":
        return _path_of(name)
    what = "reads standard input" if scheme is None else f"speaks '{scheme}:'"
    raise ValueError(
        f"the shard {hide_secrets(name)!r} is not read: torchnle opens local files and plain http and https "
        f"addresses, and never starts a program or {what}. Download it and pass the path of the file."
    )


def _scheme(name: str) -> str | None:
    """Return the text before the first colon if it looks like a scheme; a Windows drive does not."""
    found = _SCHEME.match(_IGNORED.sub("", name))
    if found is None or (os.name == "nt" and len(found[1]) == 1):
        return None
    return found[1].lower()


def _path_of(name: str) -> str:
    """Return the path in a "file:" address of this machine."""
    parts = urlsplit(name)
    path = url2pathname(parts.path)
    if parts.netloc not in ("", "localhost") or _scheme(path) is not None or not path:
        raise ValueError(
            f"the shard {name!r} is no file of this machine. Write it as file:///path or a path."
        )
    return path
