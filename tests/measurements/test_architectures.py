"""A sample of the sweep over all libraries, and that its checks can fail."""

import dataclasses
import json

import pytest
import torch
from fakes import conv_net
from torch import nn

from measurements import architectures
from measurements.architectures import examination
from measurements.architectures.catalogue import paper_models
from measurements.architectures.paper import PAPER


@pytest.mark.parametrize("case", list(architectures.sample()), ids=lambda case: case.name)
def test_the_sample_works(case):
    record = architectures.try_case(case, unusual=[(192, 256)])
    assert record["problems"] == []
    assert record["status"] == "works"
    assert len(record["layers"]) >= 3
    assert record["difference"] < 1e-4
    assert record["located"][0] > 0.7


def test_the_papers_38_models():
    assert len(PAPER) == 38
    named = [name for case in paper_models() for name in case.note.split(", ")]
    assert sorted(named) == sorted(PAPER)


class Scrambled(nn.Module):
    """Gives its locations in another order for a few images than for the many that look where they are."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.block = nn.Sequential(nn.LayerNorm(8))

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.block(tokens if len(tokens) > 2 else tokens.flip(1)).mean(1)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 4, 4)

    def forward(self, x):
        return (self.layer(x + torch.rand_like(x))).mean((2, 3))


class Changing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 4, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.layer(x).mean((2, 3))


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Scrambled(), "the locations of 'block' are not in the order of the image"),
        (Noisy(), "differs by"),
        (Changing(), "the model was changed: calls"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(768, 2)),
            "no layer of Sequential gives features with locations",
        ),
    ],
)
def test_the_checks_find(model, problem):
    found = examination.examine(model, 16, unusual=[])
    assert any(problem in each for each in found.problems), found.problems


def test_a_fingerprint_sees_one_bit_a_flag_and_a_hook():
    model = conv_net()
    before = examination.fingerprint(model)
    assert examination.fingerprint(model) == before
    with torch.no_grad():
        model.layer.weight[0, 0, 0, 0] += 1e-7
    assert examination.fingerprint(model) != before
    model = conv_net()
    model.norm.train()
    assert examination.fingerprint(model) != before
    model = conv_net()
    model.layer.register_forward_hook(print)
    assert examination.fingerprint(model) != before


def case(name, model):
    return architectures.Case(name, "torchvision classifiers", 16, build=lambda: model)


def test_a_sweep_writes_resumes_and_survives_a_crash(tmp_path):
    class Crash(nn.Module):
        def forward(self, x):
            import os

            os._exit(9)

    tried = [case("good", conv_net()), case("crash", Crash()), case("good", conv_net())]
    finished = tmp_path / architectures.FINISHED
    records = list(architectures.sweep(tried, finished))
    assert [(r["key"], r["status"]) for r in records] == [("good at 16", "works"), ("crash at 16", "fails")]
    assert "exit code 9" in records[1]["problems"][0]
    again = list(architectures.sweep(tried, finished, memory=0))
    assert [r["key"] for r in again] == ["crash at 16"]  # what works is not tried again

    twice = [dataclasses.replace(tried[0], group="another group")]
    assert list(architectures.sweep(twice, finished)) == []  # nor tried for another group, but noted there

    summary = architectures.write_report(tmp_path)
    assert summary.splitlines() == ["torchvision classifiers: 1 of 2", "another group: 1 of 1"]
    page = (tmp_path / "architectures.md").read_text()
    assert "`crash at 16` (fails)" in page
    assert "`norm` 6 on 8x8" in page
    saved = json.loads((tmp_path / "results" / "architectures.json").read_text())
    assert torch.__version__.startswith(saved["setting"]["versions"]["torch"])


def test_weights_beyond_the_memory_are_not_built(tmp_path):
    record = architectures.try_case(case("large", nn.Linear(1000, 1000)), memory=1000)
    assert record["status"] == "not tried"
    assert "limit" in record["problems"][0]


def test_the_overhead_is_a_ratio(tmp_path):
    results = architectures.measure_overhead(tmp_path, ["timm:test_vit"], rounds=3, images=1)
    ratio = results["ratios"]["timm:test_vit"]
    assert ratio["ratio"] == pytest.approx(ratio["read_ms"] / ratio["bare_ms"], rel=0.5)
    assert (tmp_path / "results" / "architectures_overhead.json").is_file()
