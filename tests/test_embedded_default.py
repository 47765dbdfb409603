"""What the embedded default must show: a real classifier, put into words on real photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from captum.attr import NoiseTunnel
from PIL import Image

from torchnle import LanguageAttribution, backbones, images
from torchnle.cli import main

pytestmark = pytest.mark.real

#: Written down before any of them was scored.
QUERIES = [
    "a cat",
    "a cup of coffee",
    "a rocket launch",
    "a motorcycle",
    "a dog",
    "a bicycle",
    "a bowl of soup",
    "a piano",
    "a beach",
    "a castle",
    "a bird",
    "a forest",
    "a guitar",
    "a laptop",
    "a sandwich",
    "a ship",
    "a mountain",
    "a clock",
    "a horse",
    "a spoon",
]
PHOTOS = {
    "chelsea.png": "a cat",
    "coffee.png": "a cup of coffee",
    "rocket.jpg": "a rocket launch",
    "motorcycle_left.png": "a motorcycle",
}


def path_of(name):
    import skimage.data

    return Path(skimage.data.__file__).parent / name


@pytest.fixture(scope="module")
def backbone():
    return backbones.load("efficientnet-lite0")


@pytest.fixture(scope="module")
def lang(backbone):
    return LanguageAttribution.from_classifier(backbone.model, backbone.class_names)


@pytest.fixture(scope="module")
def x(backbone):
    return torch.stack([backbone.preprocess(images.open_image(path_of(name))) for name in PHOTOS])


def test_it_says_what_it_chose(lang):
    assert "'_fc'" in lang.summary
    assert "7x7" in lang.summary


def test_everyday_queries_rank_right(lang, x):
    with torch.no_grad():
        scores = lang.text_score(QUERIES)(x)
    assert [QUERIES[i] for i in scores.argmax(dim=1).tolist()] == list(PHOTOS.values())
    best, second = scores.topk(2).values.unbind(dim=1)
    assert (best > second + 0.02).all()


def test_maps_are_highest_on_the_thing(lang, x):
    maps = lang.saliency(x, ["a cat", "a motorcycle"], interpolate_mode=None)
    cat, machine = maps[0, 0], maps[3, 1]
    # chelsea's face fills the crop but for its right edge
    row, column = divmod(int(cat.argmax()), 7)
    assert 1 <= row <= 5
    assert column <= 5
    assert cat[2:6, 1:6].mean() > cat[:, 6].mean() + 0.05
    # the machine stands in the middle rows; above it are shelves, below it is the floor
    row, column = divmod(int(machine.argmax()), 7)
    assert 2 <= row <= 5
    assert column <= 5
    assert machine[2:5, :5].mean() > machine[[0, 1, 6]].mean() + 0.05


def test_descriptions_name_the_thing(lang, x):
    words = ("cat", "coffee|espresso", "rocket|missile", "motorcycle|moped")
    for description, word in zip(lang.describe(x), words, strict=True):
        assert any(w in description.text for w in word.split("|")), description


def test_a_batch_is_its_images_one_by_one(lang, x):
    together = lang.saliency(x, QUERIES, interpolate_mode=None)
    alone = torch.cat([lang.saliency(image[None], QUERIES, interpolate_mode=None) for image in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        lang.saliency(x[order], QUERIES, interpolate_mode=None), together[order], atol=1e-5, rtol=0
    )


def test_noise_tunnel_runs_unchanged(lang, x):
    smooth = NoiseTunnel(lang).attribute(x[:2], nt_samples=2, stdevs=0.1, target=["a cat", "a spoon"])
    assert smooth.shape == x[:2].shape


def test_where_and_whole_agree_with_the_head(lang, backbone, x):
    with torch.no_grad():
        logits = backbone.model(x)
    features = lang.reading.pool(lang.read(x)[0], None)
    weight, bias = backbone.model._fc.weight, backbone.model._fc.bias
    torch.testing.assert_close(features.rows @ weight.T + bias, logits, atol=1e-4, rtol=1e-4)


def test_the_command_line_describes_any_photograph(tmp_path, capsys):
    rotated = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path_of("chelsea.png")).rotate(90, expand=True).save(rotated, exif=exif)
    grey = tmp_path / "grey.png"
    Image.open(path_of("coffee.png")).convert("L").resize((640, 100)).save(grey)
    assert (
        main(["describe", str(rotated), str(grey), "--locations", "--output", str(tmp_path), "--json"]) == 0
    )
    turned, flat = json.loads(capsys.readouterr().out)
    assert {"cat", "Mau"} & set(turned["whole"]["text"].split())
    assert len(flat["locations"]) == 49
    assert (tmp_path / "turned_words.png").is_file()


def test_the_command_line_maps_texts(tmp_path, capsys):
    photo = str(path_of("motorcycle_left.png"))
    assert (
        main(["saliency", photo, "--text", "a cat", "--text", "a motorcycle", "--output", str(tmp_path)]) == 0
    )
    out = capsys.readouterr().out
    assert "a motorcycle: mean" in out
    assert (tmp_path / "motorcycle_left_saliency.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "missing.png"], "missing.png"),
        (["saliency", "{photo}", "--text", " "], "blank"),
        (["describe", "{photo}", "--output", "{photo}"], "cannot write"),
    ],
)
def test_bad_command_lines_say_one_sentence(arguments, message, capsys):
    photo = str(path_of("coffee.png"))
    assert main([argument.format(photo=photo) for argument in arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
