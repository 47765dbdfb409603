"""Code as users write it, checked by `mypy --strict` in `make check` and never run.

Every line with a "type: ignore" holds a misspelt argument or attribute; mypy complains of the ignore where it
does not complain of the line.
"""

from pathlib import Path

import torch

from torchnle import (
    LanguageAttribution,
    LayerLanguageAttribution,
    NeuronLanguageAttribution,
    Reading,
    TextScore,
    suggest_layers,
)

model, images = torch.nn.Sequential(), torch.rand(1, 3, 8, 8)

lang = LanguageAttribution.from_classifier(model, ["cat", "dog"], images=[images])
LanguageAttribution.from_classifier(model, ["cat", "dog"], pormpt="a")  # type: ignore[call-arg]
LanguageAttribution.from_classifier(model, ["cat", "dog"], text_encoder="x")  # type: ignore[call-arg]
LanguageAttribution(model, "layer", lang.translator, readnig=Reading())  # type: ignore[call-arg]
LanguageAttribution.from_captions(model, "layer", [], decdoer="x")  # type: ignore[call-arg]
LanguageAttribution.from_pretrained(model, "x", layer="y")  # type: ignore[call-arg]
lang.adapt([images]).save_pretrained(Path("x"), dtype=torch.float16)
lang.adapt(image=[images])  # type: ignore[call-arg]
lang.save_pretrained("x", dtpye=torch.float16)  # type: ignore[call-arg]

lang.descrbe(images)  # type: ignore[attr-defined]
for word in lang.describe(images, where=(0, 1)):
    print(word.text, word.probability, word.unsure, word.location, word.phrases[0][1])
    word.probabilty  # type: ignore[attr-defined]
for grid in lang.describe(images, where="all"):
    print(grid[0, 1].text, grid.grid)
    grid[0, 1].txet  # type: ignore[attr-defined]
lang.describe(images, were="all")  # type: ignore[call-overload]
lang.describe(images)[0].grid  # type: ignore[attr-defined]

print(lang.top_texts(images, ["a cat"], k=1).found[0].grid)
lang.top_texts(images, ["a cat"], n=1)  # type: ignore[call-overload]
print(lang.top_locations(images, "a cat").found[0].score)
lang.top_locations(images, "a cat").found[0].socre  # type: ignore[attr-defined]
lang.top_locations(images, txet="a cat")  # type: ignore[call-arg]

heat = lang.attribute(images, target="a cat", interpolate_mode="bilinear")
lang.attribute(images, tagret="a cat")  # type: ignore[call-overload]
maps = lang.saliency(images, ["a cat"], contrast=["a dog"], interpolate_mode=None)
lang.saliency(images, ["a cat"], constrast=["a dog"])  # type: ignore[call-overload]

both = LanguageAttribution(model, ["layer", "head"], lang.translator)
for answers in both.describe(images):
    print([word.text for word in answers])
    answers.text  # type: ignore[attr-defined]
both.describe(images)[0].text  # type: ignore[attr-defined]
print(both.describe(images, where="all")[1][0].grid, both.describe(images, where=(0, 1))[1][0].location)
both.describe(images, where="all")[0].grid  # type: ignore[attr-defined]
print(both.describe(images, joint=True)[0].text, both.describe(images, joint=True, where="all")[0].grid)
both.describe(images, joint=True)[0][0]  # type: ignore[index]
print(both.describe_features(both.read(images))[0][0].text, lang.describe_features(lang.read(images))[0].text)
print(both.top_texts(images, ["a cat"]).found[1][0].grid)
both.top_texts(images, ["a cat"]).found[0].grid  # type: ignore[attr-defined]
print([heat.shape for heat in both.saliency(images, ["a cat"])])
print(both.saliency(images, ["a cat"], joint=True).shape, lang.saliency(images, ["a cat"]).shape)
both.saliency(images, ["a cat"]).shape  # type: ignore[attr-defined]
both.attribute(images, target="a cat").append(images)
read = LanguageAttribution.from_classifier(model, ["cat", "dog"], ["layer", model])
print(read.describe(images)[0][0].text)
LanguageAttribution.from_captions(model, "layer", []).describe(images)[0].text
LanguageAttribution.from_captions(model, ("layer", "head"), []).describe(images)[0].text  # type: ignore[attr-defined]

layer = LayerLanguageAttribution(model, "layer", lang.translator)
layers = LayerLanguageAttribution(model, ["layer", "head"], lang.translator)
print(layer.attribute(images, "a cat").shape, layers.attribute(images, "a cat")[0].shape)
print(layers.describe(images)[0][0].text, layers.saliency(images, "a cat")[0].shape)
layers.describe(images)[0].text  # type: ignore[attr-defined]
print(layer.describe(images)[0].text)
layer.attribute(images, tagret="a cat")  # type: ignore[call-overload]
unit = NeuronLanguageAttribution(model, "layer", lang.translator)
print(unit.describe(images, 3).text)
unit.describe(images, neuron=3)  # type: ignore[call-arg]
score = TextScore(model, "layer", lang.translator, ["a cat"])
print(score(images).shape, score.texts)
TextScore(model, "layer", lang.translator, ["a cat"], were=None)  # type: ignore[call-arg]

print([found.name for found in suggest_layers(model, images, count=2)])
suggest_layers(model, images, cuont=2)  # type: ignore[call-arg]
Reading(layuot="NHWC")  # type: ignore[call-arg]
