"""Photographs: whatever raster picture becomes upright RGB, anything else a clear error."""

from __future__ import annotations

import io
import os
import struct
from typing import Any

import numpy as np
from PIL import Image

from measurements.reliability.cases.case import (
    Found,
    Topic,
    equal,
    first_wrong,
    folder,
    refused,
    refused_each,
)
from measurements.reliability.cases.data import png as _png
from torchnle.data import CaptionDataset, CaptionFile
from torchnle.images import open_image

TOPIC = Topic("photographs")
case = TOPIC.case
_POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(PWNED) (w) file\nshowpage\n"


@case("a PNG whose hidden pixels are red, at four doors", "white at all of them")
def transparent() -> Found:
    """A transparent picture."""
    glass = Image.fromarray(np.array([[[255, 0, 0, 0]]], np.uint8))
    white = (255, 255, 255)
    with folder() as directory:
        glass.save(directory / "a.png")
        (directory / "a.jsonl").write_text('{"image": "a.png", "caption": "a"}')
        raw = {"bytes": (directory / "a.png").read_bytes(), "path": None}
        doors = {
            "open_image": open_image(directory / "a.png"),
            "a file of captions": CaptionFile(directory / "a.jsonl")[0].image,
            "decoded rows": CaptionDataset([{"image": glass, "caption": "a"}])[0].image,
            "undecoded rows": CaptionDataset([{"image": raw, "caption": "a"}])[0].image,
        }
    return first_wrong([(name, equal(image.getpixel((0, 0)), white)) for name, image in doors.items()])


@case(
    "16 bits of 0, 32,768 and 65,535; big-endian; a palette with transparency; CMYK; 1 bit; EXIF rotation",
    "8 bits of the same brightness, upright",
)
def odd_modes() -> Found:
    """Pictures of other modes."""
    grey = np.array([[0, 32768, 65535]], np.uint16)
    made = {
        "16 bits": (Image.fromarray(grey), "png", [0, 128, 255]),
        "16 bits tiff": (Image.fromarray(grey), "tiff", [0, 128, 255]),
        "1 bit": (Image.fromarray(np.array([[False, True, True]])), "png", [0, 255, 255]),
        "LA": (Image.merge("LA", [Image.new("L", (3, 1), 100), Image.new("L", (3, 1), 0)]), "png", [255] * 3),
        "CMYK": (Image.new("CMYK", (3, 1), (0, 0, 0, 255)), "tiff", [0] * 3),
    }
    tried = []
    with folder() as directory:
        for name, (image, kind, wanted) in made.items():
            image.save(directory / f"a.{kind}")
            found = [int(v) for v in np.asarray(open_image(directory / f"a.{kind}"))[0, :, 0]]
            off = max(abs(a - b) for a, b in zip(found, wanted, strict=True))
            tried.append((name, (str(found), off <= 1)))
        Image.fromarray(np.array([[0, 128, 255]], np.float32)).save(directory / "f.tiff")
        tried.append(("floats", refused(lambda: open_image(directory / "f.tiff"), "no known white")))
        turned = Image.new("RGB", (6, 4))
        exif = turned.getexif()
        exif[0x0112] = 6
        turned.save(directory / "t.jpg", exif=exif)
        tried.append(("turned", equal(open_image(directory / "t.jpg").size, (4, 6))))
    return first_wrong(tried)


@case("photo.jpg that is PostScript, at four doors", "refused; no program starts")
def postscript() -> Found:
    """A photograph that is a program."""
    with folder() as directory:
        (directory / "photo.jpg").write_bytes(_POSTSCRIPT)
        (directory / "a.jsonl").write_text('{"image": "photo.jpg", "caption": "a"}')
        doors: dict[str, Any] = {
            "open_image": lambda: open_image(directory / "photo.jpg"),
            "a file": lambda: CaptionFile(directory / "a.jsonl")[0].image,
            "bytes": lambda: CaptionDataset([{"image": {"bytes": _POSTSCRIPT}, "caption": "a"}])[0],
            "opened": lambda: CaptionDataset(
                [{"image": Image.open(directory / "photo.jpg"), "caption": "a"}]
            )[0],
        }
        return first_wrong([(name, refused(call, "photo|row 0|image")) for name, call in doors.items()])


@case(
    "cut, flipped, SVG, PDF, a huge PNG header, a GIF bomb, empty, a folder, a pipe, /dev/zero",
    "a ValueError that names the file",
)
def hostile_pictures() -> Found:
    """Files that are no pictures."""
    whole = _png(Image.effect_noise((40, 30), 90))
    huge = whole[:16] + struct.pack(">II", 100_000, 100_000) + whole[24:]
    contents = {
        "cut": whole[:80],
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.4\n",
        "huge": huge,
    }
    contents |= {
        "empty": b"",
        "gif": b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00",
        "text": b"a cat",
    }
    contents |= {
        "flipped": whole[:45] + bytes([whole[45] ^ 0xFF]) + whole[46:],
        "tiff": b"II*\x00\x08\x00\x00\x00\xff\xff",
    }
    contents |= {
        "fits": b"SIMPLE  =                    T",
        "psd": b"8BPS\x00\x01" + bytes(30),
        "ico": b"\x00\x00\x01\x00\x01\x00",
    }
    tried = []
    with folder() as directory:
        for name, content in contents.items():
            (directory / f"{name}.jpg").write_bytes(content)
            tried.append((name, refused(lambda n=name: open_image(directory / f"{n}.jpg"), f"{name}.jpg")))
        os.mkfifo(directory / "pipe.jpg")
        others = (directory, directory / "pipe.jpg", "/dev/zero", "", "a\0b.jpg", directory / "none.jpg")
        tried += refused_each(others, open_image)
    return first_wrong(tried)


@case(
    "files and captions whose names are no UTF-8; a terminal that knows ASCII only",
    "read, and written out as escapes",
)
def odd_encodings() -> Found:
    """Names that are no UTF-8."""
    from unittest.mock import patch

    from torchnle.cli.output import say

    with folder() as directory:
        name = os.fsdecode(b"caf\xe9.png")
        Image.new("RGB", (4, 4)).save(directory / name)
        terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with patch("sys.stdout", terminal):
            say(f"\u732b {name}")
        terminal.flush()
        written: bytes = terminal.buffer.getvalue()
        size = open_image(directory / name).size
    return f"{size}, {written!r}", size == (4, 4) and written == b"\\u732b caf\\udce9.png\n"
