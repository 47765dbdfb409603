"""Measure what is made of a classifier's head without data: the bottleneck, and new classes beside the old.

Run as ``python -m measurements.zero_shot.heads OUTPUT --folder PHOTOS``: EfficientNet-Lite0 and a folder of
photographs. New classes are old ones that the head loses and the map gives back by name.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchnle import backbones, images
from torchnle.evaluation import record
from torchnle.evaluation.photographs.truth import picture_files
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.methods.zero_shot import concept_bottleneck, extend_classifier
from torchnle.methods.zero_shot.banks import as_bank


def without(model: nn.Module, kept: list[int]) -> nn.Module:
    """Copy a classifier without some classes of its linear head."""
    copied = copy.deepcopy(model)
    parent, _, name = find_head(model, example_for(model)).head_name.rpartition(".")
    owner = copied.get_submodule(parent)
    old = getattr(owner, name)
    new = nn.Linear(old.in_features, len(kept))
    with torch.no_grad():
        new.weight.copy_(old.weight[kept])
        new.bias.copy_(old.bias[kept])
    setattr(owner, name, new)
    return copied.eval()


def main() -> None:
    """Measure and write zero_shot_heads.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = backbones.load()
    photos = [backbone.preprocess(images.open_image(file)) for file in picture_files(options.folder)]
    batches = list(torch.split(torch.stack(photos), 8))
    found: dict[str, Any] = {"setting": record.setting(), "photographs": len(photos)}
    for name, bank in (("general words", None), ("shipped bank", as_bank(None))):
        module = concept_bottleneck(backbone.model, bank, class_names=backbone.class_names)
        found[f"bottleneck, {name}"] = {
            "concepts": len(module.concepts),
            "penalty": module.penalty,
            "agreement": module.agreement(batches),
        }
        print(name, found[f"bottleneck, {name}"], flush=True)
    found["new classes"] = _new(backbone, batches)
    print(found["new classes"])
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record.plain(found), indent=1)
    (options.output / "zero_shot_heads.json").write_text(text + "\n", encoding="utf-8")


@torch.no_grad()
def _new(backbone: backbones.Backbone, batches: list[torch.Tensor]) -> dict[str, Any]:
    """Take away the classes that are predicted on every other photograph, and add them again by name."""
    truth = torch.cat([backbone.model(x).argmax(dim=1) for x in batches])
    lost = sorted(set(truth[::2].tolist()))
    kept = [c for c in range(len(backbone.class_names)) if c not in lost]
    names = backbone.class_names
    model = extend_classifier(
        without(backbone.model, kept), [names[c] for c in lost], class_names=[names[c] for c in kept]
    )
    order = torch.tensor([*kept, *lost])
    predictions = torch.cat([order[model(x).argmax(dim=1)] for x in batches])
    new = torch.tensor([int(c) in lost for c in truth])
    return {
        "classes": len(lost),
        "offset": model.offset,
        "new_named": float((predictions == truth)[new].float().mean()),
        "old_kept": float((predictions == truth)[~new].float().mean()) if (~new).any() else None,
    }


if __name__ == "__main__":
    main()
