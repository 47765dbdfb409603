"""Makes photographs of 12 megapixels: scenes, enlarged, with the grain of a camera, as JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from torchnle.data import Scenes, shapes

SIZE = (4000, 3000)
_GRAIN = 5.0  # standard deviation of the noise, of 255
_QUALITY = 90
_BROKEN = ("broken_empty.jpg", "broken_text.jpg", "broken_truncated.jpg")


def make(folder: Path, count: int, *, size: tuple[int, int] = SIZE, seed: int = 0) -> list[Path]:
    """Write photographs into a folder, those that are there already excepted.

    Args:
        folder: It is created if needed.
        count: How many.
        size: Width and height.
        seed: Of scenes and noise.

    Returns:
        The files, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"photo_{number:04}.jpg" for number in range(count)]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    if not missing:
        return files
    scenes = Scenes(shapes(), length=count, size=512, seed=seed)
    noise = np.random.default_rng(seed).normal(0, _GRAIN, (size[1], size[0], 3)).astype(np.int16)
    for number in tqdm(missing, desc="photographs"):
        made = files[number].with_suffix(".part")
        _photograph(scenes[number].image, size, np.roll(noise, 97 * number, axis=(0, 1))).save(
            made, "JPEG", quality=_QUALITY
        )
        made.replace(files[number])
    return files


def _photograph(scene: Image.Image, size: tuple[int, int], noise: np.ndarray) -> Image.Image:
    pixels = np.asarray(scene.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def add_broken(folder: Path, like: Path) -> list[Path]:
    """Add an empty file, a text and a truncated photograph, all with the ending of a photograph."""
    whole = like.read_bytes()
    contents = (b"", b"this is no photograph", whole[: len(whole) // 3])
    for name, content in zip(_BROKEN, contents, strict=True):
        (folder / name).write_bytes(content)
    return [folder / name for name in _BROKEN]
