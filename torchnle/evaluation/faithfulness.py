"""Maps of a class's name against Grad-CAM by insertion and deletion (DeViL, section 4.4 and table 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import mean, stdev
from typing import Any, TypeAlias
from zlib import crc32

import torch
from captum.attr import LayerGradCam
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.attr import LanguageAttribution
from torchnle.attr.inputs.input_maps import enlarge
from torchnle.attr.score_maps import Refinement, score_variants
from torchnle.evaluation.subject import all_locations
from torchnle.journal import Journal
from torchnle.metrics import Curves, deletion, insertion
from torchnle.translators.rows import rows_of
from torchnle.vision.running import evaluating
from torchnle.vision.taps import Tap

#: Images (N, C, H, W) and their classes (N,) -> maps (N, H, W).
MapMaker: TypeAlias = Callable[[Tensor, Tensor], Tensor]

#: The query for a class.
QUERY = "a photo of a {}"


def compare(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    methods: Mapping[str, MapMaker],
    *,
    steps: int = 28,
    batch_size: int = 32,
    bfloat16: bool = False,
    journal: Journal | None = None,
    part: str = "",
) -> dict[str, Any]:
    """Compare methods' maps of the same images by insertion and deletion.

    Args:
        model: Images -> logits.
        batches: (images, classes), with the class of each image that is explained.
        methods: The functions that compute maps, by name; the first is the baseline of the differences.
        steps: The number of parts in which pixels change.
        batch_size: The largest number of perturbed images in the model at once.
        bfloat16: Run perturbed images in bfloat16, which is much faster on some processors; maps are computed
            in the model's own dtype.
        journal: Stores the curves of every batch, so that a killed run resumes.
        part: The name of these curves in the journal.

    Returns:
        For each method "deletion" and "insertion", each with the mean "area", the standard error of that
        mean, the mean "curve", and, except for the first method, the mean "difference" of areas to it and its
        standard error; and "images", their number.

    Raises:
        ValueError: If there is no image.
    """
    found: dict[str, dict[str, list[Curves]]] = {name: {"deletion": [], "insertion": []} for name in methods}
    ask = _in_bfloat16(model) if bfloat16 else model
    journal = Journal() if journal is None else journal
    for images, targets in batches:
        batch = crc32(images.cpu().numpy().tobytes())
        for name, make in methods.items():
            work = partial(_curves, ask, images, targets, make, steps, batch_size)
            for kind, (values, shares) in journal.get(f"{part}, {name}, {batch}", work).items():
                found[name][kind].append(Curves(torch.tensor(values), torch.tensor(shares)))
    if not any(kinds["deletion"] for kinds in found.values()):
        raise ValueError("there is no image to measure on.")
    joined = {name: {kind: _join(parts) for kind, parts in kinds.items()} for name, kinds in found.items()}
    first = joined[next(iter(methods))]
    return {
        "images": len(first["deletion"].values),
        "shares": first["deletion"].shares.tolist(),
        "methods": {
            name: {kind: _summary(curves, first[kind]) for kind, curves in kinds.items()}
            for name, kinds in joined.items()
        },
    }


def _curves(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    make: MapMaker,
    steps: int,
    batch_size: int,
) -> dict[str, tuple[list[list[float]], list[float]]]:
    """Compute both curves of a batch, as JSON keeps them: values and shares."""
    maps = make(images, targets).detach()
    curves = {
        kind: curve(model, images, maps, targets, steps=steps, batch_size=batch_size)
        for kind, curve in (("deletion", deletion), ("insertion", insertion))
    }
    return {kind: (found.values.tolist(), found.shares.tolist()) for kind, found in curves.items()}


def _in_bfloat16(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def ask(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16), evaluating(model):
            logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
        return logits.float()

    return ask


def grad_cam(model: nn.Module, tap: Tap) -> MapMaker:
    """Build a map maker: Captum's LayerGradCam of the class's logit, with its negative values.

    Args:
        model: The classifier.
        tap: The layer.
    """
    explained = LayerGradCam(model, tap.module)

    def make(images: Tensor, targets: Tensor) -> Tensor:
        maps = explained.attribute(images, target=targets, attribute_to_layer_input=tap.at == "input")
        return _enlarged(maps, images)

    return make


def query_maps(
    lang: LanguageAttribution,
    class_names: Sequence[str],
    layer: int,
    *,
    query: str = QUERY,
    contrast: Sequence[str] | None = None,
    magnitude: bool = False,
) -> MapMaker:
    """Build a map maker: the saliency of a text that contains the class's name, at one attached layer.

    Args:
        lang: The attached translator.
        class_names: One name per class.
        layer: The layer's index in the list.
        query: The text, with "{}" for the name.
        contrast: As `LanguageAttribution.saliency`.
        magnitude: Multiply cosines by the norm of the location's feature, so that their mean is a product
            with the pooled feature, as a class's logit is.
    """

    @torch.no_grad()
    def make(images: Tensor, targets: Tensor) -> Tensor:
        features = all_locations(lang, lang.read(images)[layer : layer + 1])[0]
        maps = []
        for index, target in enumerate(targets.tolist()):
            one = features.images([index])
            text = query.replace("{}", class_names[target])
            scores = score_variants(lang.translator, rows_of(one), [text], Refinement(contrast=contrast))
            if magnitude:
                scores = scores * one.rows.norm(dim=1, keepdim=True)
            maps.append(one.fold(scores)[..., 0])
        return _enlarged(torch.cat(maps)[:, None], images)

    return make


def random_maps(grid: tuple[int, int], *, seed: int = 0) -> MapMaker:
    """Build a map maker: random maps on a layer's grid, the same for the same picture (control).

    Args:
        grid: (rows, columns) of the maps.
        seed: The seed of the maps.
    """

    def draw(image: Tensor) -> Tensor:
        own = crc32(image.cpu().numpy().tobytes(), seed)
        return torch.rand(1, *grid, generator=torch.Generator().manual_seed(own))

    def make(images: Tensor, targets: Tensor) -> Tensor:
        return _enlarged(torch.stack([draw(image) for image in images]).to(images), images)

    return make


def _enlarged(maps: Float[Tensor, "N 1 h w"], images: Tensor) -> Float[Tensor, "N H W"]:
    enlarged = enlarge(maps, (images.shape[2], images.shape[3]), "bilinear")
    return enlarged[:, 0]


def _join(parts: Sequence[Curves]) -> Curves:
    return Curves(torch.cat([part.values for part in parts]), parts[0].shares)


def _summary(curves: Curves, first: Curves) -> dict[str, Any]:
    areas, differences = curves.areas.tolist(), (curves.areas - first.areas).tolist()
    return {
        "area": mean(areas),
        "standard_error": _error(areas),
        "difference": mean(differences),
        "difference_standard_error": _error(differences),
        "curve": curves.mean.tolist(),
    }


def _error(values: Sequence[float]) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
