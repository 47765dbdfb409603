"""The lens beside slow loops by hand: each location's feature everywhere, the rest of the model, the head."""

import pytest
import timm
import torch
from torch import nn
from transformers import SwinConfig, SwinForImageClassification, ViTConfig, ViTForImageClassification

from torchnle.heads.classifier_head import find_head
from torchnle.vision.lens.lens import Lens
from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import resolve

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def vit(**options):
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2, "num_classes": 5}
    return timm.models.VisionTransformer(**sizes, **options).eval()


def swin():
    torch.manual_seed(0)
    return timm.models.SwinTransformer(
        img_size=32, patch_size=2, embed_dim=8, depths=(2, 2, 2), num_heads=(2, 2, 2), window_size=4,
        num_classes=5,
    ).eval()  # fmt: skip


def convnet():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 7, 3, 2, 1), nn.ReLU(), nn.Conv2d(7, 9, 3, 1, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 5),
    ).eval()  # fmt: skip


def lens_of(model, layer, **options):
    head = find_head(model, IMAGES)
    given = {"smooth": False, **options}
    return Lens(model, layer, head.tap, example=IMAGES, end_reading=head.reading, **given)


def features_of(model, layer, images=IMAGES):
    return read(model, resolve(model, layer), images)[0]


def by_hand(given, upper):
    """`upper` of each image's each location alone: (images, locations, W)."""
    return torch.stack([torch.stack([upper(vector) for vector in image]) for image in given])


@torch.no_grad()
def test_a_vit_with_a_class_token_gives_what_its_blocks_give_by_hand():
    model = vit()
    tokens = model.blocks[:2](model.pos_drop(model._pos_embed(model.patch_embed(IMAGES))))
    blank = model.blocks[:2](model.pos_drop(model._pos_embed(model.patch_embed(torch.zeros(1, 3, 32, 32)))))

    def upper(vector):
        filled = torch.cat([blank[:, :1], vector.expand(1, 16, 16)], dim=1)
        return model.norm(model.blocks[2:](filled))[0, 0]

    found = lens_of(model, "blocks.1", batch_size=5).read(features_of(model, "blocks.1"), "all")
    torch.testing.assert_close(found.tokens, by_hand(tokens[:, 1:], upper), atol=1e-5, rtol=0)
    assert (found.grid, found.layer) == ((4, 4), "blocks.1")


