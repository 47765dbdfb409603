"""Bring your own captions: image files and a file of captions in, a translator for any vision model out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from torchnle import LanguageAttribution, backbones, hub
from torchnle.data import CaptionFile, Scenes, shapes
from torchnle.methods.devil import devil_translator
from torchnle.training import loop, prefix
from torchnle.training.feature_cache import cached
from torchnle.training.log import RunLog
from torchnle.training.recipe import Recipe
from torchnle.training.supply import LiveFeatures
from torchnle.views import plots

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for run and picture")
parser.add_argument("--captions", type=Path, help=".jsonl, .csv or COCO .json; images beside it")
parser.add_argument("--steps", type=int, default=8)
options = parser.parse_args()


def example_captions(folder: Path) -> Path:
    """A few pictures with captions, instead of yours."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, scene in enumerate(Scenes(shapes(), length=24, objects=(1, 1))):
        scene.image.save(folder / f"{number:03}.jpg")
        lines.append(json.dumps({"image": f"{number:03}.jpg", "caption": scene.caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder / "captions.jsonl"


pairs = CaptionFile(options.captions or example_captions(options.output / "own"))
backbone = backbones.load("efficientnet-lite0")  # or any nn.Module of yours with its own preprocessing
layers = ["_blocks.10", "_bn1"]
features = cached(
    options.output / "own_cache", LiveFeatures(backbone.model, layers, pairs, backbone.preprocess)
)

translator = devil_translator(
    features.widths,
    hub.SMOLLM2,
    prefix_length=4,
    width=128,
    depth=2,
    heads=4,
    feedforward=256,
    standardise=True,
    start=" a photo of",
    prompt="\nThis is",
    stop="\n",
)
recipe = Recipe(steps=options.steps, batch_size=8, learning_rate=2e-3, warmup=4, clip=1.0, log_every=1)
run = options.output / "own_run"
with RunLog(run, recipe.steps, done=loop.steps_done(run)) as log:
    prefix.train(translator, features, recipe, run, report=log)
print(f"translator: {translator.save_pretrained(options.output / 'own_translator')}")

pair = pairs[0]
x, caption = backbone.preprocess(pair.image)[None], pair.captions[0]
for layer in layers:
    (description,) = LanguageAttribution(backbone.model, layer, translator).describe(x)
    print(f"{caption!r} -> {layer}: {description.text!r}")
(maps,) = LanguageAttribution(backbone.model, "_bn1", translator).saliency(x, [caption])
figure = plots.plot_saliency(backbone.view(pair.image), maps, [caption], score_name="log p")
print(f"picture: {plots.save(figure, options.output / 'own_saliency.png')}")
