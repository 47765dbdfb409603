"""Train a second, very different backbone on shapes from nothing; the shipped decoder gives it sentences.

A few minutes on one core. Then, the same table as for the shipped translator (OUTPUT = demo_output/second):
torchnle evaluate scenes --model timm:local-dir:OUTPUT/backbone --translator OUTPUT/translator
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.models import save_for_hf
from torch import Tensor

from torchnle import LanguageAttribution, backbones, suggest_layers
from torchnle.backbones import Backbone, Preprocess
from torchnle.data import Scene, Scenes
from torchnle.data.palette import COLOURS
from torchnle.evaluation.scenes import composed
from torchnle.views import plots

ARGUMENTS = {"channels": [24, 48, 96, 192], "stem_width": 16, "output_stride": 16}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for models and picture")
parser.add_argument("--arch", default="resnet10t", help="any of timm's (default: %(default)s, slimmed)")
parser.add_argument("--arguments", type=json.loads, default=ARGUMENTS, help="of timm's builder, as JSON")
parser.add_argument("--size", type=int, default=96, help="side of its input (default: %(default)s)")
parser.add_argument("--steps", type=int, default=1500, help="of training (default: %(default)s)")
parser.add_argument("--batch", type=int, default=32, help="scenes a step (default: %(default)s)")
parser.add_argument("--learning-rate", type=float, default=4e-3, help="the highest (default: %(default)s)")
parser.add_argument(
    "--scenes", type=int, default=3000, help="that the map is fitted to (default: %(default)s)"
)
parser.add_argument("--unseen", type=int, default=500, help="for its accuracy (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()


def batches(scenes: Scenes, preprocess: Preprocess) -> Iterator[tuple[Tensor, list[Scene]]]:
    for start in range(0, len(scenes), options.batch):
        part = scenes[start : start + options.batch]
        yield torch.stack([preprocess(scene.image) for scene in part]), part


def labels(phrases: tuple[str, ...], part: list[Scene]) -> Tensor:
    return torch.tensor([phrases.index(scene.objects[0].phrase) for scene in part])


def loss_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Which form of which colour; and each of the two by itself, which is sooner learnt and leads there."""
    pairs, count = logits.unflatten(1, (-1, len(COLOURS))), len(COLOURS)
    forms, colours = pairs.logsumexp(2), pairs.logsumexp(1)
    return (
        F.cross_entropy(logits, classes)
        + F.cross_entropy(forms, classes // count)
        + F.cross_entropy(colours, classes % count)
    )


def train(model: torch.nn.Module, scenes: Scenes, preprocess: Preprocess) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.steps, pct_start=0.15
    )
    model.train()
    for step, (images, part) in enumerate(batches(scenes, preprocess), start=1):
        loss = loss_of(model(images), labels(scenes.phrases, part))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        if step % 100 == 0 or step == options.steps:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.eval()


@torch.no_grad()
def accuracy(backbone: Backbone, scenes: Scenes) -> float:
    """Of scenes at full size, as everything that comes later gives them."""
    right = [
        backbone.model(images).argmax(dim=1) == labels(scenes.phrases, part)
        for images, part in batches(scenes, backbone.preprocess)
    ]
    return torch.cat(right).float().mean().item()


# One thing a scene: a name a picture is what classifiers are trained on, and no location is ever told.
torch.manual_seed(options.seed)
singles = composed(length=options.steps * options.batch, objects=(1, 1), size=options.size, seed=options.seed)
pixels = {
    "mean": (0.5,) * 3,
    "std": (0.5,) * 3,
    "crop_pct": 1.0,
    "input_size": (3, options.size, options.size),
}
arguments = {**options.arguments, "num_classes": len(singles.phrases)}
model = timm.create_model(options.arch, pretrained_cfg_overlay=pixels, **arguments)
train(model, singles, Preprocess(size=options.size, mean=127.5, std=127.5))

folder = options.output / "backbone"
names = [phrase.split(" ", 1)[1] for phrase in singles.phrases]
save_for_hf(model, folder, {"label_names": names}, model_args=options.arguments, safe_serialization=True)
backbone = backbones.load(f"timm:local-dir:{folder}")
unseen = composed(length=options.unseen, objects=(1, 1), seed=options.seed + 1)
print(f"names {accuracy(backbone, unseen):.1%} of {len(unseen)} unseen scenes rightly")

# Any captions do. These list one to three things and the ground, and no location is told here either.
layers = [
    layer.name
    for layer in suggest_layers(backbone.model, next(batches(unseen, backbone.preprocess))[0][:1], count=3)
]
captioned = composed(length=options.scenes, objects=(1, 3), seed=options.seed + 2)
pairs = ((images, [s.caption for s in part]) for images, part in batches(captioned, backbone.preprocess))
lang = LanguageAttribution.from_captions(backbone.model, layers, pairs)
print(f"translator: {lang.translator.save_pretrained(options.output / 'translator')}")

last = LanguageAttribution(backbone.model, layers[-1], lang.translator)
for scene in composed(length=3, objects=(2, 2), seed=options.seed + 3):
    x = backbone.preprocess(scene.image)[None]
    (grid,) = last.describe(x, where="all")
    for thing in scene.objects:
        print(f"{thing.phrase!r} -> {grid[thing.location(grid.grid)].text!r}")
queries = [thing.phrase for thing in scene.objects]
(maps,) = last.saliency(x, queries)
figure = plots.plot_saliency(backbone.view(scene.image), maps, queries, score_name="projection")
print(f"picture: {plots.save(figure, options.output / 'shapes_backbone.png')}")
