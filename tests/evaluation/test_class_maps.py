"""Insertion and deletion of class maps, on pictures whose predicted class is right."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from statistics import mean, stdev

import colour_world as world
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from torchnle.backbones import Backbone
from torchnle.data import Cutout, plain_backgrounds
from torchnle.evaluation import class_maps, record
from torchnle.evaluation.faithfulness import compare, grad_cam, query_maps, random_maps
from torchnle.evaluation.pictures import PHOTOGRAPHS, photographs, rightly_classified, single_scenes
from torchnle.evaluation.subject import attach
from torchnle.metrics import deletion, insertion
from torchnle.vision.taps import Tap

WHITE = [ground for ground in plain_backgrounds() if "white" in ground.location]


def cutouts():
    squares = world.shapes(names=["square"], colours=[*world.NAMES, "black"])
    return [Cutout(f"a {cut.phrase.split()[1]}", cut.image) for cut in squares]


def batches(count=6, batch_size=4):
    backbone = world.backbone()
    scenes = single_scenes(cutouts(), WHITE, world.NAMES, size=world.SIZE, seed=3)
    return backbone, list(rightly_classified(backbone, scenes, count, batch_size=batch_size))


def test_pictures_are_those_whose_class_is_right():
    backbone, found = batches()
    assert [len(phrases) for _, _, phrases in found] == [4, 2]
    for images, targets, phrases in found:
        assert images.shape == (len(phrases), 3, 64, 64)
        assert torch.equal(backbone.model(images).argmax(dim=1), targets)
        assert [f"a {world.NAMES[target]}" for target in targets] == phrases


def test_wrong_pictures_are_left_out():
    backbone = world.backbone()
    squares = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    pictures = [(square, phrase) for square in squares for phrase in ("a red", "an owl")]
    found = list(rightly_classified(backbone, pictures, 9))
    assert [phrases for _, _, phrases in found] == [["a red"]]
    assert list(rightly_classified(backbone, pictures[1:2], 9)) == []


def test_scenes_hold_one_thing_that_a_class_is_named_like():
    shown = {phrase for _, phrase in islice(single_scenes(cutouts(), WHITE, world.NAMES, size=64), 40)}
    assert shown == {f"a {name}" for name in world.NAMES}  # and nothing black
    with pytest.raises(ValueError, match="none of the 5 cut-outs"):
        single_scenes(cutouts(), WHITE, ["owl"])


def test_photographs_are_there():
    found = list(photographs())
    assert [phrase for _, phrase in found] == list(PHOTOGRAPHS.values())
    assert all(picture.mode == "RGB" and min(picture.size) > 200 for picture, _ in found)


def test_grad_cam_is_captums_formula():
    """At the last layer of a pooling classifier Grad-CAM is the features times the class's weights."""
    backbone, [(images, targets, _), _] = batches()
    model = backbone.model
    coarse = model.coarse(model.fine(images))
    expected = torch.einsum("nchw,nc->nhw", coarse, model.head.weight[targets]) / coarse[0, 0].numel()
    enlarged = F.interpolate(expected[:, None], (64, 64), mode="bilinear")[:, 0]
    for tap in (Tap("coarse", model.coarse), Tap("pool", model.pool, at="input")):
        torch.testing.assert_close(grad_cam(model, tap)(images, targets), enlarged, rtol=1e-4, atol=1e-5)


def test_query_maps_are_saliency():
    backbone, [(images, targets, _), _] = batches()
    lang = attach(backbone, world.ColourTranslator())
    for layer in (0, 1):
        for contrast in (None, ["a red", "a green"]):
            made = query_maps(lang, world.NAMES, layer, query="a {}", contrast=contrast)(images, targets)
            for index, target in enumerate(targets.tolist()):
                text = f"a {world.NAMES[target]}"
                image, mode = images[index : index + 1], "bilinear"
                (map_,) = lang.saliency(image, [text], contrast=contrast, interpolate_mode=mode)[layer][0]
                torch.testing.assert_close(made[index], map_)
    long = query_maps(lang, world.NAMES, 1, query="a {}", magnitude=True)(images, targets)
    coarse = backbone.model.coarse(backbone.model.fine(images))
    cosines = query_maps(lang, world.NAMES, 1, query="a {}")
    assert long.shape == cosines(images, targets).shape
    (single,) = lang.saliency(images[:1], [f"a {world.NAMES[targets[0]]}"], interpolate_mode=None)[1][0]
    weighed = single * coarse[0].norm(dim=0)
    torch.testing.assert_close(long[0], F.interpolate(weighed[None, None], (64, 64), mode="bilinear")[0, 0])


