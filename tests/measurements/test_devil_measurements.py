"""DeViL's tables, figure, evidence and repetitions: in the world of colours, and of a tiny language model."""

from __future__ import annotations

import json

import colour_world as world
import numpy as np
import pytest
import torch
from letter_encoder import LetterEncoder
from PIL import Image

from measurements import devil
from measurements.__main__ import main as measure
from measurements.devil.evidence import SceneScores, _hits, _regression
from measurements.devil.repetition import counted
from torchnle import backbones, cli
from torchnle.backbones import Backbone
from torchnle.data import scene_caption
from torchnle.description import Description
from torchnle.evaluation import milannotations
from torchnle.evaluation.paper import TABLE_2, TABLE_4
from torchnle.evaluation.scenes import composed
from torchnle.evaluation.scenes.data import references
from torchnle.evaluation.scorers import open_clip_scorer, scorer_for, translator_scorer
from torchnle.evaluation.subject import attach
from torchnle.language.text_encoder import TextEncoder
from torchnle.metrics import box_masks, caption_scores, cider


def colour_lang():
    backbone = world.backbone()
    return backbone, attach(backbone, world.ColourTranslator())


def says(image, size):
    """The colour nearest to the mean of a picture's middle of a side."""
    pixels = torch.from_numpy(np.array(image)).float() / 127.5 - 1
    edge = (image.width - size) // 2
    seen = pixels[edge : edge + size, edge : edge + size].mean(dim=(0, 1))
    return world.PHRASES[(world.colours() - seen).norm(dim=1).argmin()]


def test_dropout_table_scores_the_last_layer_and_all():
    backbone, lang = colour_lang()
    scenes = world.scenes(length=5)
    found = devil.dropout_table(backbone, {"none": lang, "token": lang}, scenes, batch_size=2)
    texts = [says(scene.image, world.SIZE) for scene in scenes]  # every mean of locations is the whole's mean
    expected = caption_scores(texts, [references(scene) for scene in scenes])
    for dropout in ("none", "token"):
        assert found[dropout]["last"] == pytest.approx(expected)
        assert found[dropout]["all"] == pytest.approx(expected)
    single = attach(backbone, world.ColourTranslator(), ["coarse"])
    with pytest.raises(ValueError, match="reads one layer"):
        devil.dropout_table(backbone, {"none": single}, scenes)


def test_layer_table_counts_words():
    backbone, lang = colour_lang()
    scenes = world.scenes(length=5)
    found = devil.layer_table(backbone, lang, scenes)
    texts = [says(scene.image, world.SIZE) for scene in scenes]
    assert set(found) == {"fine", "coarse", "all layers", "captions"}
    row = found["fine"]
    assert (row["adjectives"], row["verbs"], row["total"]) == (pytest.approx(1 / 3), 0, 15)
    assert row["unique"] == len({word for text in texts for word in text.split()})
    assert row["cider"] == pytest.approx(cider(texts, [references(scene) for scene in scenes]))


def test_crops_by_hand():
    """Each layer's central location is the square below and to the right of the middle."""
    backbone, lang = colour_lang()
    scenes = world.scenes(length=6, objects=(1, 1), seed=4)
    scorer = translator_scorer(backbone, attach(backbone, world.ColourTranslator(), ["coarse"]))
    found = devil.crop_sizes(backbone, lang, scenes, scorer, batch_size=4)
    sides = [9, 18, 37, 64]
    for layer, width in (("fine", 8), ("coarse", 16)):
        counts = dict.fromkeys(sides, 0)
        for scene in scenes:
            corner = scene.image.crop((32, 32, 32 + width, 32 + width))
            text = says(corner, width)
            crops = [devil.crops.central_crop(scene.image, side) for side in sides]
            cosines = [scorer([crop], [text]).item() for crop in crops]
            counts[sides[cosines.index(max(cosines))]] += 1
        assert found[layer] == {side: count / 6 for side, count in counts.items()}
    assert sum(found["captions"].values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="no scene"):
        devil.crop_sizes(backbone, lang, world.scenes(length=0), scorer)


def test_tables_run_through_a_language_model_and_stand_beside_the_papers():
    backbone, lang = world.tiny_devil()
    scenes = composed(textures=False, length=3, objects=(2, 2), size=64, seed=2)
    data = {
        "scenes": {"count": 3},
        "scorer": "by hand",
        "table_2": devil.dropout_table(backbone, {"none": lang, "token and feature": lang}, scenes),
        "table_4": devil.layer_table(backbone, lang, scenes),
        "figure_7": devil.crop_sizes(backbone, lang, scenes, lambda images, texts: torch.eye(4, len(texts))),
    }
    page = devil.page(data)
    assert "| none | last |" in page
    assert "| token and feature | all |" in page
    for part in ("CLIP-ResNet50, layer 21", "| 64 px |", "4.729"):
        assert part in page
    assert len(TABLE_2) == len(TABLE_4) == 6
    assert "Table 2" not in devil.page({"scenes": {"count": 3}, "table_4": data["table_4"]})


