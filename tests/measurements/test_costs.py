"""What explaining costs: clocks, the solve, and every way on models of a few numbers."""

from __future__ import annotations

import json
import sys
from itertools import accumulate

import colour_world as world
import pytest
import torch
from letter_encoder import LetterEncoder
from PIL import Image
from tiny_translators import WIDTH, tiny_language_model

from measurements import costs
from measurements.__main__ import main
from measurements.costs import DEVIL, Clock, measure, page, photograph, solve
from torchnle import backbones
from torchnle.methods.aligned.decoder.text_decoder import OPENING, PrefixFromSentence, TextDecoder
from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.settings import RECIPES
from torchnle.translators.base import Translator

RECIPE = RECIPES / "scenes-efficientnet-lite0-smollm2.toml"
QUERIES = [["a red cat", "a dog"], ["grass", "a door"]]


def timed(monkeypatch, seconds):
    """The clock of the machine, of which every run takes the next of these seconds."""
    ends = list(accumulate(seconds))
    ticks = iter([tick for end, each in zip(ends, seconds, strict=True) for tick in (end - each, end)])
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(ticks))


def test_the_first_time_is_not_counted(monkeypatch):
    timed(monkeypatch, [9, 3, 1, 2, 100])
    results = iter("abcde")
    assert Clock(3, 60)(lambda: next(results)) == ({"median": 2, "least": 1, "most": 3, "rounds": 3}, "d")


def test_after_the_limit_nothing_begins(monkeypatch):
    timed(monkeypatch, [20, 30, 40, 1])
    assert Clock(5, 60)(int)[0] == {"median": 35, "least": 30, "most": 40, "rounds": 2}
    timed(monkeypatch, [70, 1])
    assert Clock(5, 60)(int)[0] == {"median": 70, "least": 70, "most": 70, "rounds": 1}


@pytest.mark.parametrize("given", [(0, 60), (3, 0), (3, float("nan"))])
def test_an_impossible_clock(given):
    with pytest.raises(ValueError, match="pass at least one round and some seconds"):
        Clock(*given)


def test_the_solve_is_a_fit_of_all_rows():
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    solved = solve(x, LetterEncoder())
    sums = PhraseSums(4)
    pairs = [(f"thing {2 * (i % 128)}", f"thing {2 * (i % 128) + 1}") for i in range(300)]
    sums.add(x, pairs)
    expected = TextMap.fit(LetterEncoder().encode, prototypes=sums.solve())
    torch.testing.assert_close(solved.targets, expected.targets)


def test_the_network_is_the_shipped_recipes():
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    recipe = tomllib.loads(RECIPE.read_text())
    settings = {
        **recipe["network"],
        **recipe["language"],
        "opening": OPENING,
    }  # the map's text decoder brings it
    assert {name: settings[name] for name in DEVIL} == DEVIL
    assert set(recipe["network"]) - {"dtype"} <= set(DEVIL)


def decoder():
    torch.manual_seed(0)
    network = PrefixFromSentence(26, WIDTH, opening_length=1, prefix_length=2, hidden=8)
    return TextDecoder(
        network,
        tiny_language_model(reference="tiny"),
        encoder="letters",
        prompt="the",
        stop="door",
        max_new_tokens=4,
        reference="tiny-decoder",
    )


def aligned():
    maps = {layer: TextMap(3, 26, phrases=2) for layer in ("fine", "coarse")}
    return MapTranslator(maps, LetterEncoder(), phrases=["a red cat", "a dog"]).eval()


def run(**options):
    encoder, image = LetterEncoder(), torch.rand(1, 3, world.SIZE, world.SIZE)
    options = {"captions": aligned(), "scenes": 60, "clock": Clock(1, 60), **options}
    return measure(world.backbone(), image, QUERIES, encoder, decoder(), **options), encoder


def test_every_way_is_timed():
    found, encoder = run()
    ways = found["ways"]
    assert list(ways) == ["class names", "captions", "DeViL"]
    for name, way in ways.items():
        assert way["locations"] == 16
        for what in ("whole", "all_locations", "saliency"):
            assert way[what]["rounds"] == 1
            assert way[what]["median"] > 0
        assert (way["fit"] is None) == (name == "DeViL")
    assert [way["layer"] for way in ways.values()][1:] == ["coarse", ways["class names"]["layer"]]
    assert found["solved"] == {"rows": 60, "width": 3, "phrases": 400}
    assert found["devil"] == "random weights"
    assert all(query in encoder.calls for query in QUERIES)


def test_a_trained_network_stands_for_the_random_one():
    trained = world.tiny_devil()[1].translator
    found, _ = run(devil=trained)
    assert found["devil"] == "trained weights"
    assert found["ways"]["DeViL"]["layer"] == "coarse"


def test_no_scene():
    with pytest.raises(ValueError, match="scenes=0; pass a positive number"):
        run(scenes=0)


def test_the_page_has_a_row_a_way():
    found, _ = run()
    shown = page(found)
    for name, way in found["ways"].items():
        fit = "-" if way["fit"] is None else f"{way['fit']['median']:.3f}"
        assert f"| {name} | `{way['layer']}` | {fit} | {way['whole']['median']:.3f} |" in shown
    assert "its 16 locations | maps of 2 texts" in shown
    assert "60 rows of 3 channels" in shown


def test_the_photograph_is_the_models_input(tmp_path):
    Image.new("RGB", (90, 70), "red").save(tmp_path / "red.png")
    x = photograph(world.backbone(), tmp_path / "red.png")
    torch.testing.assert_close(x, torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert photograph(world.backbone()).shape == (1, 3, 64, 64)


def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(backbones, "load", lambda name: world.backbone())
    monkeypatch.setattr("torchnle.language.text_encoder.TextEncoder.from_pretrained", LetterEncoder)
    monkeypatch.setattr(TextDecoder, "from_pretrained", decoder)
    monkeypatch.setattr(Translator, "from_pretrained", lambda reference: aligned())
    given = ["--texts", "3", "--scenes", "9", "--rounds", "1", "--output", str(tmp_path)]
    assert main(["costs", *given]) == 0
    assert "maps of 3 texts" in capsys.readouterr().out
    saved = json.loads((tmp_path / "costs.json").read_text())
    assert saved["options"]["scenes"] == "9"
    assert "machine" in saved["setting"]
    assert "| DeViL |" in (tmp_path / "costs.md").read_text()
    assert main(["costs", "--rounds", "0"]) == 2
    assert "rounds=0" in capsys.readouterr().err
