"""Caption files, shards, pictures, recipes and saved folders, written whole and then damaged."""

from __future__ import annotations

import io
import json
import random
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

from measurements.fuzz.outcome import Outcome, WrongError, judge
from torchnle import images
from torchnle.data.readers.caption_files import read_captions
from torchnle.data.readers.caption_shards import CaptionShards
from torchnle.journal import Journal
from torchnle.methods.devil.training.run import Run
from torchnle.translators.base import Translator

_PIECES = ["a hen", "caf\u00e9", "a, b", 'a "b"', "a\u2028b", "\U0001f431", "x" * 300, "a;b\tc"]
_PIECES += ["it's", "{}", "\u732b"]
_INSERTED = [b"\x00", b'"', b"\xff", b"\n", b"{", b"null", b",", b"\xed\xa0\x80"]
_SPOILT = ["", " ", "x" * 20_000, "\ufeff"]
_FORMATS = ("png", "jpeg", "webp", "bmp", "gif", "tiff")


def captions(draw: random.Random) -> Outcome:
    """A file of captions: what was written comes out, or, damaged, an error that names the file."""
    ending = draw.choice([".jsonl", ".csv", ".json"])
    count = draw.randint(1, 5)
    pairs = [(f"{number}.{draw.randint(0, 9)}.png", draw.choice(_PIECES)) for number in range(count)]
    kind = draw.choice(["valid", "valid", "odd", "bad"])
    if kind == "bad":
        pairs.append(("bad.png", draw.choice(_SPOILT)))
    raw = _written(ending, pairs, draw)
    if kind == "odd":
        raw = _damaged(draw, raw)

    def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"captions{ending}")
            file.write_bytes(raw)
            found = read_captions(file)
        if kind != "valid":
            return False
        if found != {name: [text.strip()] for name, text in pairs}:
            raise WrongError(f"{pairs} came out as {found}")
        return True

    return judge("captions", kind, f"{ending} {raw[:80]!r}", run)


def _written(ending: str, pairs: list[tuple[str, str]], draw: random.Random) -> bytes:
    encoding = draw.choice(["utf-8", "utf-8-sig", "utf-16"])
    if ending == ".jsonl":
        lines = [json.dumps({"image": n, "caption": t}, ensure_ascii=draw.random() < 0.5) for n, t in pairs]
        return "\n".join(lines).encode(encoding, "surrogatepass")
    if ending == ".json":
        listed = [{"id": number, "file_name": name} for number, (name, _) in enumerate(pairs)]
        annotations = [{"image_id": number, "caption": text} for number, (_, text) in enumerate(pairs)]
        return json.dumps({"images": listed, "annotations": annotations}).encode(encoding)
    separator = draw.choice(",;\t")
    rows = [("image", "caption"), *pairs]
    quoted = [separator.join('"' + field.replace('"', '""') + '"' for field in row) for row in rows]
    return (draw.choice(["\n", "\r\n"]).join(quoted) + "\n").encode(encoding)


def _damaged(draw: random.Random, raw: bytes) -> bytes:
    """Some bytes cut off, changed, doubled or put in."""
    content = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        offset = draw.randrange(len(content) + 1) if content else 0
        how = draw.randrange(4)
        if how == 0:
            del content[offset:]
        elif how == 1 and content:
            content[offset % len(content)] ^= 1 << draw.randrange(8)
        elif how == 2:
            content[offset:offset] = draw.choice(_INSERTED)
        else:
            content[offset:offset] = content[max(0, offset - 9) : offset]
    return bytes(content)


def shards(draw: random.Random) -> Outcome:
    """A shard: pairs in are pairs out, or an error."""
    keys = [f"{number}{draw.choice(['', '.5', '.a.b', '/x'])}" for number in range(draw.randint(1, 4))]
    kind = draw.choice(["valid", "odd", "bad"])
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for key in keys:
            _add(tar, f"{key}.{draw.choice(['png', 'PNG'])}", _picture("png"))
            _add(tar, f"{key}.txt", draw.choice(_PIECES).encode("utf-8", "surrogatepass"))
        if kind == "bad":
            _add(tar, *draw.choice([("lone.png", b"x"), ("lone.txt", b"x"), (f"{keys[0]}.txt", b"x")]))
    content = _damaged(draw, raw.getvalue()) if kind == "odd" else raw.getvalue()

    def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "a.tar")
            file.write_bytes(content)
            found = CaptionShards(str(file))
            texts = [found[index].captions for index in range(len(found))]
        if kind == "valid" and len(texts) != len(keys):
            raise WrongError(f"{len(keys)} pairs in, {len(texts)} out")
        return kind == "valid"

    return judge("shards", kind, f"{kind} {keys}", run)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


