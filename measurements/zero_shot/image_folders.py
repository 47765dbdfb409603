"""Measure new classes on images in folders: top-1 and top-5, trained and new classes, replaced head.

Run as ``python -m measurements.zero_shot.image_folders OUTPUT --folder IMAGENET``, where IMAGENET holds the
folders ``train`` and ``val`` with a folder of images per class (by WordNet identifier where all classes are
there, else by name); or ``--stamps FOLDER`` to lay composed scenes out so first. Images of ``train`` are used
without labels, to calibrate; those of ``val`` are scored. Some of the classes that are shown are taken out of
the head and added again by name.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from measurements.zero_shot.heads import without
from torchnle import backbones
from torchnle.data import Cutout, Scenes, load_cutouts
from torchnle.data.image_folders import LabelledImages, load_class_folders
from torchnle.evaluation import record
from torchnle.evaluation.new_classes import class_indices, new_class_accuracy, top_accuracy
from torchnle.evaluation.scenes.data import evaluation_backgrounds
from torchnle.language.english.nouns import Nouns
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.zero_shot import extend_classifier
from torchnle.methods.zero_shot.classifier import HeadReader, fit_classifier, own_bias

_BATCH = 8


def lay_out(folder: Path, stamps: Path, names: Sequence[str], train: int, val: int, seed: int) -> int:
    """Write composed scenes of one object as ``train/CLASS`` and ``val/CLASS``, and count the classes.

    Args:
        folder: Where they are written.
        stamps: The cut-outs; those are used that are a kind of exactly one class by WordNet.
        names: The class names.
        train: Images per class in ``train``.
        val: Images per class in ``val``.
        seed: The seed of the scenes.
    """
    by_class: dict[int, list[Cutout]] = {}
    for cutout in load_cutouts(stamps):
        if (label := _label(cutout.phrase)) is not None:
            by_class.setdefault(label, []).append(cutout)
    for label, cutouts in by_class.items():
        scenes = Scenes(
            cutouts, evaluation_backgrounds(), length=train + val, objects=(1, 1), seed=seed + label
        )
        for number in range(train + val):
            place = folder / ("train" if number < train else "val") / names[label].replace("/", " ")
            place.mkdir(parents=True, exist_ok=True)
            scenes[number].image.save(place / f"{number}.png")
    return len(by_class)


def _label(phrase: str) -> int | None:
    """Return the one class of ImageNet that a phrase is a kind of, if it is one only."""
    nouns = Nouns.load()
    synset = nouns.of_phrase(phrase)
    above = frozenset() if synset is None else nouns.ancestors(synset) | {synset}
    found = [label for label, each in enumerate(nouns.imagenet_1k()) if each in above]
    return found[0] if len(found) == 1 else None


def tensors(backbone: backbones.Backbone, listed: LabelledImages) -> list[Tensor]:
    """Read the images as batches for the model."""
    files = listed.images
    return [
        torch.stack([backbone.preprocess(each.image) for each in files[i : i + _BATCH]])
        for i in range(0, len(files), _BATCH)
    ]


@torch.no_grad()
def measure(
    backbone: backbones.Backbone, train: LabelledImages, val: LabelledImages, share: float, seed: int
) -> dict[str, Any]:
    """Measure the original, the replaced and the extended head on the same images.

    Args:
        backbone: The classifier.
        train: Images whose labels are not used.
        val: Labelled images.
        share: The share of the shown classes that are taken out of the head.
        seed: The seed of their draw.
    """
    names = list(backbone.class_names)
    classes = class_indices(val, names)
    labels = torch.tensor([int(classes[each.label]) for each in val.images])
    shown = sorted(set(labels.tolist()))
    new = sorted(random.Random(seed).sample(shown, max(2, round(share * len(shown)))))
    batches = tensors(backbone, val)
    original = torch.cat([backbone.model(x) for x in batches])
    found: dict[str, Any] = {
        "images": len(labels),
        "classes": {"all": len(names), "shown": len(shown), "new": len(new)},
        "original": {f"top{k}": top_accuracy(original, labels, k) for k in (1, 5)},
        "replaced_head": replaced(backbone, batches, original, labels),
    }
    for title, images in (("no images", None), ("unlabelled images", tensors(backbone, train))):
        found[f"new classes by name, calibrated on {title}"] = extended(
            backbone, batches, labels, new, images
        )
    mask = torch.zeros(len(names), dtype=torch.bool)
    mask[new] = True
    found["the original's own rows"] = rates(original, labels, mask)
    return found


def replaced(
    backbone: backbones.Backbone, batches: Sequence[Tensor], original: Tensor, labels: Int[Tensor, "N"]
) -> dict[str, dict[str, float]]:
    """Replace all rows of the head by those that the regression gives for their names (appendix M).

    "fitted": by the regression that was fitted to them, which nearly interpolates; "left out": each row by
    the regression without it.
    """
    source = fit_classifier(backbone.model, backbone.class_names)
    reader, regression = HeadReader(source.model, source.head), source.fitted.regression
    if not isinstance(regression, KernelRidge):
        raise TypeError(
            f"the regression is a {type(regression).__name__}; the measurement needs KernelRidge."
        )
    center, bias = source.head.weight.float().mean(dim=0), own_bias(source.head)
    read = [reader(x) for x in batches]
    found = {}
    for title, rows in (
        ("fitted", regression(source.fitted.texts)),
        ("left out", regression.left_out()),
    ):
        weight = center + source.fitted.class_norms[:, None] * F.normalize(rows, dim=1)
        logits = torch.cat([reader.logits(x, weight, bias) for x in read])
        same = (logits.argmax(dim=1) == original.argmax(dim=1)).float().mean()
        rates = {f"top{k}": top_accuracy(logits, labels, k) for k in (1, 5)}
        found[title] = {**rates, "predicts_as_the_original": float(same)}
    return found


def extended(
    backbone: backbones.Backbone,
    batches: Sequence[Tensor],
    labels: Int[Tensor, "N"],
    new: Sequence[int],
    images: Sequence[Tensor] | None,
) -> dict[str, Any]:
    """Take classes out of the head, add them again by name, and score both kinds of images."""
    names, lost = backbone.class_names, set(new)
    kept = [c for c in range(len(names)) if c not in lost]
    model = extend_classifier(
        without(backbone.model, kept),
        [names[c] for c in new],
        class_names=[names[c] for c in kept],
        images=images,
    )
    order = torch.tensor([*kept, *new])
    logits = torch.cat([model(x) for x in batches])[:, order.argsort()]
    mask = torch.tensor([c in lost for c in range(len(names))])
    return {"offset": model.offset, **rates(logits, labels, mask)}


def rates(logits: Float[Tensor, "N C"], labels: Int[Tensor, "N"], new: Bool[Tensor, "C"]) -> dict[str, float]:
    """Return all accuracies under the names of the paper's table 1."""
    found = new_class_accuracy(logits, labels, new)
    pairs = {"train": found.trained, "test": found.new, "test_among_new": found.new_alone}
    named = {f"{name}@{k}": v for name, both in pairs.items() for k, v in zip((1, 5), both, strict=True)}
    return {**named, "harmonic_mean": found.harmonic_mean}


def main() -> None:
    """Measure and write zero_shot_image_folders.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path)
    source.add_argument("--stamps", type=Path)
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--train-images", type=int, default=2, help="per class, composed")
    parser.add_argument("--val-images", type=int, default=4, help="per class, composed")
    parser.add_argument("--new-share", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = backbones.load(options.backbone)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.stamps is not None:
            each = (options.train_images, options.val_images)
            lay_out(folder, options.stamps, backbone.class_names, *each, options.seed)
        train, val = load_class_folders(folder / "train"), load_class_folders(folder / "val")
        found = {
            "setting": record.setting(),
            "backbone": options.backbone,
            "seed": options.seed,
            **measure(backbone, train, val, options.new_share, options.seed),
        }
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record.plain(found), indent=1)
    (options.output / "zero_shot_image_folders.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
