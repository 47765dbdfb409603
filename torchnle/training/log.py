"""The log of a training run: a progress bar, a file of JSON lines, TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torchnle.errors import optional_package


class RunLog:
    r"""Writes the reports of a training run to a file, a progress bar and TensorBoard.

    Args:
        folder: The folder of ``log.jsonl`` (and TensorBoard's files).
        steps: The run's number of steps.
        done: The number of steps already done; lines of later steps, which will be repeated, are removed.
        tensorboard: Write for TensorBoard too.
        progress: Show a progress bar on standard error.

    Raises:
        MissingDependencyError: If TensorBoard is requested and not installed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with RunLog(folder, 10, progress=False) as log:
        ...     log({"step": 0, "loss": 2.5})
        >>> (folder / "log.jsonl").read_text()
        '{"step": 0, "loss": 2.5}\n'
    """

    def __init__(
        self,
        folder: str | Path,
        steps: int,
        *,
        done: int = 0,
        tensorboard: bool = False,
        progress: bool = True,
    ) -> None:
        self.path = Path(folder) / "log.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        #: The errors of images that could not be read, by number.
        self.unreadable = _forget(self.path, done)
        self._writer = _tensorboard(self.path.parent, done) if tensorboard else None
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=not progress)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def __call__(self, facts: dict[str, Any]) -> None:
        """Write a report."""
        self.unreadable |= facts.get("unreadable", {})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
        if "validation" not in facts:
            self._bar.update(facts["step"] + 1 - self._bar.n)
            self._bar.set_postfix({n: f"{x:.3f}" for n, x in facts.items() if n in ("loss", "word_loss")})
        if self._writer is not None:
            for name, value in _numbers(facts):
                self._writer.add_scalar(name, value, facts["step"])


def _forget(path: Path, done: int) -> dict[int, str]:
    """Keep the lines of steps before `done`, and return the unreadable images that they report.

    A truncated line is removed too.
    """
    kept: list[str] = []
    unreadable: dict[int, str] = {}
    if not path.is_file():
        return {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and facts["step"] < done:
            kept.append(line)
            unreadable |= {int(number): why for number, why in facts.get("unreadable", {}).items()}
    temporary = path.with_suffix(".new")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)
    return unreadable


def _tensorboard(folder: Path, done: int) -> Any:
    with optional_package("tensorboard", extra="tensorboard", purpose="to write its files"):
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done)


def _numbers(facts: dict[str, Any], before: str = "") -> list[tuple[str, float]]:
    """Return every number with its path as its name."""
    found: list[tuple[str, float]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{before}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            found.append((f"{before}{name}", float(value)))
    return found