def test_comparison_by_hand():
    backbone, found = batches()
    pairs = [(images, targets) for images, targets, _ in found]
    lang = attach(backbone, world.ColourTranslator())
    methods = {
        "coarse": query_maps(lang, world.NAMES, 1, query="a {}"),
        "random": random_maps((4, 4), seed=5),
    }
    result = compare(backbone.model, pairs, methods, steps=4, batch_size=7)
    again = random_maps((4, 4), seed=5)
    areas: dict[str, dict[str, list[float]]] = {"coarse": {}, "random": {}}
    unknowing = [again(images, targets) for images, targets in pairs]
    for kind, curve in (("deletion", deletion), ("insertion", insertion)):
        for name in areas:
            areas[name][kind] = []
            for (images, targets), drawn in zip(pairs, unknowing, strict=True):
                maps = methods["coarse"](images, targets) if name == "coarse" else drawn
                areas[name][kind] += curve(backbone.model, images, maps, targets, steps=4).areas.tolist()
    assert result["images"] == 6
    for name, kinds in areas.items():
        for kind, values in kinds.items():
            found = result["methods"][name][kind]
            apart = [a - b for a, b in zip(values, areas["coarse"][kind], strict=True)]
            assert found["area"] == pytest.approx(mean(values), abs=1e-6)
            assert found["standard_error"] == pytest.approx(stdev(values) / 6**0.5, abs=1e-6)
            assert found["difference"] == pytest.approx(mean(apart), abs=1e-6)
            assert found["difference_standard_error"] == pytest.approx(stdev(apart) / 6**0.5, abs=1e-6)
            curve = found["curve"]
            trapezoids = sum((a + b) / 2 / 4 for a, b in pairwise(curve))
            assert trapezoids == pytest.approx(found["area"], abs=1e-6)


def test_bfloat16_is_near():
    backbone, found = batches()
    pairs = [(images, targets) for images, targets, _ in found]
    methods = {"Grad-CAM": grad_cam(backbone.model, Tap("coarse", backbone.model.coarse))}
    whole = compare(backbone.model, pairs, methods, steps=4)["methods"]["Grad-CAM"]
    half = compare(backbone.model, pairs, methods, steps=4, bfloat16=True)["methods"]["Grad-CAM"]
    for kind in ("deletion", "insertion"):
        assert half[kind]["area"] == pytest.approx(whole[kind]["area"], abs=0.02)
        assert half[kind]["area"] != whole[kind]["area"]


def test_the_measurement_and_its_page(tmp_path):
    backbone, found = batches()
    lang = attach(backbone, world.ColourTranslator())
    data = class_maps.measure(backbone, lang, found, steps=3, contrast=True)
    assert set(data["layers"]) == {"fine", "coarse"}
    methods = data["layers"]["coarse"]["methods"]
    names = ["Grad-CAM", "query", "query times the feature's length", "query against other classes", "random"]
    assert list(methods) == names
    assert methods["query"]["deletion"]["area"] < methods["random"]["deletion"]["area"]
    assert methods["query"]["insertion"]["area"] > methods["random"]["insertion"]["area"]
    assert sum(data["shown"].values()) == 6
    record.write(tmp_path / "new", "class_maps", data, class_maps.page(data))
    saved = json.loads((tmp_path / "new" / "class_maps.json").read_text())
    assert len(saved["layers"]["fine"]["methods"]["query"]["insertion"]["curve"]) == 4
    area = methods["query"]["deletion"]["area"]
    assert f"| query | {area:.4f} ±" in (tmp_path / "new" / "class_maps.md").read_text()


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    backbone, found = batches()
    lang = attach(backbone, world.ColourTranslator())
    undisturbed = class_maps.measure(backbone, lang, found, steps=3)
    file, calls, score = tmp_path / "new" / "class_maps.jsonl", [], world.ColourTranslator.score

    def dies(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return score(self, *arguments, **options)

    monkeypatch.setattr(world.ColourTranslator, "score", dies)
    with pytest.raises(KeyboardInterrupt):
        class_maps.measure(backbone, lang, found, steps=3, journal=file)
    with file.open("a") as lines:
        lines.write('["coarse, Grad-CAM, 1", {"del')  # cut off in the middle
    resumed = class_maps.measure(backbone, lang, found, steps=3, journal=file)
    assert resumed == undisturbed
    count = len(calls)
    assert class_maps.measure(backbone, lang, found, steps=3, journal=file) == undisturbed
    assert len(calls) == count  # everything was there
    fewer = class_maps.measure(backbone, lang, found[:1], steps=3, journal=file)
    assert fewer == class_maps.measure(backbone, lang, found[:1], steps=3)
    with pytest.raises(ValueError, match="parts of another setting"):
        class_maps.measure(backbone, lang, found, steps=4, journal=file)


def test_no_picture_is_told():
    backbone = world.backbone()
    lang = attach(backbone, world.ColourTranslator())
    with pytest.raises(ValueError, match="no picture's predicted class"):
        class_maps.measure(backbone, lang, [])
    with pytest.raises(ValueError, match="no image"):
        compare(backbone.model, [], {"random": random_maps((2, 2))})


def test_photographs_alone_where_no_folder_is_given():
    names = ("cat", "espresso", "missile", "moped")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    torch.nn.init.zeros_(model[1].weight)
    torch.nn.init.zeros_(model[1].bias)  # always says "cat"
    blind = Backbone(model, world.Preprocess(8, 127.5, 127.5), names, "blind")
    found = class_maps.pictures(blind, None, 5)
    assert [phrases for _, _, phrases in found] == [["a cat"]]
