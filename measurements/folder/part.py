"""One part of the measurement, in a process of its own: ``python -m measurements.folder.part PART ...``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from measurements.folder.memory import MemoryWatch
from torchnle import LanguageAttribution, backbones, images
from torchnle.attr.dataset import describe_dataset

_MODEL = "efficientnet-lite0"


def loop(files: list[str], _: dict[str, Any]) -> dict[str, Any]:
    """Describe one photograph a call, in one process."""
    lang = _attached(files)
    with MemoryWatch() as watch:
        begun = time.perf_counter()
        found = [_answer(lang, file) for file in files]
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "lines": found, "memory": watch.flatness(0)}


def batches(files: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Describe them by `describe_dataset`."""
    lang = _attached(files)
    first, found = 0.0, []
    with MemoryWatch() as watch:
        begun = time.perf_counter()
        for line in describe_dataset(lang, files, **options):
            first = first or time.perf_counter() - begun
            found.append({name: line.get(name) for name in ("file", "text", "score", "probability", "error")})
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "lines": found, "memory": watch.flatness(first), "first batch": first}


def shares(files: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Time the parts of the work on one thread, in seconds of the processor."""
    torch.set_num_threads(1)
    lang = _attached(files)
    size = int(options["batch_size"])
    preprocess: Any = lang.preprocess
    times = dict.fromkeys(("decode", "resize", "describe one", f"describe {size} at once"), 0.0)
    inputs = []
    for file in files:
        picture = _timed(times, "decode", lambda file=file: images.open_image(file))
        inputs.append(_timed(times, "resize", lambda picture=picture: preprocess(picture)))
        _timed(times, "describe one", lambda: lang.describe(inputs[-1][None]))
    for start in range(0, len(inputs), size):
        x = torch.stack(inputs[start : start + size])
        _timed(times, f"describe {size} at once", lambda x=x: lang.describe(x))
    return {"seconds a photograph": {name: total / len(files) for name, total in times.items()}}


def draft(files: list[str], _: dict[str, Any]) -> dict[str, Any]:
    """Compare answers when JPEG's own scaling halves the photographs, down to twice the model's input."""
    lang = _attached(files)
    preprocess: Any = lang.preprocess
    changed, differences, scores, seconds = 0, [], [], 0.0
    for file in files:
        begun = time.perf_counter()
        with Image.open(file) as opened:
            opened.draft("RGB", (2 * preprocess.size, 2 * preprocess.size))
            scaled = preprocess(opened.convert("RGB"))
        seconds += time.perf_counter() - begun
        whole = preprocess(images.open_image(file))
        before, after = lang.describe(torch.stack([whole, scaled]))
        changed += before.text != after.text
        differences.append(float((whole - scaled).abs().max()) * float(preprocess.std))
        scores.append(abs(before.score - after.score))
    return {
        "seconds a photograph": seconds / len(files),
        "photographs": len(files),
        "texts that differ": changed,
        "largest difference of a pixel": max(differences),
        "largest difference of a score": max(scores),
    }


def _attached(files: list[str]) -> LanguageAttribution:
    lang = LanguageAttribution.from_backbone(backbones.load(_MODEL))
    lang.describe(files[0])  # warm
    return lang


def _answer(lang: LanguageAttribution, file: str) -> dict[str, Any]:
    (word,) = lang.describe(file)
    return {"file": file, "text": word.text, "score": word.score, "probability": word.probability}


def _timed(times: dict[str, float], name: str, call: Any) -> Any:
    begun = time.process_time()
    found = call()
    times[name] += time.process_time() - begun
    return found


PARTS = {"loop": loop, "batches": batches, "shares": shares, "draft": draft}

if __name__ == "__main__":
    request = json.loads(sys.stdin.read())
    answer = PARTS[sys.argv[1]](request["files"], request["options"])
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")
