"""Held-out naming in weight space: the accuracy of a map from text on classes that it was not fitted to.

No images are needed: the true weight vector of a class is the query, the mapped names are the candidates.
``python -m measurements class-space`` measures the embedded default.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import mean, median, stdev
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from torchnle.heads.weights import class_vectors
from torchnle.methods.aligned.regression.class_embedding_mlp import EPOCHS, ClassEmbeddingMLP
from torchnle.methods.aligned.regression.kernel_ridge import PENALTIES, KernelRidge
from torchnle.version import __version__

#: Fits a map from unit text vectors (C, k) to class vectors (C, D).
Fit: TypeAlias = Callable[[Tensor, Tensor], nn.Module]
#: The constants to subtract from the cosines of seen classes.
OFFSETS = tuple(step / 100 for step in range(61))
#: The paper's template for a class name.
PROMPT = "an image of a {}"
_PROMPTS = ("{}", "a {}", "a photo of a {}", PROMPT)
_SCALES = (1.5, 3.0, 5.0, 8.0)
_TINY = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)  # on this scale all but one eigenvalue of the kernel are tiny, too


def held_out_naming(
    weight: Float[Tensor, "C D"],
    texts: Float[Tensor, "C k"],
    fit: Fit,
    *,
    seed: int,
    held_out: int = 100,
    generalised: bool = True,
) -> dict[str, float]:
    """Fit on all classes but some, and rank names for the true weights of these.

    Args:
        weight: The class weights.
        texts: The unit text vector of each class's name.
        fit: The fitting method.
        seed: The seed of the split.
        held_out: The number of unseen classes.
        generalised: Whether names of seen classes compete too. They are nearer to every query, so a constant
            is subtracted from their cosines; it is chosen by another fit without `held_out` further classes,
            on these. The unseen classes are not used in the choice.

    Returns:
        "top1" and "top5", among the unseen names, and "fit_seconds", after text encoding. If generalised,
        among all names: "uncorrected", the top-1 of unseen classes before the "offset" is subtracted; "seen"
        and "unseen", the top-1 after; and the "harmonic_mean" of these.

    Raises:
        ValueError: If not at least one and at most a third of the classes are held out.

    Example:
        >>> weight = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
        >>> result = held_out_naming(weight, class_vectors(weight), KernelRidge.fit, seed=0, held_out=5)
        >>> result["top5"]
        1.0
    """
    if not 0 < held_out <= len(weight) // 3:
        raise ValueError(f"held_out={held_out} of {len(weight)} classes; pass 1 to {len(weight) // 3}.")
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))
    unseen, seen = order[:held_out], order[held_out:]
    start = time.perf_counter()
    regression = fit(texts[seen], class_vectors(weight[seen]))
    seconds = time.perf_counter() - start
    cosines = _cosines(regression, weight, texts, seen, unseen)
    among_unseen = cosines[len(seen) :, len(seen) :]
    rank = (among_unseen > among_unseen.diagonal().unsqueeze(1)).sum(dim=1)
    found = {"top1": _share(rank < 1), "top5": _share(rank < 5), "fit_seconds": seconds}
    if not generalised:
        return found
    validation, rest = seen[:held_out], seen[held_out:]
    regression = fit(texts[rest], class_vectors(weight[rest]))
    offset = _best_offset(_cosines(regression, weight, texts, rest, validation), len(rest))
    return found | _generalised(cosines, len(seen), offset)


def repeat(
    weight: Float[Tensor, "C D"], texts: Float[Tensor, "C k"], fit: Fit, seeds: Iterable[int], **options: Any
) -> dict[str, Any]:
    """Run `held_out_naming` on several splits; return mean, standard deviation and values of every number.

    Args:
        weight: The class weights.
        texts: The unit text vector of each class's name.
        fit: The fitting method.
        seeds: One a split, at least two.
        options: Options of `held_out_naming`.
    """
    seeds = list(seeds)
    splits = [held_out_naming(weight, texts, fit, seed=seed, **options) for seed in seeds]
    columns = {name: [split[name] for split in splits] for name in splits[0]}
    return {
        "mean": {name: round(mean(values), 4) for name, values in columns.items()},
        "standard_deviation": {name: round(stdev(values), 4) for name, values in columns.items()},
        "median_fit_seconds": round(median(columns["fit_seconds"]), 3),
        "seeds": seeds,
        "splits": [{name: round(value, 4) for name, value in split.items()} for split in splits],
    }


def ablate(
    weight: Float[Tensor, "C D"], encode: Callable[[list[str]], Tensor], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Vary the choices behind the default, one at a time, on splits of their own.

    Args:
        weight: The class weights.
        encode: Texts -> unit vectors.
        names: The class names.
    """
    seeds = range(100, 110)
    texts = {prompt: encode([prompt.replace("{}", name) for name in names]) for prompt in _PROMPTS}
    rows: list[tuple[str, Tensor, Fit]] = [
        *((f"prompt {prompt!r}", texts[prompt], KernelRidge.fit) for prompt in _PROMPTS),
        *((f"scale {s}", texts[PROMPT], partial(KernelRidge.fit, scale=s)) for s in _SCALES),
        *((f"penalty {p}", texts[PROMPT], partial(KernelRidge.fit, penalties=[p])) for p in PENALTIES),
        ("nearly linear", texts[PROMPT], partial(KernelRidge.fit, scale=1e-3, penalties=_TINY)),
    ]
    table = []
    for name, vectors, fit in rows:
        numbers = repeat(weight, vectors, fit, seeds, generalised=False)["mean"]
        table.append({"choice": name, "top1": numbers["top1"], "top5": numbers["top5"]})
    return table


