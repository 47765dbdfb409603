"""Networks that cannot be continued from a layer: a path bypasses it, or nothing depends on it."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from torchnle.vision.features import Features
from torchnle.vision.lens.fitted import FittedLens, RidgeSums
from torchnle.vision.lens.lens import Lens
from torchnle.vision.reading import Reading

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.bottom = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.up, self.last = nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(8, 5, 3, 1, 1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        early = self.down(x).relu()
        late = self.up(self.bottom(early).relu())
        return self.head(self.last(torch.cat([early, late], dim=1)).mean(dim=(2, 3)))


class Parallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 4, 3, 2, 1)
        self.last, self.auxiliary = nn.Conv2d(4, 5, 3, 2, 1), nn.Linear(4, 2)

    def forward(self, x):
        aside = self.auxiliary(self.unused(x).mean(dim=(2, 3)))
        return self.last(self.used(x)), aside


def seeded(build):
    torch.manual_seed(0)
    return build().eval()


def vit():
    return timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5
    )


@pytest.mark.parametrize("layer", ["down", "bottom", "up"])
def test_the_layers_of_a_unet_are_bypassed_by_its_skips(layer):
    model = seeded(UNet)
    if layer == "down":  # everything passes through the first
        Lens(model, layer, "last", example=IMAGES)
        return
    with pytest.raises(ValueError, match=rf"\d+% of the input of layer 'last' bypasses layer '{layer}'"):
        Lens(model, layer, "last", example=IMAGES)


@pytest.mark.parametrize("layer", ["denseblock2.denselayer1", "denseblock2.denselayer2"])
def test_the_inner_layers_of_a_densenet_are_bypassed(layer):
    model = seeded(lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=3))
    with pytest.raises(ValueError, match="suggest_layers"):
        Lens(model, f"features.{layer}", "features", example=IMAGES)
    Lens(model, "features.denseblock1", "features", example=IMAGES)


def test_the_inside_of_a_residual_block_is_bypassed_and_its_end_is_not():
    model = seeded(vit)
    with pytest.raises(ValueError, match=r"bypasses layer 'blocks\.0\.mlp'"):
        Lens(model, "blocks.0.mlp", "norm", example=IMAGES)


def test_a_part_that_passes_round_is_measured():
    class Leaky(nn.Module):
        def __init__(self, share):
            super().__init__()
            self.layer, self.end, self.share = nn.Conv2d(3, 3, 1), nn.Identity(), share

        def forward(self, x):
            return self.end((1 - self.share) * self.layer(x) + self.share * x)

    torch.manual_seed(0)
    Lens(Leaky(0.0).eval(), "layer", "end", example=IMAGES)
    with pytest.raises(ValueError, match=r"bypasses layer 'layer'"):
        Lens(Leaky(0.01).eval(), "layer", "end", example=IMAGES)


@pytest.mark.parametrize(("layer", "end"), [("unused", "last"), ("last", "used")])
def test_a_layer_that_the_deeper_one_does_not_depend_on_is_refused(layer, end):
    with pytest.raises(ValueError, match=f"'{end}' does not depend on layer '{layer}'"):
        Lens(seeded(Parallel), layer, end, example=IMAGES)


def first_token(features, where):
    return Features(features.extra[:, :1], features.layer) if where is None else features.select(where)


def test_behind_the_last_attention_only_the_class_token_counts():
    model, class_token = seeded(vit), Reading(pool=first_token)
    with pytest.raises(ValueError, match="class token alone"):
        Lens(model, "blocks.1", "norm", example=IMAGES, end_reading=class_token)
    Lens(model, "blocks.0", "norm", example=IMAGES, end_reading=class_token)


def test_a_model_that_is_blind_is_not_believed():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.end = nn.Conv2d(3, 4, 3), nn.Identity()

        def forward(self, x):
            return self.end(0 * self.layer(x) + 1)

    with pytest.raises(ValueError, match="the same for a blank image and for noise"):
        Lens(seeded(Blind), "layer", "end", example=IMAGES)


def test_tensors_that_select_makes_cannot_be_put_back():
    model = seeded(UNet)
    with pytest.raises(ValueError, match="select="):
        Lens(model, "down", "last", example=IMAGES, reading=Reading(select=lambda x: x.flip(1)))


def test_what_is_asked_for_is_checked():
    model = seeded(UNet)
    with pytest.raises(ValueError, match="batch_size=0"):
        Lens(model, "down", "last", example=IMAGES, batch_size=0)
    with pytest.raises(ValueError, match="names 5 layers"):
        Lens(model, "*", "last", example=IMAGES)
    lens = Lens(model, "down", "last", example=IMAGES)
    with pytest.raises(ValueError, match=r"width 9 .* of width 4"):
        lens.rows(torch.zeros(1, 9))
    with pytest.raises(ValueError, match="width 9"):
        FittedLens(torch.eye(4), torch.zeros(4)).rows(torch.zeros(1, 9))
    sums = RidgeSums(2, 2)
    with pytest.raises(ValueError, match="0 location"):
        sums.solve()
    sums.add(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="the same features"):
        sums.solve()
