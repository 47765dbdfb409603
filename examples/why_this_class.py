"""Why a classifier predicts what it does: a sentence, concepts, new classes, and a concept taken out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import skimage.data
import torch

from torchnle import LanguageAttribution, backbones, images
from torchnle.methods.zero_shot import concept_bottleneck, extend_classifier
from torchnle.views import plots

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--photo", type=Path, default=Path(skimage.data.__file__).parent / "chelsea.png")
parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for why.json")
options = parser.parse_args()
photo = options.photo

backbone = backbones.load("efficientnet-lite0")
x = backbone.preprocess(images.open_image(photo))[None]
lang = LanguageAttribution.from_backbone(backbone)

(why,) = lang.explain(x)
print(why)
print(f"  fits better than {why.percentile:.0f} % of other sentences; most of it comes from {why.location}")
options.output.mkdir(parents=True, exist_ok=True)
(options.output / "why.json").write_text(json.dumps(why.to_dict(), indent=1) + "\n")
figure = plots.plot_saliency(
    backbone.view(images.open_image(photo)), lang.saliency(x, why.text)[0], [why.text]
)
plots.save(figure, options.output / "why.png")
(against,) = lang.explain(x, rather_than="fox squirrel")
print(against)
print("concepts:", *lang.concepts(x, count=5)[0].texts, sep="\n  ")

extended = extend_classifier(backbone.model, ["kitten", "space station"], class_names=backbone.class_names)
with torch.no_grad():
    best = extended(x)[0].topk(3).indices.tolist()
print("with two new classes:", ", ".join(extended.class_names[i] for i in best))

bottleneck = concept_bottleneck(backbone.model, class_names=backbone.class_names)
with torch.no_grad():
    target = int(backbone.model(x).argmax())
    concept = bottleneck.concepts[int(bottleneck.contributions(x, target)[0].argmax())]
    moved = bottleneck.without(concept)(x)[0, target] - bottleneck(x)[0, target]
print(f"without {concept!r} the logit of {backbone.class_names[target]!r} moves by {float(moved):.2f}")
