"""Examples that need packages of others: Quantus, pytorch-grad-cam, Ray. Skipped where these are absent."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from PIL import Image
from zero_shot_world import NAMES, pictures

from torchnle import LanguageAttribution

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def bridge():
    pytest.importorskip("quantus")
    pytest.importorskip("pytorch_grad_cam")
    return runpy.run_path(str(EXAMPLES / "faithfulness_elsewhere.py"))


@pytest.fixture
def lang():
    return LanguageAttribution.from_classifier(
        conv_net(), NAMES, example=pictures(2), encoder=LetterEncoder()
    )


def test_maps_have_the_shapes_and_values_that_others_take(bridge, lang):
    x = pictures(3)
    targets = [2, 0, 2]
    maps = bridge["explain_func"](lang, NAMES)(lang.forward_func, x.numpy(), np.array(targets))
    assert maps.shape == (3, 1, 8, 8)
    for number, target in enumerate(targets):
        expected = lang.saliency(x[number : number + 1], NAMES[target])[0, 0]
        torch.testing.assert_close(torch.from_numpy(maps[number, 0]), expected - expected.min())


def test_both_packages_take_them(bridge, lang):
    x, targets = pictures(2), [1, 3]
    explain = bridge["explain_func"](lang, NAMES)
    model = lang.forward_func
    changes = bridge["road"](model, x, explain(model, x, targets)[:, 0], targets)
    assert changes.shape == (2,)
    assert np.isfinite(changes).all()
    means = bridge["pixel_flipping"](model, x, targets, explain)
    assert means.shape == (2,)
    assert ((means >= 0) & (means <= 1)).all()


@pytest.mark.real
def test_ray_gives_the_lines_of_one_process(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from torchnle.cli import main

    for number in range(5):
        Image.effect_noise((40, 30), 60 + number).convert("RGB").save(tmp_path / f"{number}.png")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert main(["describe", str(tmp_path), "--lines", str(one), "--batch-size", "2"]) == 0
    given = [str(tmp_path), "--lines", str(two), "--batch-size", "2", "--actors", "1"]
    monkeypatch.setattr(sys, "argv", ["ray_describe.py", *given])
    runpy.run_path(str(EXAMPLES / "ray_describe.py"), run_name="__main__")
    lines = [json.loads(line) for line in two.read_text().splitlines()]
    assert lines == [json.loads(line) for line in one.read_text().splitlines()[1:]]
