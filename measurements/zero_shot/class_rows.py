"""Measure the rows of table 6 and the prompts of table 7 in weight space.

Run as ``python -m measurements.zero_shot.class_rows OUTPUT [--backbone NAME ...] [--slow]``: held-out naming
over random 900/100 splits of the class weights with trivial rows, the closed form and, with --slow, networks.
Backbones that were measured before are kept in the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from measurements.class_space import PROMPT, Fit, repeat
from measurements.zero_shot.icis import Icis
from torchnle import backbones
from torchnle.evaluation import record
from torchnle.heads.classifier_head import example_for, find_head
from torchnle.heads.weights import class_vectors
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.regression.class_embedding_mlp import ClassEmbeddingMLP
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge

#: Table 7.
PROMPTS = (
    "an image of a {}",
    "an image of the {}",
    "an image of one {}",
    "an image of a large {}",
    "an image of a nice {}",
    "an image of a weird {}",
    "a cropped image of a {}",
    "a black and white image of the {}",
)


class Constant(nn.Module):
    """A map that gives one vector for every text, or one drawn for each."""

    def __init__(self, give: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.give = give

    def forward(self, texts: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        """Give a vector a text."""
        return self.give(len(texts))


def mean_row(texts: Float[Tensor, "C k"], targets: Float[Tensor, "C D"]) -> Constant:
    """Predict the mean of the fitted class vectors for every text."""
    return Constant(lambda count: targets.mean(dim=0).expand(count, -1))


def random_row(texts: Float[Tensor, "C k"], targets: Float[Tensor, "C D"]) -> Constant:
    """Predict numbers drawn between the least and the largest of the fitted class vectors."""
    low, high = targets.min(), targets.max()
    draw = torch.Generator().manual_seed(0)
    return Constant(
        lambda count: low + (high - low) * torch.rand(count, targets.shape[1], generator=draw).to(targets)
    )


def untrained(texts: Float[Tensor, "C k"], targets: Float[Tensor, "C D"]) -> ClassEmbeddingMLP:
    """Give the paper's network with random parameters."""
    return ClassEmbeddingMLP.fit(texts, targets, epochs=0)


def squared_error(predicted: Float[Tensor, "C D"], targets: Float[Tensor, "C D"]) -> Float[Tensor, ""]:
    """Compute the squared error of every number, summed over the numbers and averaged over the classes."""
    return (predicted - targets).square().sum(dim=1).mean()


FAST: dict[str, Fit] = {
    "mean of the seen": mean_row,
    "random values": random_row,
    "random parameters": untrained,
    "kernel ridge": KernelRidge.fit,
}
_PLAIN = partial(ClassEmbeddingMLP.fit, soft_dropout=False)
SLOW: dict[str, Fit] = {
    "mean squared error": partial(_PLAIN, input_dropout=False, loss=squared_error),
    "cosine loss": partial(_PLAIN, input_dropout=False),
    "+ input dropout": _PLAIN,
    "+ soft dropout": ClassEmbeddingMLP.fit,
    "ICIS": Icis.fit,
}


def measure(name: str, *, slow: bool = False, splits: int = 5) -> dict[str, Any]:
    """Measure one backbone.

    Args:
        name: As `backbones.load` takes it.
        slow: Whether networks are trained.
        splits: How many random splits.
    """
    backbone, encoder = backbones.load(name), TextEncoder.from_pretrained()
    weight = find_head(backbone.model, example_for(backbone.model)).weight
    vectors = {p: embed_cached(encoder, [p.replace("{}", n) for n in backbone.class_names]) for p in PROMPTS}
    average = torch.nn.functional.normalize(torch.stack(list(vectors.values())).mean(dim=0), dim=1)
    rows = {**FAST, **(SLOW if slow else {})}
    seeds = range(splits)
    found = {
        title: repeat(weight, vectors[PROMPT], fit, seeds, generalised=title == "kernel ridge")
        for title, fit in rows.items()
    }
    prompts = {
        **{prompt: _transfer(weight, vectors[PROMPT], other) for prompt, other in vectors.items()},
        "average of all": _transfer(weight, vectors[PROMPT], average),
    }
    return {"rows": found, "prompts_at_inference": prompts}


def _transfer(weight: Tensor, fitted: Tensor, queried: Tensor, seed: int = 0, held_out: int = 100) -> float:
    """Return the top-1 of unseen classes among each other, with another prompt than at the fit."""
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))
    unseen, seen = order[:held_out], order[held_out:]
    regression = KernelRidge.fit(fitted[seen], class_vectors(weight[seen]))
    queries = class_vectors(weight[unseen], origin=weight[seen].mean(dim=0))
    cosines = queries @ torch.nn.functional.normalize(regression(queried[unseen]), dim=1).T
    return float((cosines.argmax(dim=1) == torch.arange(held_out)).float().mean())


def main() -> None:
    """Measure and write zero_shot_class_rows.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--backbone", action="append", default=[])
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.output / "zero_shot_class_rows.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found: dict[str, Any] = {**before, "setting": record.setting()}
    for name in options.backbone or ["efficientnet-lite0"]:
        found[name] = measure(name, slow=options.slow, splits=options.splits)
        print(name, json.dumps(record.plain(found[name]), indent=1), flush=True)
        options.output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record.plain(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
