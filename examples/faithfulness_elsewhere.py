"""Give torchnle's maps to Quantus and to pytorch-grad-cam's ROAD, through a function of three lines.

    python examples/faithfulness_elsewhere.py PHOTO [PHOTO ...]

Needs ``pip install quantus grad-cam``. Pixels are removed in the order of a map; the classifier's probability
should fall quickly where the map says what it looks at. The map of the predicted class's own name is set
beside a random one.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import quantus
import torch
from pytorch_grad_cam.metrics.road import ROADMostRelevantFirst
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor

from torchnle import LanguageAttribution, backbones, images


def maps_of(lang: LanguageAttribution[Any], x: Tensor, texts: list[str]) -> np.ndarray:
    """Map one text on each image, at the input's resolution: (N, H, W), as both packages take them."""
    maps = lang.saliency(x, list(dict.fromkeys(texts)))
    order = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return torch.stack([each[order[text]] for each, text in zip(maps, texts, strict=True)]).cpu().numpy()


def explain_func(lang: LanguageAttribution[Any], names: list[str]) -> Any:
    """Return Quantus's `explain_func`: (model, inputs, targets) -> (N, 1, H, W) maps of class names."""

    def explain(model: torch.nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        x = torch.as_tensor(inputs, dtype=torch.float32)
        maps = maps_of(lang, x, [names[int(target)] for target in np.ravel(targets)])[:, None]
        return maps - maps.min(axis=(2, 3), keepdims=True)  # Quantus takes no map that is negative everywhere

    return explain


def road(model: torch.nn.Module, x: Tensor, maps: np.ndarray, targets: list[int]) -> np.ndarray:
    """Measure ROAD: the change of the class's probability when a map's highest fifth is replaced."""
    goals = [ClassifierOutputSoftmaxTarget(target) for target in targets]
    return ROADMostRelevantFirst(percentile=80)(x, maps, goals, model)


def pixel_flipping(model: torch.nn.Module, x: Tensor, targets: list[int], explain: Any) -> np.ndarray:
    """Measure the class's mean probability while pixels go in a map's order, one an image (Quantus)."""
    pixels = x.shape[-2] * x.shape[-1]
    metric = quantus.PixelFlipping(
        features_in_step=pixels // 14, perturb_baseline="mean", disable_warnings=True
    )
    curves = metric(
        model=model, x_batch=x.numpy(), y_batch=np.array(targets), explain_func=explain, softmax=True
    )
    return np.array(curves).mean(axis=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--model", default="efficientnet-lite0")
    options = parser.parse_args()
    backbone = backbones.load(options.model)
    lang = LanguageAttribution.from_backbone(backbone)
    x = torch.stack([backbone.preprocess(images.open_image(photo)) for photo in options.photos])
    targets = backbone.model(x).argmax(1).tolist()
    names = list(backbone.class_names)
    ours = explain_func(lang, names)
    random = np.random.default_rng(0).random((len(x), 1, *x.shape[2:])).astype(np.float32)
    for name, explain in (("torchnle", ours), ("random", lambda *_, **__: random)):
        maps = explain(backbone.model, x, targets)
        print(f"{name}: ROAD {road(backbone.model, x, maps[:, 0], targets).mean():+.3f}, pixel flipping "
              f"{pixel_flipping(backbone.model, x, targets, explain).mean():.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
