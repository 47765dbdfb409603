"""One sentence, explained by torchnle's map and by any Captum method, in one picture."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage.data
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion
from captum.attr import visualization as viz
from captum.metrics import infidelity, sensitivity_max
from matplotlib.figure import Figure

from torchnle import LanguageAttribution, backbones, images
from torchnle.views.plots import save

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the picture")
output = parser.parse_args().output

torch.manual_seed(0)
backbone = backbones.load("efficientnet-lite0")
photo = images.open_image(Path(skimage.data.__file__).parent / "chelsea.png")
x = backbone.preprocess(photo)[None]

lang = LanguageAttribution.from_classifier(backbone.model, backbone.class_names)
text = lang.describe(x)[0].phrases[0][0]
print(f"the classifier sees: {text}")

score = lang.text_score(text)
maps = {
    "torchnle": lang.attribute(x, target=text),
    "NoiseTunnel(torchnle)": NoiseTunnel(lang).attribute(x, target=text, stdevs=0.2, nt_samples=4),
    "IntegratedGradients": IntegratedGradients(score).attribute(x, target=0, n_steps=8),
    "Occlusion": Occlusion(score).attribute(
        x, target=0, sliding_window_shapes=(3, 56, 56), strides=(3, 56, 56)
    ),
}


def noise(inputs):
    step = 0.05 * torch.randn_like(inputs)
    return step, inputs - step


for name, heat in maps.items():
    value = infidelity(score, noise, x, heat, target=0, n_perturb_samples=2).item()
    print(f"{name}: infidelity {value:.2e}")
sensitivity = sensitivity_max(lang.attribute, x, target=text, n_perturb_samples=2).item()
print(f"sensitivity of torchnle's map: {sensitivity:.3f}")

figure = Figure(figsize=(15, 4), layout="constrained")
seen = backbone.view(photo).resize(x.shape[-2:])
for axes, (name, heat) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
    viz.visualize_image_attr(
        heat[0].permute(1, 2, 0).numpy(),
        np.asarray(seen),
        method="blended_heat_map",
        sign="all",
        title=name,
        plt_fig_axis=(figure, axes),
        use_pyplot=False,
    )
print(f"picture: {save(figure, output / 'side_by_side.png')}")
