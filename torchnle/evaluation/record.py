"""Results of measurements as JSON and Markdown, with machine, versions and commit."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "transformers", "captum")


def setting() -> dict[str, Any]:
    """Return the machine, the versions and torchnle's commit, from any working directory."""
    return {
        "machine": f"{platform.machine()}, {_processor()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": commit_of(Path(__file__).resolve().parents[1]),
    }


def commit_of(package: Path) -> str:
    """Return the commit of a package, "" if it is installed and not checked out.

    Args:
        package: Its folder. Only a repository with the package at its top counts, since an environment may
            lie within another project's repository.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    own = bool(top and tracked) and Path(top).resolve() == package.resolve().parent
    return _git(package, "rev-parse", "--short", "HEAD") if own else ""


def write(folder: Path, name: str, data: Mapping[str, Any], page: str) -> None:
    """Write NAME.json and NAME.md into a folder, which is created if needed.

    Args:
        folder: The folder.
        name: The name of both files.
        data: The JSON; numbers are rounded to six digits, NaN becomes null.
        page: The Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(plain(data), indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page.rstrip() + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """Round the numbers in a value for a readable file.

    Example:
        >>> plain({"a": (0.12345678, float("nan")), "b": 3})
        {'a': [0.123457, None], 'b': 3}
    """
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a Markdown table; numbers get three digits after the point, and None is a dash.

    Example:
        >>> print(table(["layer", "hits"], [["last", 0.5], ["first", None]]))
        | layer | hits |
        |---|---|
        | last | 0.500 |
        | first | - |
    """
    lines = [list(header), ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(
        f"|{'|'.join(line)}|" if index == 1 else f"| {' | '.join(line)} |" for index, line in enumerate(lines)
    )


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _git(folder: Path, *arguments: str) -> str:
    """Return git's output, "" if it fails or is not installed."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
