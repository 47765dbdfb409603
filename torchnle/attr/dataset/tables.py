"""Tables of lines: a pandas DataFrame, a CSV or a Parquet file. Lists become JSON in files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchnle.errors import optional_package

if TYPE_CHECKING:
    import pandas

_ENDINGS = (".csv", ".parquet")
_ROWS = 10_000  # of a Parquet group
_ERROR = "error"


def to_frame(lines: Iterable[dict[str, Any]]) -> pandas.DataFrame:
    """Turn lines into a pandas DataFrame, a row per picture; "error" is empty where a picture was read.

    Args:
        lines: As `describe_dataset` and its kind yield them.

    Raises:
        MissingDependencyError: If pandas is not installed.

    Example:
        >>> to_frame([{"file": "a.jpg", "text": "a cat"}])  # doctest: +SKIP
            file   text
        0  a.jpg  a cat
    """
    with optional_package("pandas", extra="tables", purpose="to make a DataFrame"):
        import pandas
    return pandas.DataFrame(list(lines))


def check_table(file: str | os.PathLike[str]) -> Path:
    """Return the path of a table that can be written.

    Raises:
        MissingDependencyError: If it is Parquet and pyarrow is not installed.
        ValueError: If it ends in neither ".csv" nor ".parquet".

    Example:
        >>> check_table("words.xlsx")
        Traceback (most recent call last):
        ...
        ValueError: words.xlsx: pass a file that ends in .csv or .parquet.
    """
    path = Path(file)
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(f"{path}: pass a file that ends in {' or '.join(_ENDINGS)}.")
    if path.suffix.lower() == ".parquet":
        _pyarrow()
    return path


def write_table(lines: Iterable[dict[str, Any]], file: str | os.PathLike[str]) -> None:
    """Write lines as CSV or Parquet, by the file's ending, a few thousand at a time.

    The columns are those of the first picture that was read, and "error". Lists are written as JSON.

    Args:
        lines: As `describe_dataset` and its kind yield them.
        file: Ends in ".csv" or ".parquet".

    Raises:
        MissingDependencyError: If it is Parquet and pyarrow is not installed.
        ValueError: If it ends in neither.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "words.csv"
        >>> write_table([{"file": "a.jpg", "text": "a cat", "phrases": [["cat", 0.5]]}], file)
        >>> print(file.read_text())
        file,text,phrases,error
        a.jpg,a cat,"[[""cat"", 0.5]]",
    """
    path = check_table(file)
    waiting: list[dict[str, Any]] = []
    rest = iter(lines)
    for line in rest:
        waiting.append(line)
        if _ERROR not in line:
            break
    shown = {**(waiting[-1] if waiting else {"file": ""}), _ERROR: ""}
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.part")
    write = _write_csv if path.suffix.lower() == ".csv" else _write_parquet
    write((_flat(line, list(shown)) for line in chain(waiting, rest)), shown, made)
    made.replace(path)


def _flat(line: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    values = {name: line.get(name) for name in columns}
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
        for name, value in values.items()
    }


def _write_csv(rows: Iterator[dict[str, Any]], shown: dict[str, Any], file: Path) -> None:
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as out:
        writer = csv.DictWriter(out, list(shown), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: Iterator[dict[str, Any]], shown: dict[str, Any], file: Path) -> None:
    arrow, parquet = _pyarrow()
    kinds = {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64(), type(None): arrow.float64()}
    schema = arrow.schema([(name, kinds.get(type(value), arrow.string())) for name, value in shown.items()])
    with parquet.ParquetWriter(file, schema) as out:
        while group := list(islice(rows, _ROWS)):
            out.write_table(arrow.Table.from_pylist(group, schema))


def _pyarrow() -> tuple[Any, Any]:
    with optional_package("pyarrow", extra="tables", purpose="to write Parquet"):
        import pyarrow
        from pyarrow import parquet
    return pyarrow, parquet