def measure(
    *, mlp: bool = True, ablation: bool = True, splits: int = 10, epochs: int = EPOCHS
) -> dict[str, Any]:
    """Measure the whole table for the embedded default: EfficientNet-Lite0, its class names and MiniLM.

    Args:
        mlp: Whether the paper's network is trained too: seconds a split on a CPU.
        ablation: Whether the choices behind the default are varied.
        splits: The number of random splits.
        epochs: The number of epochs of the network.
    """
    from torchnle import backbones
    from torchnle.heads.classifier_head import find_head
    from torchnle.language.text_encoder import TextEncoder

    backbone, encoder = backbones.load(), TextEncoder.from_pretrained()
    weight = find_head(backbone.model, torch.zeros(1, 3, 224, 224)).weight
    texts = encoder.encode([PROMPT.replace("{}", name) for name in backbone.class_names])
    found: dict[str, Any] = {
        "what": "Held-out naming in weight space: random 900/100 splits of the class weights",
        "backbone": backbone.name,
        "text_encoder": encoder.reference,
        "machine": _machine(),
        "ridge": repeat(weight, texts, KernelRidge.fit, range(splits)),
    }
    if ablation:
        found["ablation_of_ridge"] = ablate(weight, encoder.encode, backbone.class_names)
    if mlp:
        fit = partial(ClassEmbeddingMLP.fit, epochs=epochs)
        found["mlp"] = repeat(weight, texts, fit, range(splits), generalised=False) | {"epochs": epochs}
    return found


@torch.no_grad()
def _cosines(
    regression: nn.Module,
    weight: Float[Tensor, "C D"],
    texts: Float[Tensor, "C k"],
    seen: Int[Tensor, "S"],
    unseen: Int[Tensor, "U"],
) -> Float[Tensor, "S+U S+U"]:
    """Compute cosines of true class vectors and mapped names, seen classes first and as the only origin."""
    classes = torch.cat([seen, unseen])
    queries = class_vectors(weight[classes], origin=weight[seen].mean(dim=0))
    return queries @ F.normalize(regression(texts[classes]), dim=1).T


def _best_offset(cosines: Float[Tensor, "C C"], seen: int) -> float:
    return max(OFFSETS, key=lambda offset: _generalised(cosines, seen, offset)["harmonic_mean"])


def _generalised(cosines: Float[Tensor, "C C"], seen: int, offset: float) -> dict[str, float]:
    seen_share, unseen_share = _hits(cosines, seen, offset)
    total = seen_share + unseen_share
    return {
        "uncorrected": _hits(cosines, seen, 0.0)[1],
        "offset": offset,
        "seen": seen_share,
        "unseen": unseen_share,
        "harmonic_mean": 2 * seen_share * unseen_share / total if total else 0.0,
    }


def _hits(cosines: Float[Tensor, "C C"], seen: int, offset: float) -> tuple[float, float]:
    """Return the shares of seen and of unseen classes whose own name is first."""
    shifted = cosines.clone()
    shifted[:, :seen] -= offset
    hits = shifted.argmax(dim=1) == torch.arange(len(cosines), device=cosines.device)
    return _share(hits[:seen]), _share(hits[seen:])


def _share(hits: Tensor) -> float:
    return hits.float().mean().item()


def _machine() -> dict[str, Any]:
    import transformers

    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "torchnle": __version__,
    }
