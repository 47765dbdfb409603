"""Readers of both data sets named ImageNet-X: written explanations, and factors of variation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The value of "dataset" of its records in the files of Uni-NLX, which hold those of other tasks too.
_OWN = "imagenetX"
#: The factors of Idrissi et al. (2022), by their columns.
FACTORS = (
    "pose",
    "background",
    "pattern",
    "color",
    "smaller",
    "shape",
    "partial_view",
    "subcategory",
    "texture",
    "larger",
    "darker",
    "object_blocking",
    "person_blocking",
    "style",
    "brighter",
    "multiple_objects",
)


@dataclass(frozen=True)
class ExplainedImage:
    """Image files of one class, with the explanations that were written for it.

    Args:
        files: The files, as the data set names them.
        class_name: The class.
        explanations: One or more reference explanations.
        key: The identifier of the record, or its number.
    """

    files: tuple[str, ...]
    class_name: str
    explanations: tuple[str, ...]
    key: str = ""


@dataclass(frozen=True)
class FactorAnnotation:
    """The factors by which an image of ImageNet differs from the typical images of its class.

    Args:
        file_name: The file, such as "ILSVRC2012_val_00000293.JPEG".
        label: The class of ImageNet, 0 to 999.
        factors: The factors that apply, in the order of `FACTORS`.
        justification: The annotator's sentence.
        one_word: The annotator's summary in a word or a few.
    """

    file_name: str
    label: int
    factors: tuple[str, ...]
    justification: str = ""
    one_word: str = ""


def load_imagenet_x(file: str | Path) -> tuple[ExplainedImage, ...]:
    """Load the explanations of ImageNet-X (Sammani and Deligiannis, 2023), used in Zero-shot NLE, table 2.

    Args:
        file: `explanation_dataset.json` or `explanation_dataset_test.json` of Uni-NLX: a list of records, or
            an object of records by identifier, with "img_path", "answer" and "explanation", each one string
            or a list of strings. Records whose "dataset" is another are left out.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is no such file, a field is missing, or no record is of ImageNet-X.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "test.json"
        >>> record = {"img_path": ["hen/1.jpg"], "answer": "hen", "explanation": ["it has a red comb"]}
        >>> _ = path.write_text(json.dumps({"7": {"dataset": "imagenetX", **record}}))
        >>> load_imagenet_x(path)[0].explanations
        ('it has a red comb',)
    """
    path = Path(file)
    content = _json(path, path.read_text(encoding="utf-8"))
    if isinstance(content, Mapping):
        records = list(content.items())
    elif isinstance(content, Sequence) and not isinstance(content, str):
        records = [(str(number), record) for number, record in enumerate(content)]
    else:
        raise ValueError(f"'{path}' holds a {type(content).__name__}; pass a list or an object of records.")
    for key, record in records:
        if not isinstance(record, Mapping):
            raise ValueError(f"record {key!r} of '{path}' is {record!r}; pass objects with fields.")
    own = [(key, record) for key, record in records if record.get("dataset", _OWN) == _OWN]
    if not own:
        raise ValueError(f'\'{path}\' holds {len(records)} records, none with "dataset": "{_OWN}".')
    return tuple(_explained(path, key, record) for key, record in own)


def _explained(path: Path, key: str, record: Mapping[str, Any]) -> ExplainedImage:
    files, names, texts = (
        _strings(path, key, record, field) for field in ("img_path", "answer", "explanation")
    )
    return ExplainedImage(files, names[0], texts, key)


def _strings(path: Path, key: str, record: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """Return a field that is one string or a list of strings."""
    value = record.get(field)
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        raise ValueError(
            f"record {key!r} of '{path}' has {field}={value!r}; it must be a string or a list of strings."
        )
    return tuple(listed)


def load_imagenet_x_factors(file: str | Path) -> tuple[FactorAnnotation, ...]:
    """Load the factors of variation of ImageNet-X (Idrissi et al., 2022).

    Args:
        file: `imagenet_x_val_multi_factor.jsonl` or another of its files: one JSON object a line, with
            "file_name", "class" and a column of 0 or 1 per factor.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a line is no such object, or the file is empty.
    """
    path = Path(file)
    lines = path.read_text(encoding="utf-8").splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ValueError(f"'{path}' has no line; pass a file of annotations, one JSON object a line.")
    return tuple(_annotation(path, number, line) for number, line in numbered)


def _annotation(path: Path, number: int, line: str) -> FactorAnnotation:
    record = _json(path, line, number)
    wanted = ("file_name", "class", *FACTORS)
    missing = [name for name in wanted if not isinstance(record, Mapping) or name not in record]
    if missing:
        raise ValueError(f"line {number} of '{path}' lacks {missing[:4]}; every line needs {wanted[:3]}, ...")
    wrong = [name for name in FACTORS if record[name] not in (0, 1)]
    if wrong or type(record["class"]) is not int:
        shown = {name: record[name] for name in ("class", *wrong[:3])}
        raise ValueError(f"line {number} of '{path}' has {shown}; a class is an index, a factor 0 or 1.")
    return FactorAnnotation(
        str(record["file_name"]),
        record["class"],
        tuple(name for name in FACTORS if record[name]),
        str(record.get("justification", "")).strip(),
        str(record.get("one_word", "")).strip(),
    )


def _json(path: Path, text: str, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"'{path}'" if line is None else f"line {line} of '{path}'"
        raise ValueError(f"{where} is no JSON: {error}.") from error


def factor_error_ratios(annotations: Sequence[FactorAnnotation], correct: Iterable[bool]) -> dict[str, float]:
    """Compute the error rate on the images with each factor, relative to that on all images.

    Args:
        annotations: The annotated images.
        correct: Whether the model's prediction is right, one per image.

    Returns:
        The ratio of every factor that applies to an image; above 1 where the factor makes errors likelier.

    Raises:
        ValueError: If there is not one answer per image, or there is no error.

    Example:
        >>> images = [FactorAnnotation("1", 0, ("pose",)), FactorAnnotation("2", 0, ("color", "pose"))]
        >>> factor_error_ratios(images, [True, False])
        {'pose': 1.0, 'color': 2.0}
    """
    wrong = [not right for right in correct]
    if len(wrong) != len(annotations):
        raise ValueError(f"{len(wrong)} answers were given for {len(annotations)} images; pass one an image.")
    if not any(wrong):
        raise ValueError("no prediction is wrong, so there is no error rate to compare with.")
    rate = sum(wrong) / len(wrong)
    found = {}
    for factor in FACTORS:
        with_it = [w for one, w in zip(annotations, wrong, strict=True) if factor in one.factors]
        if with_it:
            found[factor] = sum(with_it) / len(with_it) / rate
    return found
