"""The measurement of scenes, in a world whose answers are known and through a language model."""

from __future__ import annotations

import json
import math

import colour_world as world
import pytest
import torch
from letter_encoder import LetterEncoder

from torchnle.backbones import Backbone, Preprocess
from torchnle.data import Scenes, shapes
from torchnle.evaluation import record
from torchnle.evaluation.scenes import composed, measure, page
from torchnle.evaluation.scenes.maps import variants
from torchnle.evaluation.subject import attach
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features


@pytest.fixture(scope="module")
def known():
    backbone = world.backbone()
    return measure(
        backbone,
        attach(backbone, world.ColourTranslator()),
        world.scenes(),
        encoder=LetterEncoder(),
        bert=False,
        probe=world.scenes(length=60, seed=1),
        rivals=4,
        batch_size=5,
    )


def test_who_sees_colours_names_every_square_at_its_place(known):
    for layer in ("fine", "coarse", "all layers"):
        rates = known["layers"][layer]["naming"]["nearest_phrase"]
        assert rates["local"] == 1
        assert rates["elsewhere"] == 0
        assert 0 < rates["shuffled"] < 0.5  # four colours
        assert rates["whole"] < 0.8  # one sentence names one of two
        assert known["layers"][layer]["naming"]["head_noun"]["shuffled"] == 1  # all are squares


def test_who_sees_colours_points_at_every_square(known):
    for layer in ("fine", "coarse"):
        raw = known["layers"][layer]["pointing"]["raw"]
        assert raw["within_15"] == 1
        assert raw["strict"] > 0.9  # a location of the coarse layer can lie half outside its square
        assert raw["iou"] > known["chance"]["iou"]
        assert raw["energy"] > known["chance"]["energy"]
    assert known["mean_of_layers"]["raw"]["strict"] == 1
    assert known["chance"]["strict"] < 0.3 < known["chance"]["within_15"]
    assert known["layers"]["all layers"]["pointing"] is None


def test_the_probe_finds_colours_too(known):
    for layer in ("fine", "coarse"):
        probe = known["layers"][layer]["probe"]
        assert probe["named"] > 0.4  # four colours, three channels, and a linear map
        assert probe["strict"] > 2 * known["chance"]["strict"]


def test_the_chance_is_the_area_of_the_boxes(known):
    boxes = [thing.box for scene in world.scenes() for thing in scene.objects]
    areas = [(right - left) * (bottom - top) / world.SIZE**2 for left, top, right, bottom in boxes]
    assert known["chance"]["strict"] == pytest.approx(sum(areas) / len(areas))


def test_the_page_and_the_json_hold_the_numbers(known, tmp_path):
    record.write(tmp_path, "scenes", known, page(known))
    saved = json.loads((tmp_path / "scenes.json").read_text())
    assert saved["layers"]["fine"]["naming"]["nearest_phrase"]["local"] == 1
    text = (tmp_path / "scenes.md").read_text()
    assert "| fine | nearest phrase | 1.000 |" in text
    assert f"| chance |  | {known['chance']['strict']:.3f} |" in text
    assert "| all layers |" in text.split("## Captions")[1]
    assert len(saved["examples"]) == 8


def test_batches_do_not_matter(known):
    backbone = world.backbone()
    lang = attach(backbone, world.ColourTranslator())
    again = measure(
        backbone, lang, world.scenes(), encoder=LetterEncoder(), bert=False, rivals=4, batch_size=12
    )
    for layer, found in again["layers"].items():
        for part in ("naming", "captions", "pointing"):
            assert record.plain(found[part]) == record.plain(known["layers"][layer][part])


def test_a_translator_that_writes_goes_the_same_way():
    backbone, lang = world.tiny_devil()
    things = shapes(names=["square", "circle"], colours=["red"])
    scenes = Scenes(things, world.scenes().backgrounds, length=3, size=64, objects=(1, 2), seed=3)
    found = measure(backbone, lang, scenes, encoder=LetterEncoder(), bert=False, maps=2, rivals=2)
    assert set(found["layers"]) == {"fine", "coarse", "all layers"}
    variants = set(found["layers"]["fine"]["pointing"])
    assert variants == {
        "raw",
        "contrast",
        "contrast, less the prior",
        "contrast, by length",
        "contrast, less the prior, by length",
    }
    assert found["scenes"]["maps"] == 2
    assert "-" in page(found)  # no probe was requested


def test_variants_of_log_probabilities_are_the_slow_ones():
    _, lang = world.tiny_devil()
    translator = lang.translator
    row = Features(torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)), "fine", (2, 2))
    queries, rivals = ["a cat", "the red door"], ["a cat", "grass"]
    translator.requires_grad_(False)
    found = variants(translator, row, queries, rivals)
    every = ["a cat", "the red door", "grass"]
    raw, mutual = translator.score(rows_of(row), every), translator.score(rows_of(row), every, prior=True)
    lengths = torch.tensor([2.0, 3.0, 1.0])
    torch.testing.assert_close(found["raw"], raw[:, :2])
    for name, scores in (
        ("contrast", raw),
        ("contrast, less the prior", mutual),
        ("contrast, by length", raw / lengths),
        ("contrast, less the prior, by length", mutual / lengths),
    ):
        for r in range(4):
            for q in range(2):
                rival = scores[r, 2]
                expected = scores[r, q] - math.log(scores[r, q].exp() + rival.exp())
                assert found[name][r, q].item() == pytest.approx(expected.item(), abs=1e-4)


def test_other_queries_are_no_rivals():
    """A map's score of an object must not depend on the other queries of the scene."""
    _, lang = world.tiny_devil()
    row = Features(torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)), "fine", (2, 2))
    alone = variants(lang.translator, row, ["a cat"], ["grass", "a dog"])
    beside = variants(lang.translator, row, ["a cat", "the red door"], ["grass", "a dog"])
    for name, scores in alone.items():
        torch.testing.assert_close(beside[name][:, :1], scores)


def test_scenes_of_a_folder_or_of_shapes(tmp_path):
    scenes = composed(textures=False, length=2, part="test", seed=4)
    assert set(scenes.phrases) == set(shapes().split("test").phrases)
    with pytest.raises(NotADirectoryError):
        composed(tmp_path / "nowhere")


def test_a_margin_is_not_cut_off():
    backbone = world.backbone()
    cut = Backbone(backbone.model, Preprocess(64, 127.5, 127.5, share=0.5), world.NAMES, "cut")
    found = measure(
        cut,
        attach(cut, world.ColourTranslator()),
        world.scenes(),
        encoder=LetterEncoder(),
        bert=False,
        rivals=4,
    )
    assert found["layers"]["fine"]["pointing"]["raw"]["strict"] == 1


def test_a_translator_without_layers_asks_for_them():
    translator = world.ColourTranslator()
    translator.layers = ()
    with pytest.raises(ValueError, match="does not name its layers"):
        attach(world.backbone(), translator)
    assert len(attach(world.backbone(), translator, ["fine"]).taps) == 1
