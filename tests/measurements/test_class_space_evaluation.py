import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from measurements.__main__ import main
from measurements.class_space import _best_offset, ablate, held_out_naming, measure, repeat
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge

CLASSES, WIDTH = 24, 6


class Lookup(nn.Module):
    """Maps the texts of `known` exactly, and all others to `elsewhere`: what a split gives is then known."""

    def __init__(self, texts, targets, elsewhere):
        super().__init__()
        self.texts, self.targets, self.elsewhere = texts, targets, elsewhere

    def forward(self, texts):
        found = [(self.texts == text).all(dim=1).nonzero().flatten().tolist() for text in texts]
        return torch.stack([self.targets[i[0]] if i else self.elsewhere for i in found])


def weights(seed=0):
    return torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_a_perfect_map_names_everything():
    weight = weights() - weights().mean(dim=0)
    weight = torch.cat([weight, -weight])  # any half that is held out leaves a mean near to zero
    result = held_out_naming(weight, weight, lambda texts, targets: nn.Identity(), seed=0, held_out=4)
    assert result["top1"] == result["top5"] == result["seen"] == result["harmonic_mean"] == 1
    assert result["uncorrected"] == 1
    assert result["offset"] == 0


def test_a_map_that_knows_only_seen_classes_names_no_other():
    texts = F.normalize(torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(1)), dim=1)

    def fit(texts, targets):
        return Lookup(texts, targets, elsewhere=torch.ones(WIDTH))

    result = held_out_naming(weights(), texts, fit, seed=0, held_out=6)
    assert result["uncorrected"] == 0
    assert result["top1"] == 0  # all six names are equally good, and a tie is no hit


def test_numbers_by_hand():
    """Loops over queries and candidates, and a second fit for the offset."""
    weight = weights()
    texts = F.normalize(weight[:, :4] + 0.3 * weights(seed=2)[:, :4], dim=1)
    result = held_out_naming(weight, texts, KernelRidge.fit, seed=5, held_out=6)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(5)).tolist()
    unseen, seen = order[:6], order[6:]
    mean = weight[seen].mean(dim=0)
    fitted = KernelRidge.fit(texts[seen], F.normalize(weight[seen] - mean, dim=1))

    def cosine(query, name):
        return F.cosine_similarity(weight[query] - mean, fitted(texts[name : name + 1])[0], dim=0).item()

    ranks = [sum(cosine(q, n) > cosine(q, q) for n in unseen) for q in unseen]
    assert result["top1"] == pytest.approx(sum(r == 0 for r in ranks) / 6)
    assert result["top5"] == pytest.approx(sum(r < 5 for r in ranks) / 6)

    def hits(queries):
        def penalised(q, n):
            return cosine(q, n) - (result["offset"] if n in seen else 0)

        return sum(max(range(CLASSES), key=lambda n, q=q: penalised(q, n)) == q for q in queries) / len(
            queries
        )

    a, b = hits(seen), hits(unseen)
    assert (result["seen"], result["unseen"]) == (pytest.approx(a), pytest.approx(b))
    assert result["harmonic_mean"] == pytest.approx(2 * a * b / (a + b) if a + b else 0)


def test_the_offset_balances_seen_and_unseen():
    cosines = torch.tensor([[0.9, 0.0, 0.1], [0.0, 0.9, 0.1], [0.5, 0.0, 0.34]])
    offset = _best_offset(cosines, seen=2)
    assert 0.16 <= offset <= 0.17
    assert _best_offset(torch.eye(3), seen=2) == 0


def test_the_unseen_classes_have_no_part_in_the_offset():
    texts = F.normalize(weights(seed=3), dim=1)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0))
    changed = weights()
    changed[order[:5]] += 10 * torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(9))
    offsets = [
        held_out_naming(w, texts, KernelRidge.fit, seed=0, held_out=5)["offset"] for w in (weights(), changed)
    ]
    assert offsets[0] == offsets[1]


@pytest.mark.parametrize("held_out", [0, 9, -1])
def test_too_many_held_out(held_out):
    with pytest.raises(ValueError, match=f"held_out={held_out} of 24 classes; pass 1 to 8"):
        held_out_naming(weights(), weights(), KernelRidge.fit, seed=0, held_out=held_out)


def test_repeat_gives_mean_deviation_and_all_splits():
    texts = F.normalize(weights(seed=3), dim=1)
    result = repeat(weights(), texts, KernelRidge.fit, [3, 4], held_out=5, generalised=False)
    singles = [held_out_naming(weights(), texts, KernelRidge.fit, seed=s, held_out=5) for s in (3, 4)]
    values = [single["top5"] for single in singles]
    assert result["mean"]["top5"] == pytest.approx(sum(values) / 2, abs=1e-4)
    assert result["standard_deviation"]["top5"] == pytest.approx(
        abs(values[0] - values[1]) / 2**0.5, abs=1e-4
    )
    assert [split["top5"] for split in result["splits"]] == pytest.approx(values, abs=1e-4)
    assert result["seeds"] == [3, 4]
    assert "harmonic_mean" not in result["mean"]


def test_ablation_changes_the_prompt():
    seen = []

    def encode(texts):
        seen.extend(texts)
        vectors = torch.stack([torch.tensor([float(ord(c) % 7) for c in (text * 9)[:40]]) for text in texts])
        return F.normalize(vectors, dim=1)

    names = [f"class {i} {chr(97 + i % 26)}" for i in range(300)]
    weight = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    table = ablate(weight, encode, names)
    assert "an image of a class 3 d" in seen
    assert len({row["choice"] for row in table}) == len(table) >= 8
    assert all(0 <= row["top1"] <= row["top5"] <= 1 for row in table)


@pytest.mark.real
def test_the_embedded_default_names_unseen_classes():
    """What issue 2 asks for, on three of the ten splits."""
    ridge = measure(mlp=False, ablation=False, splits=3)["ridge"]
    assert ridge["mean"]["top1"] >= 0.54
    assert ridge["mean"]["top5"] >= 0.80
    assert ridge["mean"]["harmonic_mean"] >= 0.65


def test_the_command_prints_json(monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(
        "measurements.class_space.measure", lambda **options: given.update(options) or {"ridge": 1}
    )
    main(["class-space", "--splits", "2"])
    assert json.loads(capsys.readouterr().out) == {"ridge": 1}
    assert given == {"mlp": False, "splits": 2, "epochs": 60}
