"""Describe a folder as a Ray Data pipeline, one actor a device: the lines of `torchnle describe --lines`.

    python examples/ray_describe.py FOLDER --lines words.jsonl --actors 8 --gpus 1

Needs ``pip install "ray[data]"``. A row of the pipeline is a batch of files, so that the batches, and so the
lines to the bit, do not depend on how Ray cuts its blocks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from torchnle import LanguageAttribution, backbones
from torchnle.attr.dataset import describe_dataset
from torchnle.attr.dataset.picture_list import PictureList


class Describer:
    """An actor: a model with its translator, on a device of its own."""

    def __init__(self, model: str, device: str, workers: int) -> None:
        backbone = backbones.load(model)
        backbone.model.to(device)  # Ray shows each actor its own GPU as the first
        self.lang = LanguageAttribution.from_backbone(backbone)
        self.workers = workers

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[str]]:
        (batch,) = rows["batch"]
        files = json.loads(batch)
        how = {"batch_size": len(files), "workers": self.workers, "process": 0, "processes": 1}
        return {"lines": [json.dumps(list(describe_dataset(self.lang, files, **how)))]}


def pipeline(files: list[str], options: argparse.Namespace) -> ray.data.Dataset:
    """Build the pipeline: batches of files in, batches of lines out, in their order."""
    DataContext.get_current().execution_options.preserve_order = True
    size = options.batch_size
    batches = [{"batch": json.dumps(files[at : at + size])} for at in range(0, len(files), size)]
    rows = ray.data.from_items(batches, override_num_blocks=len(batches))
    device = "cuda" if options.gpus else "cpu"
    return rows.map_batches(
        Describer,
        batch_size=1,
        fn_constructor_args=(options.model, device, options.workers),
        compute=ActorPoolStrategy(size=options.actors),
        num_gpus=options.gpus,
        num_cpus=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", help="files, folders, patterns, lists or shards of files")
    parser.add_argument("--lines", type=Path, required=True, help="the JSON lines are written here")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--actors", type=int, default=2, help="one a device")
    parser.add_argument("--gpus", type=float, default=0, help="of each actor")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="processes of each actor that decode")
    options = parser.parse_args()
    files = list(PictureList(options.photos))
    with options.lines.open("w", encoding="utf-8") as out:
        for row in pipeline(files, options).iter_rows():
            out.writelines(json.dumps(line) + "\n" for line in json.loads(row["lines"]))


if __name__ == "__main__":
    main()
