"""File names that others chose: they must stay inside the folder that they are written to."""

from __future__ import annotations

from pathlib import PurePosixPath


def checked(name: str, source: str) -> PurePosixPath:
    """Return a file name as a relative path, after checking that it stays inside its folder.

    Args:
        name: A file name with forward slashes, as archives and the Hub give them.
        source: The archive or repository that states it, for the message.

    Raises:
        ValueError: If it is absolute, climbs with "..", or could mean another drive or folder on Windows.

    Example:
        >>> checked("../x.bin", "a.whl")
        Traceback (most recent call last):
        ...
        ValueError: a.whl has a file '../x.bin', which leaves the folder. Nothing was taken; do not trust it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in name or "\\" in name:
        raise ValueError(
            f"{source} has a file {name!r}, which leaves the folder. Nothing was taken; do not trust it."
        )
    return path
