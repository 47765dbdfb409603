"""Compose waterbirds and read a frozen backbone's features of them once; everything else refits one layer.

Run as ``python -m measurements.waterbirds.features FOLDER --part train``, then
``--part test``. Backgrounds are photographs of Debian's `tuxpaint-data`, of which three show water; birds are
the stamps of `tuxpaint-stamps-default`. Both are the same in training and test: what differs is the crop, the
size, the location and the light.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchnle import backbones
from torchnle.backbones import Backbone
from torchnle.data import photo_backgrounds
from torchnle.data.backgrounds import Picture
from torchnle.data.grouped_scenes import GroupedScenes, load_birds
from torchnle.images import open_image

BIRDS = Path("/usr/share/tuxpaint/stamps/animals/birds")
PHOTOGRAPHS = Path("/usr/share/tuxpaint")
WATER = ("templates/ocean_waves.jpg", "templates/ocean_splash.jpg", "starters/reef-back.png")
LAND = tuple(
    f"templates/{name}.jpg"
    for name in (
        "burnt_bark",
        "corn_maze",
        "mossy_bark",
        "mossy_log",
        "mudstone",
        "redwoods_above",
        "rocks",
        "sun_behind_leaves",
        "trees_above",
    )
)
#: Scenes of a class in its own context and in the other one: enough to draw training sets of 600 a class at a
#: share of 95 % from, whose conflicting scenes differ, and of 400 at 50 %; and of test scenes in every cell.
OWN, OTHER, TEST = 760, 400, 400
#: Small batches are the fastest on one core.
BATCH = 4


def contexts() -> dict[str, tuple[Picture, ...]]:
    """The photographs of land and of water."""
    return {
        name: photo_backgrounds([_photograph(PHOTOGRAPHS / file) for file in files])
        for name, files in {"land": LAND, "water": WATER}.items()
    }


def scenes(part: str, seed: int) -> GroupedScenes:
    """The pool that training sets are taken from ("train"), or the test scenes ("test")."""
    counts = [[OWN, OTHER], [OTHER, OWN]] if part == "train" else [[TEST, TEST], [TEST, TEST]]
    return GroupedScenes(
        load_birds(BIRDS),
        contexts(),
        counts,
        seed=2 * seed + (part == "test"),
    )


def read(backbone: Backbone, images: Sequence[Image.Image]) -> Tensor:
    """The features in front of the pooling, (N, 7, 7, D)."""
    x = torch.stack([backbone.preprocess(image) for image in images])
    backbone.model.to(memory_format=torch.channels_last)
    extract: Any = backbone.model.extract_features
    features: Tensor = extract(x.to(memory_format=torch.channels_last))
    return features.permute(0, 2, 3, 1)


@torch.inference_mode()
def compute(part: str, seed: int, backbone: Backbone) -> dict[str, Tensor]:
    """Read a part: features pooled and of every location, labels, contexts, and the birds' masks."""
    pool, pooled, grids, masks = scenes(part, seed), [], [], []
    for start in range(0, len(pool), BATCH):
        batch = pool[start : start + BATCH]
        maps = read(backbone, [each.image for each in batch])
        pooled.append(maps.mean(dim=(1, 2)))
        grids.append(maps.half())
        masks.append(torch.from_numpy(np.stack([np.packbits(each.mask) for each in batch])))
    return {
        "pooled": torch.cat(pooled),
        "grids": torch.cat(grids),
        "masks": torch.cat(masks),
        "labels": pool.labels,
        "contexts": pool.contexts,
    }


def load(folder: Path, part: str, seed: int) -> dict[str, Tensor]:
    """A part, read from the folder or computed and kept there."""
    file = folder / f"{part}_{seed}.pt"
    if not file.exists():
        found = compute(part, seed, backbones.load("efficientnet-lite0"))
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(found, file)
    loaded: dict[str, Tensor] = torch.load(file, weights_only=True)
    return loaded


def _photograph(path: Path) -> Image.Image:
    image = open_image(path)
    share = 448 / min(image.size)
    return image.resize((round(image.width * share), round(image.height * share))) if share < 1 else image


def main() -> None:
    """Compute a pool of training scenes, or the test scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", choices=("train", "test"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load(options.folder, options.part, options.seed)


if __name__ == "__main__":
    main()
