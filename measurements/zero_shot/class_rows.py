"""Measure the rows of table 6 and the prompts of table 7 in weight space.

Run as ``python -m measurements.zero_shot.class_rows OUTPUT [--backbone NAME ...] [--slow SPLITS]``: held-out
naming over random splits of the class weights, 900/100 or 9/3, with trivial rows, the closed form and, with
--slow, networks. The backbone "own" is a user's classifier, the network of twelve classes of
`measurements.own_classes`. Backbones that were measured before are kept in the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from measurements import own_classes
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
#: Soft dropout is chosen per model (appendix N) on splits that are not reported.
_CHOOSING = range(100, 103)


def measure(
    weight: Float[Tensor, "C D"], names: Sequence[str], *, slow: int = 0, splits: int = 5
) -> dict[str, Any]:
    """Measure one classifier.

    Args:
        weight: Its class weights.
        names: Its class names.
        slow: How many random splits networks are trained on.
        splits: How many random splits for the other rows.
    """
    encoder, held_out = TextEncoder.from_pretrained(), min(100, len(names) // 4)
    vectors = {p: embed_cached(encoder, [p.replace("{}", n) for n in names]) for p in PROMPTS}
    average = torch.nn.functional.normalize(torch.stack(list(vectors.values())).mean(dim=0), dim=1)
    run = partial(repeat, weight, vectors[PROMPT], held_out=held_out)
    found = {
        title: run(fit, range(splits), generalised=title == "kernel ridge") for title, fit in FAST.items()
    }
    if slow:
        found |= {title: run(fit, range(slow), generalised=False) for title, fit in SLOW.items()}
        gates = ("+ input dropout", "+ soft dropout")
        tried = {title: run(SLOW[title], _CHOOSING, generalised=False)["mean"]["top1"] for title in gates}
        best = max(gates, key=lambda title: tried[title])
        found["soft dropout, chosen per model"] = {"chosen": best, "tried": tried, **found[best]}
    ask = partial(_transfer, weight, vectors[PROMPT], held_out=held_out)
    prompts = {**{prompt: ask(other) for prompt, other in vectors.items()}, "average of all": ask(average)}
    return {"classes": len(names), "held_out": held_out, "rows": found, "prompts_at_inference": prompts}


def classifier(name: str) -> tuple[Float[Tensor, "C D"], Sequence[str]]:
    """Load the class weights and names of a backbone, or train the user's classifier "own"."""
    if name == "own":
        network = own_classes.trained()
        return find_head(network, torch.rand(2, 3, 32, 32)).weight, own_classes.NAMES
    backbone = backbones.load(name)
    return find_head(backbone.model, example_for(backbone.model)).weight, backbone.class_names


def _transfer(weight: Tensor, fitted: Tensor, queried: Tensor, *, seed: int = 0, held_out: int) -> float:
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
    parser.add_argument("--slow", type=int, default=0, metavar="SPLITS", help="of networks, 2 or more")
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.output / "zero_shot_class_rows.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found: dict[str, Any] = {**before, "setting": record.setting()}
    for name in options.backbone or ["efficientnet-lite0"]:
        found[name] = measure(*classifier(name), slow=options.slow, splits=options.splits)
        print(name, json.dumps(record.plain(found[name]), indent=1), flush=True)
        options.output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record.plain(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
