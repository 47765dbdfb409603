"""Measure audit and repair on composed waterbirds, five seeds, and write the tables.

Run as ``python -m measurements.waterbirds.run FEATURES OUTPUT`` after `measurements.waterbirds.features` has
kept the features of the test scenes and of one pool of training scenes or several. A seed is another draw of
training scenes from its pool, and another of the random arms; the conflicting scenes of seeds that share a
pool are different ones. The test scenes, 400 in each of the four cells, are the same for all seeds. Birds and
photographs are the same in training and test. The last layer alone is fitted, on frozen features of
EfficientNet-Lite0. Masks are made on the 7x7 locations in front of the pooling, whose masked ones are left
out of the mean (`pool_outside`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from measurements.waterbirds.features import load
from torchnle import LanguageAttribution, backbones
from torchnle.evaluation import record
from torchnle.language.english.content_words import content_words
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.texplain.audit.run import Audit, audit_features
from torchnle.methods.texplain.repair.groups import cells, shuffled
from torchnle.methods.texplain.repair.linear import Linear
from torchnle.methods.texplain.repair.masks import (
    class_saliency,
    finetune_on_masked,
    pool_outside,
    top_regions,
)
from torchnle.methods.texplain.repair.outcome import outcome
from torchnle.methods.texplain.repair.refit import refit_last_layer
from torchnle.metrics.ranking import auroc
from torchnle.translators.rows import Rows

CLASSES = ("land bird", "aquatic bird")
#: Words that are right: what the photographs of land and of water show (measurements.waterbirds.features).
LAND = {
    "forest",
    "tree",
    "bush",
    "leaf",
    "moss",
    "plant",
    "gravel",
    "rock",
    "mud",
    "soil",
    "wood",
    "grass",
    "cliff",
}
LAND |= {"ground", "field", "path"}
WATER = {"sea", "wave", "water", "lake", "river", "ocean"}
#: Scenes of each class in its own context and in the other one.
BIASED, BALANCED = (570, 30), (200, 200)
#: The share of locations that is masked: a bird covers about as much.
MASKED = 0.25
ARMS = ("plain", "oracle", "words", "random groups", "paper's masks", "random masks", "MaskTune")


def training_rows(data: Mapping[str, Tensor], counts: tuple[int, int], draw: int) -> Tensor:
    """Draw scenes of every cell of a pool; different draws have different conflicting ones."""
    rows = []
    for label in (0, 1):
        for context in (0, 1):
            cell = ((data["labels"] == label) & (data["contexts"] == context)).nonzero()[:, 0]
            count = counts[label != context]
            if label != context and (draw + 1) * count <= len(cell):
                rows.append(cell[draw * count : (draw + 1) * count])
                continue
            order = torch.randperm(len(cell), generator=torch.Generator().manual_seed(draw))
            rows.append(cell[order[:count]])
    return torch.cat(rows)


def audited(translator: MapTranslator, x: Tensor, labels: Tensor, layer: Linear) -> Audit:
    """Audit the training images of a last layer."""
    return audit_features(translator, Rows({translator.layers[0]: x[:, None]}), labels, layer(x), CLASSES)


def finding(audit: Audit, contexts: Tensor) -> dict[str, Any]:
    """Compare an audit with the known shortcuts."""
    conflicting = contexts != audit.labels
    found = audit.shortcuts.conflicting(audit.labels)
    hits = (found & conflicting).sum().item()
    return {
        "auroc": auroc(audit.shortcuts.conflict_scores[:, None], conflicting).item(),
        "recall": hits / max(1, conflicting.sum().item()),
        "precision": hits / max(1, found.sum().item()),
        "alarms": [f"{name}: {word.word}" for name, word in audit.shortcuts.found],
        "first three": {
            each.class_name: [w.word for w in each.words[:3]] for each in audit.shortcuts.classes
        },
        "model": {each.class_name: [each.model, each.model_low] for each in audit.shortcuts.classes},
        "right word among the first three": [
            bool(right & {noun for w in each.words[:3] for noun in content_words(w.word)})
            for right, each in zip((LAND, WATER), audit.shortcuts.classes, strict=True)
        ],
        "first word not of the class": sum(kind != "own" for _, kind in audit.first_words)
        / len(audit.labels),
    }


def repaired(
    data: Mapping[str, Tensor],
    rows: Tensor,
    plain: Linear,
    audit: Audit,
    translator: MapTranslator,
    seed: int,
) -> dict[str, Linear]:
    """Refit the last layer of every arm."""
    x, labels, contexts = data["pooled"][rows], data["labels"][rows], data["contexts"][rows]
    pseudo = audit.shortcuts.context_class
    groups = {
        "oracle": cells(labels, contexts),
        "words": cells(labels, pseudo),
        "random groups": cells(labels, shuffled(labels, pseudo, seed)),
    }
    layers = {"plain": plain}
    layers |= {name: refit_last_layer(x, labels, 2, groups=g).layer for name, g in groups.items()}
    return layers | _masked(data["grids"][rows].float(), labels, plain, audit, translator, seed)


def _masked(
    maps: Tensor, labels: Tensor, plain: Linear, audit: Audit, translator: MapTranslator, seed: int
) -> dict[str, Linear]:
    flagged = torch.tensor([kind != "own" for _, kind in audit.first_words])
    words = [word for word, _ in audit.first_words]
    generator = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(labels), generator=generator)[: int(flagged.sum())]
    chosen = {
        "paper's masks": (flagged.nonzero()[:, 0], _word_saliency(maps, words, translator)),
        "random masks": (some, torch.rand(maps.shape[:3], generator=generator)),
        "MaskTune": (torch.arange(len(labels)), class_saliency(maps, plain, labels)),
    }
    return {
        name: finetune_on_masked(
            plain, pool_outside(maps[rows], top_regions(saliency[rows], MASKED)), labels[rows]
        )
        for name, (rows, saliency) in chosen.items()
    }


def _word_saliency(maps: Tensor, words: Sequence[str], translator: MapTranslator) -> Tensor:
    """Locate each image's own word by the map from text into features."""
    layer, fitted = next(iter(translator.by_layer.items()))
    distinct = sorted(set(words))
    directions = translator.directions(layer, distinct)[[distinct.index(word) for word in words]]
    rows = F.normalize(fitted.whiten(fitted.scaled(maps.flatten(0, 2))), dim=1).view(maps.shape)
    return torch.einsum("nhwd,nd->nhw", rows, directions)