@cache
def _picture(kind: str) -> bytes:
    raw = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(raw, kind)
    return raw.getvalue()


def pictures(draw: random.Random) -> Outcome:
    """A picture, whole or damaged: RGB of its size, or a ValueError."""
    name = draw.choice(_FORMATS)
    kind = draw.choice(["valid", "odd", "odd", "odd", "bad"])
    raw = _picture(name)
    if kind == "odd":
        raw = _damaged(draw, raw)
    elif kind == "bad":
        others = [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"<svg/>"]
        raw = draw.choice([*others, raw[:20]])

    def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"photo.{name}")
            file.write_bytes(raw)
            found = images.open_image(file)
        if found.mode != "RGB" or (kind == "valid" and found.size != (24, 16)):
            raise WrongError(f"{found.mode} {found.size}")
        return kind == "valid"

    return judge("pictures", kind, f"{name} {raw[:40]!r}", run)


_RECIPE = """
[vision]
model = "efficientnet-lite0"
layers = ["x"]
[language]
model = "y"
[network]
prefix_length = 4
[training]
steps = 9
[[data]]
kind = "shapes"
length = 4
"""
_VALUES = ["0", "-1", '""', "[]", "{}", "true", "1.5", "nan", '"x"', "[[]]", "inf", "1e400", "[1, 'a']"]


def recipes(draw: random.Random) -> Outcome:
    """A recipe, whole, with one value exchanged, or damaged: read, or an error in a sentence."""
    kind = draw.choice(["valid", "odd", "odd"])
    lines = _RECIPE.splitlines()
    if kind == "odd":
        number = draw.randrange(len(lines))
        drawn = draw.choice(["vision", "steps", "data"])
        name = lines[number].partition(" =")[0] if "=" in lines[number] else drawn
        lines[number] = f"{name} = {draw.choice(_VALUES)}"
    raw = "\n".join(lines).encode()
    raw = _damaged(draw, raw) if kind == "odd" and draw.random() < 0.5 else raw

    def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "recipe.toml")
            file.write_bytes(raw)
            found = Run.read(file)
        if kind == "valid" and (found.training.steps != 9 or found.network.prefix_length != 4):
            raise WrongError(str(found))
        return kind == "valid"

    return judge("recipes", kind, repr(raw[-160:]), run)


@cache
def _saved() -> dict[str, bytes]:
    from measurements.fuzz.calls import world

    with tempfile.TemporaryDirectory() as folder:
        world().translator.save_pretrained(Path(folder, "t"))
        return {path.name: path.read_bytes() for path in Path(folder, "t").iterdir() if path.is_file()}


def folders(draw: random.Random) -> Outcome:
    """A saved translator with one file damaged, or without one: refused (its language model is nowhere)."""
    files = dict(_saved())
    name = draw.choice(sorted(files))
    files[name] = _damaged(draw, files[name])

    def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            for each, content in files.items():
                Path(folder, each).write_bytes(content)
            Translator.from_pretrained(folder)
        return False

    return judge("folders", "odd", name, run)


def journals(draw: random.Random) -> Outcome:
    """A journal, whole or damaged: what was found before, or an error that names the file."""
    kind = draw.choice(["valid", "odd"])

    def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "parts.jsonl")
            for number in range(3):
                Journal(file, {"seed": 0}).get(str(number), lambda number=number: number * 2)  # type: ignore[misc]
            if kind == "odd":
                file.write_bytes(_damaged(draw, file.read_bytes()))
            found = [Journal(file, {"seed": 0}).get(str(number), lambda: -1) for number in range(3)]
        if kind == "valid" and found != [0, 2, 4]:
            raise WrongError(str(found))
        return kind == "valid"

    return judge("journals", kind, kind, run)
