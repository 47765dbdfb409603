"""Shards, caption files and recipes: what is in them comes out, is refused, or is counted."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from measurements.reliability.cases.case import (
    Found,
    Topic,
    equal,
    first_wrong,
    folder,
    refused,
    refused_each,
)
from torchnle.data import CaptionFile, CaptionList, CaptionShards
from torchnle.data.captions import CaptionedImage
from torchnle.data.readers.caption_files import read_captions
from torchnle.methods.devil.training.run import Run
from torchnle.training.supply import LiveFeatures

TOPIC = Topic("captions, shards and recipes")
case = TOPIC.case


def png(image: Image.Image | None = None, kind: str = "png", **more: Any) -> bytes:
    """Encode a picture, red where none is given."""
    raw = io.BytesIO()
    (image or Image.new("RGB", (8, 8), "red")).save(raw, kind, **more)
    return raw.getvalue()


def _shard(directory: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(directory / "a.tar", "w") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return directory / "a.tar"


@case("22.05.png and 22.05.txt; a.b.c; v1.0/7", "pairs in are pairs out", "webdataset")
def dotted_names() -> Found:
    """Names with dots in a shard."""
    tried = []
    for key in ("22.05", "a.b.c", "v1.0/7", "x"):
        with folder() as directory:
            found = CaptionShards(_shard(directory, [(f"{key}.png", png()), (f"{key}.txt", b"a hen")]))
            tried.append((key, equal([found[n].captions for n in range(len(found))], [("a hen",)])))
    return first_wrong(tried)


@case("a caption in UTF-8 with a byte order mark, and in UTF-16", "the text without the mark", "webdataset")
def marks() -> Found:
    """Byte order marks in a shard."""
    tried = []
    for raw in (b"\xef\xbb\xbfa hen", "a hen".encode("utf-16"), b"a hen\r\n"):
        with folder() as directory:
            found = CaptionShards(_shard(directory, [("0.png", png()), ("0.txt", raw)]))[0].captions
            tried.append((repr(raw), equal(found, ("a hen",))))
    return first_wrong(tried)


@case(
    "a picture alone, a caption alone, a second picture, a second caption",
    "an error; counted if not strict",
    "webdataset",
)
def odd_members() -> Found:
    """Read shards that hold other files besides pairs."""
    tried = []
    for name in ("1.png", "1.txt", "0.jpg", "0.txt", "9.5.png"):
        with folder() as directory:
            file = _shard(directory, [("0.png", png()), ("0.txt", b"a hen"), (name, png())])
            tried.append((name, refused(lambda file=file: CaptionShards(file), name.rpartition(".")[0])))
            loose = CaptionShards(file, strict=False)
            tried.append((f"{name}, not strict", equal((len(loose), len(loose.skipped)), (1, 1))))
    return first_wrong(tried)


@case("a shard that is cut, is no tar, or is empty", "an error that names it", "webdataset")
def cut_shards() -> Found:
    """Damaged shards."""
    tried = []
    for length in (0, 100, 600, 1100):
        with folder() as directory:
            file = _shard(directory, [("0.png", png() * 9), ("0.txt", b"a hen" * 50)])
            file.write_bytes(file.read_bytes()[:length])
            tried.append((str(length), refused(lambda file=file: CaptionShards(file), r"a\.tar")))
    return first_wrong(tried)


@case(
    "pipe:touch PWNED; PIPE:, in braces, behind '::', gs://, s3://, '-', data:, ftp://",
    "refused; nothing is run",
    "webdataset",
)
def programs() -> Found:
    """Shard names that start programs."""
    with folder() as directory:
        here = os.getcwd()
        os.chdir(directory)
        try:
            _shard(directory, [("0.png", png()), ("0.txt", b"a")])
            names = ["pipe:touch PWNED; cat a.tar", " PIPE:touch PWNED", "{a.tar,pipe:touch PWNED}", "-"]
            names += [
                "a.tar::pipe:touch PWNED",
                "gs://x/y",
                "s3://x/y",
                "hf://o/n",
                "ftp://h/a",
                "data:,a",
                "p{i..i}pe:touch PWNED",
            ]
            open_one = lambda name: CaptionShards(name, cache="cache")  # noqa: E731
            tried = refused_each(names, open_one, "local file|standard input")
            tried.append(("files made", equal(sorted(os.listdir()), ["a.tar"])))
        finally:
            os.chdir(here)
    return first_wrong(tried)


_RECIPE = """
[vision]
model = "efficientnet-lite0"
layers = ["x"]
[language]
model = "no/model"
[network]
[training]
[[data]]
kind = "webdataset"
shards = {shards}
"""


@case('a recipe with shards = "pipe:touch PWNED"', "refused before any model is loaded", "webdataset")
def recipe_programs() -> Found:
    """A recipe whose shards start a program."""
    from torchnle.methods.devil.training import run

    with folder() as directory:
        file = directory / "recipe.toml"
        file.write_text(_RECIPE.format(shards=json.dumps(f"pipe:touch {directory}/PWNED; cat /dev/null")))
        found = refused(lambda: run.train(Run.read(file), progress=False), "local files")
        return first_wrong([("refused", found), ("ran", equal((directory / "PWNED").exists(), False))])


@case(
    "vision = 0; steps = -1; not UTF-8; a cut line; another key",
    "an error in a sentence that names the file or key",
)
def recipes() -> Found:
    """Recipes with wrong values."""
    good = _RECIPE.format(shards='"a.tar"')
    wrong = {
        "vision = 0": "vision = 0\n"
        + good.replace('[vision]\nmodel = "efficientnet-lite0"\nlayers = ["x"]', ""),
        "steps": good.replace("[training]", "[training]\nsteps = -1"),
        "text steps": good.replace("[training]", '[training]\nsteps = "9"'),
        "a key": good.replace("[training]", "[training]\nstep = 9"),
        "cut": good[: len(good) // 2] + '"',
        "bytes": None,
        "nan": good.replace("[training]", "[training]\nlearning_rate = nan"),
    }
    tried = []
    for name, text in wrong.items():
        with folder() as directory:
            file = directory / "r.toml"
            file.write_bytes(b"\xff\xfe\x00" if text is None else text.encode())
            tried.append((name, refused(lambda file=file: Run.read(file))))
    return first_wrong(tried)


def _written(name: str, raw: bytes) -> Any:
    with folder() as directory:
        (directory / name).write_bytes(raw)
        return read_captions(directory / name)


@case(
    "an unquoted comma, an open quote, a field of 140,000 characters, a quote within",
    "an error with the line",
)
def comma_separated() -> Found:
    """Rows of a CSV file that are cut or swallowed."""
    rows = [
        "0.png,a black dog, running\n",
        '0.png,"a black dog\n1.png,a cat\n',
        '0.png,"a dog"s bone"\n',
        "0.png\n",
    ]
    rows.append('0.png,"' + "a" * 140_000 + '"\n')
    return first_wrong(
        [
            (r[:30], refused(lambda r=r: _written("a.csv", b"image,caption\n" + r.encode()), "line"))
            for r in rows
        ]
    )


@case("commas, semicolons, tabs; UTF-8, with a mark, UTF-16; quoted separators", "the captions")
def separators() -> Found:
    """Separators and encodings of a CSV file."""
    tried = []
    for sign in ",;\t":
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            text = f'image{sign}caption\r\n0.png{sign}"a caf\u00e9{sign} red"\r\n'
            found = _written("a.csv", text.encode(encoding))
            tried.append((f"{sign!r} {encoding}", equal(found, {"0.png": [f"a caf\u00e9{sign} red"]})))
    return first_wrong(tried)


@case("U+2028, U+0085, U+001C within a JSON string", "the caption with it")
def line_separators() -> Found:
    """Line separators within JSON lines."""
    tried = []
    for sign in "\u2028\u2029\x85\x1c":
        raw = json.dumps({"image": "0.png", "caption": f"a{sign}b"}, ensure_ascii=ord(sign) < 32).encode()
        tried.append((repr(sign), equal(_written("a.jsonl", raw), {"0.png": [f"a{sign}b"]})))
    return first_wrong(tried)


@case(
    "of 20,000 characters, with a lone surrogate, blank, null, a number, a list",
    "an error that names the line",
)
def odd_captions() -> Found:
    """Odd captions."""
    odd: list[Any] = ["a" * 20_000, "a \ud800", "  ", None, 3, [], "\ufeff", {"a": 1}]
    lines = [json.dumps({"image": "0.png", "caption": each}).encode() for each in odd]
    return first_wrong(
        [
            (str(o)[:20], refused(lambda r=r: _written("a.jsonl", r), "line 1"))
            for o, r in zip(odd, lines, strict=True)
        ]
    )


@case(
    "a picture with such a caption beside a good one, in training", "another pair is read, the odd one named"
)
def odd_caption_in_training() -> Found:
    """An odd caption in the middle of a run."""
    good = CaptionedImage(Image.new("RGB", (8, 8)), ("a hen",))
    source = CaptionList([good, CaptionedImage(good.image, ("a \ud800",)), CaptionedImage(good.image, ("",))])
    live = LiveFeatures(nn.Sequential(nn.Conv2d(3, 4, 4, 4)), ["0"], source, lambda _: torch.zeros(3, 8, 8))
    (batch,) = live.batches([[0, 1]])
    return f"{batch.captions}, {batch.unreadable}", "pair 1" in batch.unreadable.get(1, "")


@case(
    "null captions, instances, images: [null], names in base64, deep nesting, no list",
    "an error that names the file",
)
def coco() -> Found:
    """COCO files that are none."""
    odd: list[Any] = [
        {"images": [None], "annotations": []},
        {"images": 3, "annotations": []},
        {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "bbox": [0, 0]}]},
        {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "caption": None}]},
        {"images": [{"id": 1, "file_name": "A" * 5000}], "annotations": [{"image_id": 1, "caption": "a"}]},
        {"images": [{"id": 1, "file_name": "a\0b"}], "annotations": [{"image_id": 1, "caption": "a"}]},
        {"images": [{"id": [1]}], "annotations": [{"image_id": {}, "caption": "a"}]},
        [],
    ]
    raws = [*(json.dumps(each).encode() for each in odd), b"[" * 100_000, b"", b"\xff\xfe\xff"]
    return first_wrong([(repr(r[:50]), refused(lambda r=r: _written("a.json", r), r"a\.json")) for r in raws])


@case("../secret.png, /etc/hostname, a\\..\\b.png", "refused")
def escaping_names() -> Found:
    """Caption files that name files elsewhere."""
    tried = []
    for name in ("../secret.png", "/etc/hostname", "a/../../secret.png", "..\\secret.png"):
        with folder() as directory:
            (directory / "in").mkdir()
            Image.new("RGB", (4, 4)).save(directory / "secret.png")
            (directory / "in" / "a.jsonl").write_text(json.dumps({"image": name, "caption": "a"}))
            tried.append((name, refused(lambda p=directory: CaptionFile(p / "in" / "a.jsonl"))))
    return first_wrong(tried)
