"""Train a DeViL translator on coloured shapes, then ask it what stands where in a scene it never saw."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchnle import LanguageAttribution, backbones
from torchnle.data import Scenes, plain_backgrounds, shapes
from torchnle.methods.devil.training import run
from torchnle.views import plots

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for run and picture")
output = parser.parse_args().output

# The same as: torchnle train --config shapes.toml
settings = [f"output={output}/shapes", f"loading.cache={output}/shapes/cache"]
recipe = run.Run.read("shapes.toml", settings)
translator, _ = run.train(recipe)

backbone = backbones.load(recipe.vision.model)
words = LanguageAttribution(backbone.model, "_avg_pooling:input", translator)

unseen = Scenes(shapes(), plain_backgrounds(), length=3, objects=(1, 1), seed=99)
for scene in unseen:
    (description,) = words.describe(backbone.preprocess(scene.image)[None])
    print(f"{scene.caption!r} -> {description.text!r}")

scene = unseen[0]
query = scene.objects[0].phrase
(maps,) = words.saliency(backbone.preprocess(scene.image)[None], [query])
figure = plots.plot_saliency(backbone.view(scene.image), maps, [query], score_name="log p")
print(f"picture: {plots.save(figure, output / 'shapes_saliency.png')}")
