"""Time what a map from text into features costs on one photograph and one thread.

Run as ``python -m measurements.map_costs FOLDER``: the fit from class names, sums and solve of 10,000 scenes,
words for the whole picture and its 49 locations, maps of 1,000 texts, and words out of 20,000 phrases.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import torch

from measurements.costs import Clock, photograph, solve
from measurements.phrases import phrases
from torchnle import LanguageAttribution, backbones
from torchnle.evaluation import record
from torchnle.language.text_encoder import TextEncoder

_SCENES, _TEXTS, _VOCABULARY = 10_000, 1_000, 20_000


def main() -> None:
    """Measure and write map_costs.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = Clock(rounds=5, limit=60)
    backbone, encoder = backbones.load("efficientnet-lite0"), TextEncoder.from_pretrained()
    image = photograph(backbone)

    def attach(vocabulary: Sequence[str] | None = None) -> LanguageAttribution:
        made: LanguageAttribution = LanguageAttribution.from_classifier(
            backbone.model, backbone.class_names, encoder=encoder, vocabulary=vocabulary
        )
        return made

    fit, lang = clock(attach)
    rows = torch.randn(_SCENES, 1280, generator=torch.Generator().manual_seed(0))
    queries = cycle([phrases(_TEXTS, seed=seed) for seed in range(6)])
    large = attach(vocabulary=phrases(_VOCABULARY, seed=99))
    large.describe(image)  # the phrases are encoded once, and kept on disk
    found = {
        "setting": record.setting(),
        "threads": 1,
        "seconds": {
            "forward": clock(lambda: lang.read(image))[0],
            "fit to 1,000 class names": fit,
            f"sums and solve of {_SCENES} scenes": clock(lambda: solve(rows, encoder))[0],
            "words for the whole picture": clock(lambda: lang.describe(image))[0],
            "words at 49 locations": clock(lambda: lang.describe(image, where="all"))[0],
            f"maps of {_TEXTS} new texts": clock(
                lambda: lang.saliency(image, next(queries), interpolate_mode=None)
            )[0],
            f"words at 49 locations out of {_VOCABULARY} phrases": clock(
                lambda: large.describe(image, where="all")
            )[0],
        },
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "map_costs.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
