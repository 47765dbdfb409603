"""Probe a folder, in one process or a share of it under torchrun, and write down a hash of the record."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import torch

from torchnle import backbones
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.probe import ProbeRecord, probe
from torchnle.methods.dissect.probing.settings import ProbeSettings

_LAYER = "_blocks.10"


def main(photos: Path, folder: Path) -> None:
    """Probe one layer of the default model; each process writes its hash into the folder."""
    backbone = backbones.load("efficientnet-lite0")
    settings = ProbeSettings(k=5, batch_size=4)
    probing_set = ProbingSet(photos, backbone.preprocess)
    found = probe(backbone.model, _LAYER, probing_set, settings=settings, cache=folder / "cache")
    rank = os.environ.get("RANK", "0")
    (folder / f"record-{rank}.txt").write_text(digest(found), encoding="utf-8")


def digest(found: ProbeRecord) -> str:
    """Return a hash of all tensors of a record's layer and of the number of images."""
    total = hashlib.sha256(str(found.images).encode())
    for name, tensor in sorted(found.layers[_LAYER].streams.state().items()):
        total.update(name.encode() + tensor.flatten().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
