"""Runs, caches and files that are written: gone on with only if they are the same, whole or absent, named."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from measurements.reading.tiny_models import build, tokenizer
from measurements.reliability.cases.case import Found, Topic, equal, first_wrong, folder, refused
from measurements.reliability.cases.models import SIZES, language_model
from torchnle.data.captions import CaptionedImage, CaptionList
from torchnle.journal import Journal
from torchnle.language.model import LanguageModel
from torchnle.methods.devil import devil_translator
from torchnle.training import prefix
from torchnle.training.feature_cache import CachedFeatures, cached
from torchnle.training.recipe import Recipe
from torchnle.training.supply import LiveFeatures

TOPIC = Topic("runs and feature caches")
case = TOPIC.case
_COLOURS = {"w5": (255, 0, 0), "w6": (0, 255, 0), "w7": (0, 0, 255)}


def _pixels(image: Image.Image) -> Tensor:
    raw = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return raw.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255


def _live(word: str = "w8", seed: int = 0) -> LiveFeatures:
    torch.manual_seed(seed)
    pairs = [CaptionedImage(Image.new("RGB", (8, 8), c), (f"{n} {word}",)) for n, c in _COLOURS.items()]
    return LiveFeatures(nn.Sequential(nn.Conv2d(3, 6, 4, 4)), ["0"], CaptionList(pairs), _pixels)


def _train(
    directory: Path, live: LiveFeatures | None = None, lm: Any = None, prompt: str = "", **more: Any
) -> Any:
    torch.manual_seed(0)
    made = devil_translator({"0": 6}, lm or language_model(), prompt=prompt, max_new_tokens=4, **SIZES)
    settings: dict[str, Any] = {"steps": 3, "batch_size": 2, "warmup": 1, "checkpoint_every": 1}
    recipe = Recipe(**{**settings, "layer_dropout": 0.0, "moments_of": 3, **more})
    return prefix.train(made, live or _live(), recipe, directory)


@case(
    "a run gone on with on other captions, another image model, prompt, seed, language model",
    "refused, and what differs is named",
)
def other_run() -> Found:
    """A run that is gone on with as another one."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        other = build("gpt2")
        torch.nn.init.normal_(other.lm_head.weight, std=0.3)
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "captions": ({"live": _live("w9")}, "data"),
        "image model": ({"live": _live(seed=1)}, "model"),
        "prompt": ({"prompt": "w3"}, "prompt"),
        "seed": ({"seed": 5}, "seed"),
        "language model": ({"lm": LanguageModel(other, tokenizer(), reference="x")}, "language model"),
    }
    with folder() as directory:
        _train(directory)
        before = (directory / "last.pt").read_bytes()
        tried = [
            (n, refused(lambda g=given: _train(directory, **g), fact)) for n, (given, fact) in changes.items()
        ]
        unchanged = (directory / "last.pt").read_bytes() == before
        _train(directory)
    return first_wrong([*tried, ("the checkpoint is kept", equal(unchanged, True))])


@case("last.pt empty, cut in half, a list, another dict", "a ValueError that names it and says what to do")
def damaged_state() -> Found:
    """A damaged checkpoint."""
    tried = []
    with folder() as directory:
        _train(directory)
        file = directory / "last.pt"
        whole = file.read_bytes()
        for name, content in {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "zip": b"PK\x03\x04cut",
        }.items():
            file.write_bytes(content)
            tried.append((name, refused(lambda: _train(directory), r"last\.pt", "another folder")))
        for name, value in {"list": [1], "dict": {"done": 1}}.items():
            torch.save(value, file)
            tried.append((name, refused(lambda: _train(directory), r"last\.pt", "another folder")))
    return first_wrong(tried)


@case(
    "a journal with '{', [1], null or bytes in it; one of another setting", "a ValueError with file and line"
)
def damaged_journal() -> Found:
    """A damaged journal."""
    tried = []
    for line in ("{", "[1]", "null", '"a"'):
        with folder() as directory:
            file = directory / "parts.jsonl"
            Journal(file, {"seed": 0}).get("a", lambda: 1)
            file.write_text(file.read_text() + line + "\n")
            tried.append((line, refused(lambda f=file: Journal(f, {"seed": 0}), r"parts\.jsonl, line 3")))
    with folder() as directory:
        Journal(directory / "a", {"seed": 0}).get("a", lambda: 1)
        tried.append(("setting", refused(lambda: Journal(directory / "a", {"seed": 1}), "another setting")))
        (directory / "b").write_bytes(b"\xff\xfe\x00\n")
        tried.append(("bytes", refused(lambda: Journal(directory / "b", {}), "not UTF-8")))
    return first_wrong(tried)


@case("two processes that build one feature cache, five times", "one whole cache each time, no error")
def two_builders() -> Found:
    """Two builders of one cache at once."""
    context, codes, sizes = multiprocessing.get_context("fork"), [], []
    with folder() as directory:
        for turn in range(5):
            builders = [
                context.Process(target=cached, args=(directory / str(turn), _live())) for _ in range(2)
            ]
            for builder in builders:
                builder.start()
            for builder in builders:
                builder.join(30)
            codes += [builder.exitcode for builder in builders]
            sizes.append(len(CachedFeatures(directory / str(turn))))
        left = sorted(path.name for path in directory.iterdir())
    return f"exit codes {set(codes)}, sizes {set(sizes)}, {left}", set(codes) == {0} and left == list("01234")


@case("flipped bytes, missing lines, edited shapes, files cut or gone", "a ValueError that names the cache")
def damaged_cache() -> Found:
    """A damaged feature cache."""
    tried = []
    for name in ("layer0.bin", "captions.jsonl", "cache.json"):
        for how in ("flipped", "cut", "gone"):
            with folder() as directory:
                cached(directory / "c", _live())
                file = directory / "c" / name
                raw = bytearray(file.read_bytes())
                raw[len(raw) // 2] ^= 1
                file.unlink()
                if how != "gone":
                    file.write_bytes(bytes(raw if how == "flipped" else raw[:-3]))
                tried.append(
                    (
                        f"{name} {how}",
                        refused(lambda p=directory: CachedFeatures(p / "c"), "damaged|no finished"),
                    )
                )
    return first_wrong(tried)