@torch.no_grad()
def test_a_vit_without_a_class_token_gives_what_its_blocks_give_by_hand():
    model = vit(class_token=False, global_pool="avg")
    tokens = model.blocks[:3](model.pos_drop(model._pos_embed(model.patch_embed(IMAGES))))

    def upper(vector):
        return model.fc_norm(model.norm(model.blocks[3:](vector.expand(1, 16, 16))).mean(dim=1))[0]

    found = lens_of(model, "blocks.2").read(features_of(model, "blocks.2"), "all")
    torch.testing.assert_close(found.tokens, by_hand(tokens, upper), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_swin_gives_what_its_stages_give_by_hand():
    model = swin()
    maps = model.layers[0](model.patch_embed(IMAGES))

    def upper(vector):
        x = vector.expand(1, *maps.shape[1:])
        return model.norm(model.layers[2](model.layers[1](x))).mean(dim=(1, 2))[0]

    found = lens_of(model, "layers.0", batch_size=100).read(features_of(model, "layers.0"), "all")
    torch.testing.assert_close(found.tokens, by_hand(maps.flatten(1, 2), upper), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_convolutional_network_gives_what_its_layers_give_by_hand():
    model = convnet()
    maps = model[:2](IMAGES)

    def upper(vector):
        return model[2:7](vector[:, None, None].expand(1, 6, 16, 16))[0]

    found = lens_of(model, "1").read(features_of(model, "1"), "all")
    torch.testing.assert_close(
        found.tokens, by_hand(maps.flatten(2).transpose(1, 2), upper), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_models_of_transformers_give_what_their_layers_give_by_hand():
    torch.manual_seed(0)
    sizes = {"image_size": 32, "num_labels": 5, "num_attention_heads": 2, "hidden_size": 16}
    model = ViTForImageClassification(
        ViTConfig(**sizes, patch_size=8, num_hidden_layers=3, intermediate_size=16)
    ).eval()
    blocks = {name: part for name, part in model.named_modules() if type(part).__name__ == "ViTLayer"}
    first, *later = blocks
    lens, features = lens_of(model, first), features_of(model, first)
    blank = model(torch.zeros(1, 3, 32, 32), output_hidden_states=True).hidden_states[1]

    def upper(vector):
        filled = torch.cat([blank[:, :1], vector.expand(1, 16, 16)], dim=1)
        for name in later:
            out = blocks[name](filled)
            filled = out if isinstance(out, torch.Tensor) else out[0]  # a tuple in older versions
        return model.vit.layernorm(filled)[0, 0]

    found = lens.read(features, "all").tokens
    torch.testing.assert_close(found, by_hand(features.tokens, upper), atol=1e-5, rtol=0)

    config = SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4, num_labels=5
    )
    model = SwinForImageClassification(config).eval()
    name = "swin.encoder.layers.0"
    found = lens_of(model, name).read(features_of(model, name), (1, 2)).tokens
    assert found.shape == (2, 1, 16)
    assert found.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("location", [(0, 0), (3, 5), (7, 4)])
def test_neighbours_are_averaged_by_binomial_weights_where_they_exist(location):
    model = convnet()
    lens, features = lens_of(model, "3", smooth=True), features_of(model, "3")
    maps, total, weights = features.fold(features.tokens), 0, 0
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row, column = location[0] + down, location[1] + right
            if 0 <= row < 8 and 0 <= column < 8:
                weight = 4 / 2 ** (abs(down) + abs(right))
                total, weights = total + weight * maps[:, row, column], weights + weight
    found = lens.read(features, location)
    torch.testing.assert_close(found.tokens[:, 0], lens.rows(total / weights), atol=1e-5, rtol=0)
    assert found.locations == (location,)


@torch.no_grad()
def test_a_whole_image_and_a_mask_are_the_means_of_their_mapped_locations():
    model = convnet()
    lens, features = lens_of(model, "3", smooth=True), features_of(model, "3")
    mapped = lens.read(features, "all")
    maps = mapped.fold(mapped.tokens)
    whole = lens.read(features, None)
    torch.testing.assert_close(whole.tokens[:, 0], maps.mean(dim=(1, 2)))
    assert whole.locations == (None,)
    mask = torch.zeros(8, 8)
    mask[2, 3:5] = 1
    torch.testing.assert_close(lens.read(features, mask).tokens[:, 0], maps[:, 2, 3:5].mean(dim=1))


@torch.no_grad()
@pytest.mark.parametrize(("model", "layer"), [(vit(), "blocks.1"), (swin(), "layers.0"), (convnet(), "1")])
def test_one_location_alone_is_one_of_all_and_images_do_not_mix(model, layer):
    lens, features = lens_of(model, layer, batch_size=7), features_of(model, layer)
    every = lens.read(features, "all")
    columns = features.grid[1]
    torch.testing.assert_close(
        lens.read(features, (1, 2)).tokens[:, 0], every.tokens[:, columns + 2], atol=1e-5, rtol=0
    )
    turned = lens.read(features.images([1, 0]), "all")
    torch.testing.assert_close(turned.tokens, every.tokens.flip(0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_location_runs_the_upper_part_once_and_no_more():
    model, seen = convnet(), []
    lens, features = lens_of(model, "1", batch_size=64), features_of(model, "1")
    model[2].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    model[0].register_forward_hook(lambda _, inputs, __: seen.append(-len(inputs[0])))
    lens.read(features, (0, 0))
    assert seen == [-1, 2]  # one image below, one activation an image above
    del seen[:]
    lens.read(features, "all")
    assert seen == [-1, 64] * 8


class CountsItsImages(nn.Module):
    """Remembers the size of the batch from the beginning on, as some models do."""

    def __init__(self):
        super().__init__()
        self.below, self.above = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 7)

    def forward(self, x):
        count = x.shape[0]
        tokens = self.below(x).flatten(2).transpose(1, 2)
        return self.above(tokens.reshape(count, -1, 6).mean(dim=1))


@torch.no_grad()
def test_a_model_that_remembers_the_size_of_its_batch_is_run_on_as_many_images():
    torch.manual_seed(0)
    model = CountsItsImages().eval()
    lens = Lens(model, "below", "above", example=IMAGES, smooth=False)
    assert not lens.upper.on_one
    vectors = torch.randn(5, 6)
    torch.testing.assert_close(lens.rows(vectors), model.above(vectors), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_layer_is_read_on_its_input_side_and_out_of_several_tensors():
    model = convnet()
    inside = lens_of(model, "2:input").read(features_of(model, "2:input"), (0, 1))
    torch.testing.assert_close(
        inside.tokens, lens_of(model, "1").read(features_of(model, "1"), (0, 1)).tokens
    )

    class Pair(nn.Module):
        def forward(self, x):
            return {"size": x.shape[-2:], "maps": (x[:, :1] * 0, x.relu())}

    class Second(nn.Module):
        def forward(self, given):
            return given["maps"][1]

    paired = nn.Sequential(model[0], Pair(), Second(), *model[2:])
    second = Reading(select=lambda given: given["maps"][1])
    lens = lens_of(paired, "1", reading=second)
    (features,) = read(paired, resolve(paired, "1"), IMAGES, reading=second)
    torch.testing.assert_close(lens.read(features, (0, 1)).tokens, inside.tokens)


def test_gradients_reach_the_input_through_the_lens():
    model = convnet()
    lens = lens_of(model, "1")
    images = IMAGES.clone().requires_grad_()
    lens.read(features_of(model, "1", images), (2, 2)).tokens.sum().backward()
    touched = images.grad.abs().sum(dim=(0, 1)) > 0
    assert touched[3:6, 3:6].all()
    assert touched.sum() == 9  # the location's own patch, and nothing else


def test_no_hook_and_no_flag_is_left_behind():
    model = convnet().train()
    lens = lens_of(model, "1")
    lens.read(features_of(model, "1"), (0, 0))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_half_precision_is_read_in_its_own_dtype():
    model = convnet().bfloat16()
    images = IMAGES.bfloat16()
    lens = Lens(model, "1", "4", example=images)
    found = lens.read(features_of(model, "1", images), (0, 0))
    exact = Lens(convnet(), "1", "4", example=IMAGES).read(features_of(convnet(), "1"), (0, 0))
    assert found.tokens.dtype == torch.float32
    torch.testing.assert_close(found.tokens, exact.tokens, atol=0.05, rtol=0.05)


def test_the_cost_is_the_share_of_operations_above_the_layer():
    model = convnet()
    below, above = 16 * 16 * 6 * 27, 8 * 8 * 7 * 54 + 8 * 8 * 9 * 63
    lens = lens_of(model, "1")
    assert lens.cost == pytest.approx(above / (below + above + 45))  # the head's 45 products are not run
    assert "all 256 of an image" in lens.summary