def measure(folder: Path, output: Path, seeds: Sequence[int], pools: Sequence[int]) -> dict[str, Any]:
    """Measure every seed that is not kept in the output folder yet, and sum all of them up."""
    output.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in seeds:
        file = output / f"waterbirds_seed_{seed}.json"
        if not file.exists():
            found = record.plain(one_seed(folder, seed, pools[seed % len(pools)], seed // len(pools)))
            file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        runs.append(json.loads(file.read_text(encoding="utf-8")))
    return {"runs": runs, "summary": summary(runs)}


def one_seed(folder: Path, seed: int, pool: int, draw: int) -> dict[str, Any]:
    """Audit and repair at 95 %, and audit at 50 %."""
    backbone = backbones.load("efficientnet-lite0")
    translator = LanguageAttribution.from_backbone(backbone).translator
    if not isinstance(translator, MapTranslator):
        raise TypeError("class names give a map.")
    test, data = load(folder, "test", 0), load(folder, "train", pool)
    run: dict[str, Any] = {"seed": seed, "pool": pool, "draw": draw}
    for name, counts in (("95 %", BIASED), ("50 %", BALANCED)):
        rows = training_rows(data, counts, draw)
        x, labels = data["pooled"][rows], data["labels"][rows]
        plain = refit_last_layer(x, labels, 2).layer
        audit = audited(translator, x, labels, plain)
        run[name] = finding(audit, data["contexts"][rows])
        if name == "95 %":
            groups = cells(labels, data["contexts"][rows])
            layers = repaired(data, rows, plain, audit, translator, seed)
            run["arms"] = {arm: _tested(layers[arm], test, groups) for arm in ARMS}
    return run


def _tested(layer: Linear, test: Mapping[str, Tensor], groups: Tensor) -> dict[str, Any]:
    cell_of = cells(test["labels"], test["contexts"])
    return vars(outcome(layer(test["pooled"]).argmax(dim=1), test["labels"], cell_of, groups))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute means and spreads over seeds, and paired differences with 95 % intervals (Student's t)."""
    values = {
        arm: {key: [run["arms"][arm][key] for run in runs] for key in ("worst", "average", "adjusted")}
        for arm in ARMS
    }
    pairs = (("words", "plain"), ("words", "random groups"), ("words", "oracle"), ("oracle", "plain"))
    gap = [o - p for o, p in zip(values["oracle"]["worst"], values["plain"]["worst"], strict=True)]
    closed = [
        (w - p) / g for w, p, g in zip(values["words"]["worst"], values["plain"]["worst"], gap, strict=True)
    ]
    return {
        "arms": {arm: {key: _spread(each) for key, each in found.items()} for arm, found in values.items()},
        "differences": {
            f"{a} - {b}": {
                key: _spread([x - y for x, y in zip(values[a][key], values[b][key], strict=True)])
                for key in ("worst", "average", "adjusted")
            }
            for a, b in pairs
        },
        "share of the gap closed": _spread(closed),
        "auroc at 95 %": _spread([run["95 %"]["auroc"] for run in runs]),
        "recall at 95 %": _spread([run["95 %"]["recall"] for run in runs]),
        "precision at 95 %": _spread([run["95 %"]["precision"] for run in runs]),
        "seeds with an alarm at 95 %": sum(bool(run["95 %"]["alarms"]) for run in runs),
        "seeds with an alarm at 50 %": sum(bool(run["50 %"]["alarms"]) for run in runs),
        "seeds with a right word among the first three, land and water": [
            sum(run["95 %"]["right word among the first three"][c] for run in runs) for c in (0, 1)
        ],
    }


#: The 97.5 % points of Student's t by degrees of freedom.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def _spread(values: Sequence[float]) -> dict[str, float]:
    given = torch.tensor(values, dtype=torch.float64)
    if len(values) < 2:
        return {"mean": given.mean().item(), "std": float("nan"), "half": float("nan")}
    std = given.std().item()
    return {"mean": given.mean().item(), "std": std, "half": _T[len(values) - 1] * std / len(values) ** 0.5}


def page(found: Mapping[str, Any]) -> str:
    """Return the results as tables."""
    total = found["summary"]
    arms = [
        [
            arm,
            *(
                f"{each[key]['mean']:.3f} ± {each[key]['std']:.3f}"
                for key in ("worst", "average", "adjusted")
            ),
        ]
        for arm, each in total["arms"].items()
    ]
    pairs = [
        [
            name,
            *(
                f"{each[key]['mean']:+.3f} ± {each[key]['half']:.3f}"
                for key in ("worst", "average", "adjusted")
            ),
        ]
        for name, each in total["differences"].items()
    ]
    rest = {key: value for key, value in total.items() if key not in ("arms", "differences")}
    return "\n\n".join(
        [
            f"# Composed waterbirds, {len(found['runs'])} seeds",
            record.table(["arm", "worst group", "average", "adjusted average"], arms),
            "Means and standard deviations over seeds. Differences paired by seed, with 95 % intervals:",
            record.table(["difference", "worst group", "average", "adjusted average"], pairs),
            record.table(["audit", "value"], [[key, _cell(value)] for key, value in rest.items()]),
        ]
    )


def _cell(value: Any) -> str:
    return f"{value['mean']:.3f} ± {value['std']:.3f}" if isinstance(value, Mapping) else str(value)


def main() -> None:
    """Measure all requested seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--pools", type=int, nargs="+", default=[0], help="seeds of the training pools that are kept"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.features, options.output, options.seeds, options.pools)
    record.write(options.output, "waterbirds", {"setting": record.setting(), **found}, page(found))
    print(page(found))


if __name__ == "__main__":
    main()
