"""Locations: which part of the image a feature of a layer is of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from measurements.reliability.cases.case import (
    Found,
    Topic,
    equal,
    first_wrong,
    images,
    refused,
    refused_each,
)
from measurements.reliability.cases.models import SMALL, Tokens, attached, location_that_changes, translator
from torchnle import LanguageAttribution, suggest_layers
from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import resolve

TOPIC = Topic("locations")
case = TOPIC.case
#: Patch (2, 11) of 16 pixels of a picture of 224.
_PATCH = (slice(32, 48), slice(176, 192))


def _changed_location(lay: Any, **more: Any) -> Found:
    return equal(location_that_changes(Tokens(lay, **more), "out", images(1, 224, 224), _PATCH), (2, 11))


@case("196 patches, then 4 registers", "(2, 11)")
def registers_behind() -> Found:
    """Tokens without a location behind the patches."""
    return _changed_location(lambda p, r: torch.cat([p, r], 1))


@case("a class token last; registers between; on both sides; backwards; by columns; shuffled", "(2, 11) each")
def registers_elsewhere() -> Found:
    """Tokens without a location in other positions, and patches in another order."""
    order = torch.randperm(196, generator=torch.Generator().manual_seed(0))
    lays: dict[str, Any] = {
        "class token last": lambda p, r: torch.cat([p, r[:, :1]], 1),
        "between": lambda p, r: torch.cat([p[:, :90], r, p[:, 90:]], 1),
        "both sides": lambda p, r: torch.cat([r[:, :1], p, r[:, 1:]], 1),
        "backwards": lambda p, r: torch.cat([r, p.flip(1)], 1),
        "columns": lambda p, r: p.unflatten(1, (14, 14)).transpose(1, 2).flatten(1, 2),
        "shuffled": lambda p, r: torch.cat([p[:, order], r], 1),
    }
    return first_wrong([(name, _changed_location(lay)) for name, lay in lays.items()])


@case("a picture of 96 x 224 with registers behind", "(2, 11)")
def oblong_tokens() -> Found:
    """Tokens of a picture that is not square."""
    model = Tokens(lambda p, r: torch.cat([p, r], 1))
    return equal(location_that_changes(model, "out", images(1, 96, 224), _PATCH), (2, 11))


@case("196 tokens that are queries and answer to no patch", "an error that asks, with what to pass")
def queries() -> Found:
    """As many tokens as patches that are none."""
    model = Tokens(lambda p, r: r[:, :1] * torch.arange(196.0)[None, :, None] + p.mean(1, keepdim=True))
    return refused(lambda: read(model, resolve(model, "out"), images(1, 224, 224)), r"Reading\(grid=")


@case("num_prefix_tokens=4 where the registers lie behind", "an error that states where the first patch is")
def stated_wrongly() -> Found:
    """A reading that is contradicted by the model."""
    model = Tokens(lambda p, r: torch.cat([p, r], 1))
    given = Reading(num_prefix_tokens=4)
    return refused(
        lambda: read(model, resolve(model, "out"), images(1, 224, 224), None, given), "token 0 of 200"
    )


@case("VideoMAE, 8 frames", "an error that says video", "transformers")
@torch.no_grad()
def video() -> Found:
    """The tokens of a video."""
    import transformers

    model: Any = transformers.VideoMAEModel(transformers.VideoMAEConfig(**SMALL, num_frames=8)).eval()
    return refused(
        lambda: read(model, resolve(model, "embeddings"), torch.randn(1, 8, 3, 224, 224)), "video|frames"
    )


@case("VivitModel, 8 frames; Conv3d maps (N, C, frames, rows, columns)", "an error each", "transformers")
@torch.no_grad()
def other_videos() -> Found:
    """Other models of videos."""
    import transformers

    config = transformers.VivitConfig(**SMALL, num_frames=8, image_size=32, tubelet_size=[2, 16, 16])
    vivit: Any = transformers.VivitModel(config).eval()
    conv = nn.Sequential(nn.Conv3d(3, 4, 3, 2, 1)).eval()
    tried = [
        ("vivit", refused(lambda: read(vivit, resolve(vivit, "embeddings"), torch.randn(1, 8, 3, 32, 32)))),
        ("conv3d", refused(lambda: read(conv, resolve(conv, "0"), torch.randn(1, 3, 8, 32, 32)))),
    ]
    return first_wrong(tried)


class _Last(nn.Module):
    """Takes (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.conv(x.movedim(-1, 1))
        return maps


@case("a model that takes (1, 48, 64, 3)", "a map of (1, 1, 48, 64)")
def channels_last() -> Found:
    """Images with their channels last."""
    lang = LanguageAttribution(_Last().eval(), "conv", translator("conv", 32))
    return equal(tuple(lang.saliency(torch.rand(1, 48, 64, 3), ["w3 w4"]).shape), (1, 1, 48, 64))


@case("a model that gives maps (N, H, W, C)", "(1, 5), where the patch changed")
def maps_last() -> Found:
    """Maps with their channels last."""
    conv = nn.Conv2d(3, 32, 16, 16)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = conv, nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            maps: Tensor = self.out(self.conv(x).movedim(1, -1))
            return maps

    patch = (slice(16, 32), slice(80, 96))
    return equal(location_that_changes(Model().eval(), "out", images(1, 96, 128), patch), (1, 5))


@case(
    "a map whose rows and columns a model has turned or exchanged",
    "(1, 2), where the patch changed, or an error",
)
def turned_maps() -> Found:
    """Maps that are transposed, mirrored or rolled."""
    patch, tried = (slice(16, 32), slice(32, 48)), []
    ways: dict[str, Any] = {
        "transposed": lambda y: y.transpose(2, 3),
        "rolled by half": lambda y: y.roll(4, 3),
        "flipped": lambda y: y.flip(3),
    }
    for name, way in ways.items():
        model = nn.Sequential(nn.Conv2d(3, 32, 16, 16), _Way(way)).eval()
        try:
            found = equal(location_that_changes(model, "1", images(1, 128, 128), patch), (1, 2))
        except ValueError:
            found = refused(lambda model=model: location_that_changes(model, "1", images(1, 128, 128), patch))
        tried.append((name, found))
    return first_wrong(tried)


class _Way(nn.Module):
    def __init__(self, way: Any) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Any:
        return self.way(x)


@case(
    "blocks.5.attn.k_norm and attn_drop of vit_tiny_patch16_224, 64 pixels",
    "an error that says heads, or no grid",
    "timm",
)
@torch.no_grad()
def attention_heads() -> Found:
    """Keys and attention weights, one a head."""
    import timm

    model = timm.create_model("vit_tiny_patch16_224", qk_norm=True, img_size=64).eval()
    model.blocks[5].attn.fused_attn = False
    x, names = images(1, 64, 64), ("blocks.5.attn.k_norm", "blocks.5.attn.attn_drop")
    tried = refused_each(names, lambda name: read(model, resolve(model, name), x), "head")
    return first_wrong(tried)


def _detector(name: str, **more: Any) -> Any:
    import torchvision

    torch.manual_seed(0)
    return getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, **more).eval()