def test_scorers():
    backbone = world.backbone()
    lang = attach(backbone, world.ColourTranslator())
    pictures = [Image.new("RGB", (32, 32), (255, 0, 0)), Image.new("RGB", (90, 90), (0, 0, 255))]
    cosines = translator_scorer(backbone, lang)(pictures, ["a blue thing", "a red thing"])
    assert cosines.argmax(dim=1).tolist() == [1, 0]
    with pytest.raises(ValueError, match="open_clip:NAME"):
        scorer_for("open_clip:", backbone)


def test_a_model_of_open_clip_scores():
    tower = {"width": 8, "layers": 1, "heads": 2}
    scorer = open_clip_scorer(
        "ViT-B-32",
        vision_cfg={"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8},
        text_cfg={"context_length": 77, "vocab_size": 49408, **tower},
        embed_dim=8,
    )
    pictures = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    cosines = scorer(pictures, ["a red thing", "a blue thing", "a hen"])
    assert cosines.shape == (2, 3)
    assert cosines.abs().max() <= 1 + 1e-5
    torch.testing.assert_close(scorer(pictures[1:], ["a hen"])[0, 0], cosines[1, 2])


def milan_folder(root, layers=("conv1", "layer4")):
    """MILANNOTATIONS' layout: two layers of two units with three pictures each."""
    source = np.random.default_rng(0)
    for layer in layers:
        (root / layer).mkdir(parents=True)
        images = source.integers(0, 60, (2, 3, 3, 64, 64), dtype=np.uint8)
        masks = np.zeros((2, 3, 1, 64, 64), dtype=np.uint8)
        for unit in range(2):
            images[unit, :, 2 if layer == "conv1" else 0, :32, :32] = 230  # what excites it is blue, or red
            masks[unit, :2, :, :32, :32] = 1  # the third picture has an empty mask
        np.save(root / layer / "images.npy", images)
        np.save(root / layer / "masks.npy", masks)
    np.save(root / "layer4" / "units.npy", np.array([7, 3]))
    rows = ["layer,unit,summary", "conv1,0,Blue squares.", "conv1,0,a blue square", "layer4,3,a red square"]
    (root / "annotations.csv").write_text("\n".join([*rows, "layer4,7, ", "conv1,1,blue things"]) + "\n")
    return root


def test_milannotations_are_described_under_their_masks(tmp_path):
    folder = milan_folder(tmp_path / "net")
    found = list(milannotations.units(folder))
    assert [(unit.layer, unit.number, unit.summaries) for unit in found] == [
        ("conv1", 0, ("Blue squares.", "a blue square")),
        ("conv1", 1, ("blue things",)),
        ("layer4", 3, ("a red square",)),
    ]
    backbone, lang = colour_lang()
    texts = [milannotations.describe_unit(backbone, lang, unit) for unit in found]
    assert texts == ["a blue square", "a blue square", "a red square"]
    empty = milannotations.Unit("conv1", 0, found[0].images, 0 * found[0].masks, ("x",))
    assert milannotations.describe_unit(backbone, lang, empty) is None


def test_milannotations_features_are_the_slow_means(tmp_path):
    """By hand: the mean under the mask of each picture that has one, then over these pictures."""
    unit = next(milannotations.units(milan_folder(tmp_path / "net")))
    backbone, lang = colour_lang()
    seen = []
    lang.translator.describe = lambda rows, **_: seen.extend(rows) or [Description("x", 0.0)]
    milannotations.describe_unit(backbone, lang, unit)
    (rows,) = seen
    assert set(rows.tokens) == {"fine", "coarse"}
    for layer, found in rows.tokens.items():
        means = []
        for picture in range(2):
            side = {"fine": 8, "coarse": 4}[layer]
            pixels = torch.from_numpy(unit.images[picture].astype(np.float32))[None] / 127.5 - 1
            mask = torch.from_numpy(unit.masks[picture].astype(np.float32))[None, None]
            grid = torch.nn.functional.interpolate(mask, (side, side), mode="bilinear", antialias=True)[0, 0]
            cells = torch.nn.functional.avg_pool2d(pixels, 64 // side)[0]
            total = sum(grid[r, c] * cells[:, r, c] for r in range(side) for c in range(side))
            means.append(total / grid.sum())
        torch.testing.assert_close(found[0, 0], torch.stack(means).mean(dim=0))


def test_broken_milannotations_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="layer, unit and summary"):
        list(milannotations.units(tmp_path))
    folder = milan_folder(tmp_path / "a")
    (folder / "annotations.csv").write_text("layer,unit,text\n")
    with pytest.raises(ValueError, match=r"lacks \['summary'\]"):
        list(milannotations.units(folder))
    (folder / "annotations.csv").write_text("layer,unit,summary\n")
    with pytest.raises(ValueError, match="annotates no unit"):
        list(milannotations.units(folder))
    folder = milan_folder(tmp_path / "b")
    np.save(folder / "conv1" / "masks.npy", np.zeros((2, 3, 1, 32, 64)))
    with pytest.raises(ValueError, match="do not fit"):
        list(milannotations.units(folder))
    folder = milan_folder(tmp_path / "c")
    np.save(folder / "conv1" / "images.npy", np.zeros((2, 3, 3, 64, 64), dtype=np.float32))
    with pytest.raises(ValueError, match="bytes"):
        list(milannotations.units(folder))
    (folder / "conv1" / "masks.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"masks\.npy"):
        list(milannotations.units(folder))


@pytest.fixture
def command(monkeypatch):
    """The command line on the world of colours, with no download."""
    world_backbone = world.backbone()
    named = Backbone(world_backbone.model, world_backbone.preprocess, world.NAMES, "colours")
    monkeypatch.setattr(backbones, "load", lambda name: named)
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *a, **k: LetterEncoder())
    loaded = "torchnle.evaluation.subject.Translator.from_pretrained"
    monkeypatch.setattr(loaded, lambda reference: world.ColourTranslator())
    monkeypatch.setattr("torchnle.data.scenes.Scenes.__init__", _small_scenes())
    return cli.main


def _small_scenes():
    from torchnle.data.scenes import Scenes

    made = Scenes.__init__

    def init(self, cutouts, backgrounds=None, **options):
        squares = [cutout for cutout in cutouts if cutout.phrase in world.PHRASES] or cutouts
        made(self, squares, backgrounds, **{**options, "size": world.SIZE})

    return init


def test_the_commands(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torchnle.evaluation.scenes.sentences.bert_score", lambda *a, **k: 0.5)
    monkeypatch.setattr(milannotations, "bert_score", lambda *a, **k: 0.5)
    out = ["--output", str(tmp_path)]
    some = ["--translator", "anything", "--count", "4", *out]
    assert command(["evaluate", "scenes", *some, "--probe", "20"]) == 0
    assert "## Local naming" in capsys.readouterr().out
    saved = json.loads((tmp_path / "scenes.json").read_text())
    assert saved["options"]["seed"] == "1"
    assert saved["scenes"]["probe"] == {"count": 20, "seed": 2}
    assert "commit" in saved["setting"]
    assert measure(["devil-tables", *some, "--no-dropout", "other", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["table_2"]) == {"none", "token and feature"}
    assert (tmp_path / "devil_tables.md").is_file()
    folder = milan_folder(tmp_path / "net")
    assert command(["evaluate", "milannotations", str(folder), *some]) == 0
    assert "on 3 units of net" in capsys.readouterr().out
    assert command(["evaluate", "class-maps", *some]) == 2
    assert "no picture's predicted class" in capsys.readouterr().err
    assert command(["evaluate", "scenes", *some, "--cutouts", str(tmp_path / "nowhere")]) == 2


def test_captions_in_every_order():
    scene = world.scenes(objects=(2, 2))[0]
    first, second = (thing.phrase for thing in scene.objects)
    orders = ([first, second], [second, first])
    assert references(scene) == [scene_caption(order, scene.location) for order in orders]
    assert scene.caption in references(scene)


@pytest.mark.parametrize(
    ("text", "phrase", "noun"),
    [
        ("a hen and the hen", 1, 1),
        ("a hen, an ox and a hen on grass", 1, 1),
        ("a red ball and a green ball", 0, 1),
        ("a hen on grass", 0, 0),
        ("a hand in sand and a band", 0, 0),
        ("", 0, 0),
    ],
)
def test_repetitions_are_counted_by_phrase_and_by_noun(text, phrase, noun):
    found = counted([text, "an owl"])
    assert (found["sentences"], found["phrase"], found["noun"]) == (2, phrase, noun)


def scene(log_prob, evidence):
    """One object with the text 0, at location 1 of a 1x2 grid, whose box is the right half."""
    masks = box_masks([(2, 0, 4, 2)], (2, 4))
    return SceneScores(torch.tensor(log_prob), torch.tensor(evidence), (1,), masks, (1, 2))


def test_the_weight_decides_which_score_counts():
    scored = [scene([[0.0, 0.0], [-3.0, -1.0]], [[0.0, 0.0], [1.0, 0.0]])]
    assert _hits(scored, 0.0) == {"first": 0.0, "in_box": 0.0}
    assert _hits(scored, 1.0)["first"] == 0.0
    assert _hits(scored, 4.0) == {"first": 1.0, "in_box": 1.0}
    assert _hits(scored, float("inf")) == {"first": 1.0, "in_box": 1.0}


def test_the_regression_finds_the_score_that_tells():
    source = torch.Generator().manual_seed(0)
    scored = []
    for _ in range(60):
        noise, told = torch.randn(2, 3, generator=source), torch.randn(2, 3, generator=source)
        told[1, 0] += 2.0
        scored.append(scene(noise.tolist(), told.tolist()))
    found = _regression(scored)
    assert found["evidence"] > 1.0
    assert abs(found["log_prob"]) < 0.5
