"""Insertion and deletion of maps for predicted classes, layer by layer, against Grad-CAM (DeViL, table 5).

``torchnle evaluate class-maps`` measures any translator on pictures whose predicted class is right.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data import load_cutouts, plain_backgrounds, texture_backgrounds
from torchnle.data.captions import digest
from torchnle.evaluation import record
from torchnle.evaluation.faithfulness import QUERY, MapMaker, compare, grad_cam, query_maps, random_maps
from torchnle.evaluation.pictures import photographs, rightly_classified, single_scenes
from torchnle.hub.digest import digest_module
from torchnle.journal import Journal


def measure(
    backbone: Backbone,
    lang: LanguageAttribution,
    batches: Sequence[tuple[Tensor, Tensor, Sequence[str]]],
    *,
    steps: int = 28,
    bfloat16: bool = False,
    contrast: bool = False,
    seed: int = 0,
    journal: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Compare Grad-CAM, a text's saliency and random maps by insertion and deletion at every attached layer.

    Args:
        backbone: The classifier, with class names.
        lang: The translator attached to it, by `attach`.
        batches: Images, their predicted classes and their phrases.
        steps: The number of parts in which pixels change.
        bfloat16: As `compare`.
        contrast: Also measure the text's saliency contrasted with all other classes, which is slow with a
            language model.
        seed: The seed of the random maps.
        journal: A file that keeps the curves of every batch, from which a killed run resumes.
        progress: Whether to show a progress bar.

    Returns:
        The result of `compare` by layer; and the number of pictures of each phrase.

    Raises:
        ValueError: If there is no picture, or the file is another measurement's.
    """
    if not batches:
        raise ValueError("no picture's predicted class is named as the picture is; pass others, or more.")
    shown = Counter(phrase for _, _, phrases in batches for phrase in phrases)
    setting = {"query": QUERY, "steps": steps, "bfloat16": bfloat16}
    parts = Journal(journal, {**setting, **_models(backbone, lang), "seed": seed} if journal else {})
    grids = [f.grid for f in lang.read(batches[0][0][:1])]
    layers = {}
    for index, (tap, grid) in enumerate(zip(lang.taps, grids, strict=True)):
        methods = _methods(backbone, lang, index, contrast=contrast)
        methods["random"] = random_maps(grid or (1, 1), seed=seed)
        pairs = [(images, targets) for images, targets, _ in batches]
        watched = tqdm(pairs, desc=tap.name, disable=not progress)
        options: dict[str, Any] = {"steps": steps, "bfloat16": bfloat16, "journal": parts, "part": tap.name}
        layers[tap.name] = compare(backbone.model, watched, methods, **options)
    return {
        **setting,
        "substrates": {"deletion": "zero, the mean gray", "insertion": "Gaussian blur, 11 pixels, sigma 5"},
        "layers": layers,
        "shown": dict(shown.most_common()),
    }


def pictures(
    backbone: Backbone, cutouts: Path | None, count: int, *, seed: int = 0
) -> list[tuple[Tensor, Tensor, list[str]]]:
    """Collect photographs and one-object scenes that a classifier classifies correctly, in batches.

    Args:
        backbone: The classifier, with class names.
        cutouts: A folder of captioned cut-outs, as `load_cutouts` reads it; None = the photographs alone.
        count: The number of pictures.
        seed: The seed of the scenes.

    Returns:
        Batches (images, predicted classes, phrases).
    """
    if cutouts is None:
        return list(rightly_classified(backbone, photographs(), count))
    grounds = (*plain_backgrounds(), *texture_backgrounds())
    scenes = single_scenes(load_cutouts(cutouts), grounds, backbone.class_names, seed=seed)
    return list(rightly_classified(backbone, chain(photographs(), scenes), count))


def page(data: Mapping[str, Any]) -> str:
    """Format the areas under the curves as Markdown, one table per layer."""
    parts = [_PREFACE.format(**data)]
    for layer, found in data["layers"].items():
        rows = [
            [name, *(_with_error(kinds[kind], key) for key in _KEYS for kind in ("deletion", "insertion"))]
            for name, kinds in found["methods"].items()
        ]
        parts.append(f"## `{layer}`, {found['images']} pictures\n\n{record.table(_HEADER, rows)}\n")
    return "\n".join(parts)


def _models(backbone: Backbone, lang: LanguageAttribution) -> dict[str, Any]:
    """Identify the inputs of the curves: digests of tensors, and the translator's saved settings."""
    translator = lang.translator
    digests = {"model": digest_module(backbone.model), "translator": digest_module(translator)}
    return {**digests, "config": digest([json.dumps(translator.config, sort_keys=True)])}


def _methods(
    backbone: Backbone, lang: LanguageAttribution, layer: int, *, contrast: bool
) -> dict[str, MapMaker]:
    tap, names = lang.taps[layer], backbone.class_names
    methods = {
        "Grad-CAM": grad_cam(backbone.model, tap),
        "query": query_maps(lang, names, layer),
    }
    if lang.translator.score_kind == "cosine":
        methods["query times the feature's length"] = query_maps(lang, names, layer, magnitude=True)
    if contrast:
        others = [QUERY.replace("{}", name) for name in names]
        methods["query against other classes"] = query_maps(lang, names, layer, contrast=others)
    return methods


def _with_error(kind: Mapping[str, float], key: str) -> str:
    error = kind[_KEYS[key]]
    return f"{kind[key]:.4f} ± {error:.4f}"


_KEYS = {"area": "standard_error", "difference": "difference_standard_error"}
_HEADER = [
    "maps",
    "deletion, less is better",
    "insertion, more is better",
    "deletion - Grad-CAM's",
    "insertion - Grad-CAM's",
]
_PREFACE = """# Maps of the predicted class against Grad-CAM

Areas under RISE's curves in {steps} steps, mean and standard error over pictures; the query is "{query}".
In the paper (ResNet-50, three layers, a trained translator) Grad-CAM, which has the gradients, stayed ahead.
"""
