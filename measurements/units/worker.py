"""One run of `dissect` in a process of its own, for runs that are killed or divided."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from torchnle import backbones
from torchnle.methods.dissect.candidates.local_chat import LocalChat
from torchnle.methods.dissect.candidates.summarisers import ChatSummariser
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.run import DissectSettings, dissect

LAYER = "_blocks.10"


def label(shown: Path, cache: Path, output: Path, units: int) -> None:
    """Label some units with the embedded language model, save the state often, and write the labels.

    Args:
        shown: A folder of images.
        cache: The folder of the state.
        output: The file of the labels.
        units: How many units.
    """
    torch.set_num_threads(1)
    backbone = backbones.load("efficientnet-lite0")
    found = dissect(
        backbone.model,
        LAYER,
        ProbingSet(shown, backbone.preprocess),
        translator="aligned-efficientnet-lite0-scenes",
        only=range(units),
        summariser=ChatSummariser(LocalChat(), simplify=False),
        probing=ProbeSettings(k=5, batch_size=8, save_every=0.5),
        settings=DissectSettings(candidates=2),
        cache=cache,
    )
    output.write_text(json.dumps(found.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    label(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
