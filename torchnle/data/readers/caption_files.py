"""Files of captions: JSON lines, CSV and COCO's JSON, as one dict from image to captions."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchnle.language.texts import check_captions, lines, read_text, shorten

IMAGE_KEYS = ("image", "file_name", "filename", "image_path", "filepath", "path", "file")
CAPTION_KEYS = ("captions", "caption", "text", "texts", "sentence", "sentences", "title")
_SEPARATORS = ",;\t"
#: The most characters of a part of a path, as file systems have it, and of a whole name.
_PART, _NAME = 255, 4096


def read_captions(
    file: Path,
    image_key: str | None = None,
    caption_key: str | None = None,
    *,
    skipped: dict[str, str] | None = None,
) -> dict[str, list[str]]:
    r"""Read a file of captions: image name -> its captions, in the order of the file.

    Args:
        file: ``.jsonl``, ``.csv`` or ``.tsv`` (separated by commas, semicolons or tabs) or ``.json`` (COCO:
            "images" and "annotations").
        image_key: The field or column that names the image; None = the usual one that is there.
        caption_key: The field or column of the caption or list of captions; None = as above.
        skipped: A dict that is filled with the unusable records and the reason for each; None = raise on
            the first one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no caption, or is not of the format that its name states; the message names
            the line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "captions.csv")
        >>> _ = file.write_text("image,caption\n0.png,a hen\n0.png,a brown hen\n")
        >>> read_captions(file)
        {'0.png': ['a hen', 'a brown hen']}
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file; pass a .jsonl, .csv or COCO .json file of captions.")
    readers = {".jsonl": _json_lines, ".csv": _csv, ".tsv": _csv, ".json": _coco}
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file}: captions are read from {', '.join(readers)}, not {file.suffix!r}.")
    captions: dict[str, list[str]] = defaultdict(list)
    for line, record in readers[file.suffix.lower()](file):
        try:
            name = _name(_field(record, image_key, IMAGE_KEYS, file, line), f"{file}, {line}")
            found = check_captions(_field(record, caption_key, CAPTION_KEYS, file, line), f"{file}, {line}")
        except ValueError as error:
            if skipped is None:
                raise
            skipped[line] = str(error)
            continue
        captions[name] += found
    if not captions:
        raise ValueError(f"{file} holds no caption." + _first(skipped))
    return dict(captions)


def _first(skipped: dict[str, str] | None) -> str:
    return f" The first that was left out: {next(iter(skipped.values()))}" if skipped else ""


def _json_lines(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(lines(read_text(file)), 1):
        if line.strip():
            record = _json(line, f"{file}, line {number}")
            if not isinstance(record, dict):
                raise ValueError(f"{file}, line {number}: one JSON object a line is needed, not {line[:40]}.")
            yield f"line {number}", record


def _csv(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of as many fields as the first one has names; the parser stops at quotes that do not close."""
    text = read_text(file)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        header = next(rows, [])
        for row in rows:
            if row and len(row) != len(header):
                raise ValueError(
                    f"{file}, line {rows.line_num}: {len(row)} fields for {len(header)} columns "
                    f"({', '.join(map(shorten, header))}). Put captions that hold the separator in quotes."
                )
            if row:
                yield f"line {rows.line_num}", dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {rows.line_num}: {error}. Close every quote; write one within quotes twice."
        ) from error


def _separator(text: str) -> str:
    """The separator that stands in the first line most often."""
    first = lines(text)[0]
    return max(_SEPARATORS, key=first.count)


def _coco(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = _json(read_text(file), str(file))
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise ValueError(f"{file} is not COCO's: it needs the fields 'images' and 'annotations'.")
    images, annotations = (_objects(content[field], field, file) for field in ("images", "annotations"))
    names = {str(image.get("id")): image.get("file_name") for image in images}
    matches = annotations and str(annotations[0].get("image_id")) in names
    if matches and not any("caption" in annotation for annotation in annotations):
        raise ValueError(
            f"{file} has no captions: its annotations hold {', '.join(annotations[0]) or 'nothing'}. COCO's "
            "files of instances and keypoints have none; pass one of captions."
        )
    for number, annotation in enumerate(annotations):
        name = names.get(str(annotation.get("image_id")))
        if name is None:
            raise ValueError(
                f"{file}, annotation {number}: its image_id {annotation.get('image_id')!r} is none of the "
                f"{len(names)} images."
            )
        yield f"annotation {number}", {"image": name, "caption": annotation.get("caption")}


def _objects(value: object, field: str, file: Path) -> list[Mapping[str, Any]]:
    listed: list[Any] = value if isinstance(value, list) else [None]
    for number, each in enumerate(listed):
        if not isinstance(each, dict):
            raise ValueError(f"{file}: {field}[{number}] is {shorten(repr(each))}; COCO has an object there.")
    return listed


def _name(value: object, where: str) -> str:
    """The name of an image; what is no name, as its pixels in base64, is refused."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise ValueError(f"{where}: {shorten(repr(value))} is no name of an image.")
    name = str(value)
    longest = max(map(len, name.replace("\\", "/").split("/")))
    if not name.strip() or "\0" in name or longest > _PART or len(name) > _NAME:
        raise ValueError(
            f"{where}: {shorten(name)!r} of {len(name)} characters is no file name. Captions name files; "
            "images within the file (base64) are not read."
        )
    return name


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from error


def _field(
    record: Mapping[str, Any], key: str | None, usual: tuple[str, ...], file: Path, line: str
) -> object:
    names = usual if key is None else (key,)
    there = [name for name in names if name in record]
    found = next((record[name] for name in there if record[name] not in (None, "")), None)
    if found is None:
        wanted = f"one of {', '.join(names)}" if key is None else repr(key)
        raise ValueError(f"{file}, {line}: needs {wanted}, and has {', '.join(record) or 'nothing'}.")
    return found