@case("fasterrcnn of min_size=128 and a picture of 128 x 200", "an error that says it pads", "torchvision")
def padded_detector() -> Found:
    """A detector that pads at the right and below."""
    model = _detector("fasterrcnn_mobilenet_v3_large_320_fpn", min_size=128, max_size=256)
    return refused(lambda: read(model, resolve(model, "backbone.body.16"), images(1, 128, 200)), "pads")


@case("fasterrcnn of min_size=64 and a picture of 64 x 96", "the patch's own location", "torchvision")
def fitting_detector() -> Found:
    """A detector and a picture that needs no padding."""
    model = _detector("fasterrcnn_mobilenet_v3_large_320_fpn", min_size=64, max_size=128)
    patch = (slice(32, 64), slice(64, 96))
    return equal(location_that_changes(model, "backbone.body.16", images(1, 64, 96), patch), (1, 2))


@case("layers of fasterrcnn_resnet50_fpn", "layer2 to layer4 and the pyramid's levels", "torchvision")
def detector_layers() -> Found:
    """The layers suggested for a detector."""
    model = _detector("fasterrcnn_resnet50_fpn")
    names = [layer.name for layer in suggest_layers(model, images(1, 128, 128))]
    wanted = ["layer2", "layer3", "layer4", "fpn"]
    lacking = [each for each in wanted if not any(each in name for name in names)]
    return ", ".join(names[-6:]) + (f" (lacks {lacking})" if lacking else ""), not lacking


@case("layers of deeplabv3_resnet50", "those of its backbone", "torchvision")
def segmenter_layers() -> Found:
    """The layers suggested for a segmentation model."""
    import torchvision

    model = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None).eval()
    names = [layer.name for layer in suggest_layers(model, images(1, 64, 64))]
    return ", ".join(names[-6:]), {"backbone.layer3", "backbone.layer4"} <= set(names)


@case("deeplabv3_mobilenet_v3_large of 21 classes", "maps (1, 1, 96, 96); the head named", "torchvision")
def segmenter_head() -> Found:
    """A head that scores every location."""
    import torchvision

    torch.manual_seed(0)
    make = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large
    model = make(weights=None, weights_backbone=None).eval()
    names = [f"{chr(97 + n)} kind" for n in range(21)]
    lang = attached(model, images(1, 96, 96), names)
    shape = tuple(lang.saliency(images(1, 96, 96), ["a cat"]).shape)
    return f"{shape}; {lang.summary[:60]}", shape == (1, 1, 96, 96) and "classifier.4" in lang.summary
