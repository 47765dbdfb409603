"""Files of captions: JSON lines, CSV and COCO's JSON, as one dict from image to captions."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

IMAGE_KEYS = ("image", "file_name", "filename", "image_path", "filepath", "path", "file")
CAPTION_KEYS = ("captions", "caption", "text", "texts", "sentence", "sentences", "title")


def read_captions(
    file: Path, image_key: str | None = None, caption_key: str | None = None
) -> dict[str, list[str]]:
    r"""Read a file of captions: image name -> its captions, in the order of the file.

    Args:
        file: ``.jsonl``, ``.csv`` or ``.json`` (COCO: "images" and "annotations").
        image_key: The field or column that names the image; None = the usual one that is there.
        caption_key: The field or column of the caption or list of captions; None = as above.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no caption, or is not what its name says; the message names the line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "captions.csv")
        >>> _ = file.write_text("image,caption\n0.png,a hen\n0.png,a brown hen\n")
        >>> read_captions(file)
        {'0.png': ['a hen', 'a brown hen']}
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file; pass a .jsonl, .csv or COCO .json file of captions.")
    readers = {".jsonl": _json_lines, ".csv": _csv, ".json": _coco}
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file}: captions are read from {', '.join(readers)}, not {file.suffix!r}.")
    captions: dict[str, list[str]] = defaultdict(list)
    for line, record in readers[file.suffix.lower()](file):
        name = _field(record, image_key, IMAGE_KEYS, file, line)
        captions[str(name)] += _texts(_field(record, caption_key, CAPTION_KEYS, file, line), file, line)
    if not captions:
        raise ValueError(f"{file} holds no caption.")
    return dict(captions)


def _json_lines(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if line.strip():
            record = _json(line, f"{file}, line {number}")
            if not isinstance(record, dict):
                raise ValueError(f"{file}, line {number}: one JSON object a line is needed, not {line[:40]}.")
            yield f"line {number}", record


def _csv(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = csv.DictReader(io.StringIO(_text(file), newline=""))
    for row in rows:
        yield f"line {rows.line_num}", {key: value for key, value in row.items() if key is not None}


def _coco(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = _json(_text(file), str(file))
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise ValueError(f"{file} is not COCO's: it needs the fields 'images' and 'annotations'.")
    names = {image.get("id"): image.get("file_name") for image in content["images"]}
    for number, annotation in enumerate(content["annotations"]):
        name = names.get(annotation.get("image_id"))
        if name is None:
            raise ValueError(
                f"{file}, annotation {number}: its image_id {annotation.get('image_id')!r} is none of the "
                f"{len(names)} images."
            )
        yield f"annotation {number}", {"image": name, "caption": annotation.get("caption")}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error


def _field(
    record: Mapping[str, Any], key: str | None, usual: tuple[str, ...], file: Path, line: str
) -> object:
    names = usual if key is None else (key,)
    found = next((record[name] for name in names if record.get(name) not in (None, "")), None)
    if found is None:
        wanted = f"one of {', '.join(names)}" if key is None else repr(key)
        raise ValueError(f"{file}, {line}: needs {wanted}, and has {', '.join(record) or 'nothing'}.")
    return found


def _texts(value: object, file: Path, line: str) -> list[str]:
    given = value if isinstance(value, list) else [value]
    texts = [text.strip() for text in given if isinstance(text, str) and text.strip()]
    if not texts or len(texts) < len(given):
        raise ValueError(f"{file}, {line}: a caption must be a text that is not blank, not {value!r}.")
    return texts
