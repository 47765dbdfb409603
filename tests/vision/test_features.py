"""Features against loops over their locations, and every refusal."""

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchnle.vision.features import Features, check_activation
from torchnle.vision.layouts import Hints, hints_for
from torchnle.vision.taps import record, resolve


def numbered(*shape):
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


@pytest.fixture
def features():
    torch.manual_seed(0)
    return Features(torch.randn(2, 6, 3), layer="layer4", grid=(2, 3), extra=torch.randn(2, 2, 3))


class TestFromActivation:
    def test_every_value_of_a_map_is_at_its_place(self):
        maps = numbered(2, 5, 3, 4)
        features = Features.from_activation(maps, "conv", layout="NCHW")
        assert features.grid == (3, 4)
        for n in range(2):
            for r in range(3):
                for c in range(4):
                    assert torch.equal(features.tokens[n, r * 4 + c], maps[n, :, r, c])
                    assert features.locations[r * 4 + c] == (r, c)

    def test_channel_last_maps_give_the_same(self):
        maps = numbered(2, 50, 3, 4)
        first = Features.from_activation(maps, "l", input_size=(24, 32))
        last = Features.from_activation(maps.permute(0, 2, 3, 1), "l", input_size=(24, 32))
        assert torch.equal(first.tokens, last.tokens)
        assert first.grid == last.grid == (3, 4)

    @pytest.mark.parametrize("prefix", [0, 1, 2, 5])
    def test_tokens_lose_what_stands_in_front(self, prefix):
        tokens = numbered(2, prefix + 48, 3)
        features = Features.from_activation(tokens, "norm", input_size=(96, 128))
        assert features.grid == (6, 8)
        assert torch.equal(features.tokens, tokens[:, prefix:])
        if prefix == 0:
            assert features.extra is None
        else:
            assert torch.equal(features.extras().tokens, tokens[:, :prefix])

    def test_vectors_are_one_token_without_place(self):
        features = Features.from_activation(numbered(2, 5), "fc")
        assert features.tokens.shape == (2, 1, 5)
        assert features.grid is None
        assert features.locations == (None,)

    def test_arguments_are_passed_on(self):
        tokens = torch.zeros(2, 9, 4)
        assert Features.from_activation(tokens, "l", grid=(2, 4)).extra.shape == (2, 1, 4)
        assert Features.from_activation(tokens, "l", num_prefix_tokens=5).grid == (2, 2)
        assert Features.from_activation(tokens, "l", hints=Hints(num_prefix_tokens=5)).grid == (2, 2)

    def test_gradients_flow(self):
        maps = numbered(1, 2, 2, 2).requires_grad_()
        Features.from_activation(maps, "l", layout="NCHW").select((0, 1)).tokens.sum().backward()
        assert maps.grad.tolist() == [[[[0, 1], [0, 0]], [[0, 1], [0, 0]]]]

    def test_dtypes_are_kept(self):
        for dtype in (torch.bfloat16, torch.float16, torch.float64):
            assert Features.from_activation(torch.zeros(2, 5, dtype=dtype), "l").tokens.dtype == dtype

    def test_whole_numbers_are_refused(self):
        with pytest.raises(TypeError, match=r"layer 'argmax' gave torch\.int64"):
            Features.from_activation(torch.zeros(2, 5, dtype=torch.long), "argmax")

    def test_another_batch_is_refused(self):
        with pytest.raises(ValueError, match=r"layer 'window' gave shape \(8, 49, 3\) for a batch of 2"):
            Features.from_activation(torch.zeros(8, 49, 3), "window", batch_size=2)
        with pytest.raises(ValueError, match=r"sequence first: pass select="):
            Features.from_activation(torch.zeros(49, 2, 3), "resblocks.0", batch_size=2)


class TestRealArchitectures:
    """Random weights, real shapes; the input is not square, so that rows and columns cannot be confused."""

    SIZE = (96, 128)

    def read(self, model, layer, size=SIZE, hinted=True):
        (tap,) = resolve(model, layer)
        with torch.no_grad():
            (activation,) = record(model, [tap], torch.randn(2, 3, *size))
        hints = hints_for(model, tap.module, tap.at) if hinted else None
        return Features.from_activation(activation, tap.name, batch_size=2, input_size=size, hints=hints)

    @pytest.mark.parametrize("hinted", [True, False])
    @pytest.mark.parametrize(
        ("name", "layer", "grid", "prefix"),
        [
            ("resnet18", "layer4", (3, 4), 0),
            ("convnext_atto", "stages.1", (12, 16), 0),
            ("vit_tiny_patch16_224", "blocks.3", (6, 8), 1),
            ("vit_tiny_patch16_224", "patch_embed", (6, 8), 0),
            ("deit_tiny_distilled_patch16_224", "norm", (6, 8), 2),
            ("vit_tiny_patch16_dinov3_qkvb", "norm", (6, 8), 5),
        ],
    )
    def test_timm(self, name, layer, grid, prefix, hinted):
        timm = pytest.importorskip("timm")
        if not timm.is_model(name):
            pytest.skip(f"this timm has no {name}")
        size = {"img_size": self.SIZE} if "patch16" in name else {}
        features = self.read(timm.create_model(name, **size), layer, hinted=hinted)
        assert features.grid == grid
        assert (0 if features.extra is None else features.extra.shape[1]) == prefix

    def test_timm_registers_with_a_dynamic_image_size(self):
        timm = pytest.importorskip("timm")
        model = timm.create_model("vit_small_patch14_reg4_dinov2", dynamic_img_size=True, depth=1)
        features = self.read(model, "norm", size=(98, 126))
        assert features.grid == (7, 9)
        assert features.extra.shape == (2, 5, 384)

    def test_torchvision(self):
        models = pytest.importorskip("torchvision.models")
        swin = models.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4])
        assert self.read(swin, "features.1").grid == (24, 32)
        assert self.read(swin, "features.3").grid == (12, 16)
        vit = models.VisionTransformer(64, 16, 1, 2, 32, 64)
        features = self.read(vit, "encoder", size=(64, 64))
        assert features.grid == (4, 4)
        assert features.extra.shape == (2, 1, 32)

    def test_transformers(self):
        import transformers

        shared = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 16}
        vit = transformers.ViTModel(
            transformers.ViTConfig(image_size=self.SIZE, intermediate_size=64, **shared)
        )
        assert self.read(vit, "layernorm").grid == (6, 8)
        dino = transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(image_size=64, **shared)
        )
        features = self.read(dino, "layernorm")
        assert features.grid == (6, 8)
        assert features.extra.shape == (2, 5, 32)


class TestSelect:
    def test_none_is_the_mean_and_all_is_everything(self, features):
        expected = sum(features.tokens[:, i] for i in range(6)) / 6
        whole = features.select(None)
        torch.testing.assert_close(whole.tokens[:, 0], expected)
        assert whole.grid is None
        assert whole.locations == (None,)
        assert features.select("all") is features

    def test_a_location_counts_from_either_end(self, features):
        for location in [(1, 2), (-1, 2), (1, -1), (-1, -1)]:
            chosen = features.select(location)
            assert torch.equal(chosen.tokens[:, 0], features.tokens[:, 5])
            assert chosen.locations == ((1, 2),)

    @pytest.mark.parametrize("location", [(2, 0), (0, 3), (-3, 0), (0, -4)])
    def test_a_location_outside(self, features, location):
        with pytest.raises(ValueError, match="lies outside the 2x3 grid of layer 'layer4'"):
            features.select(location)

    def test_an_unknown_word(self, features):
        jaxtyping.config.update("jaxtyping_disable", True)  # as users run it: the words are checked by hand
        try:
            with pytest.raises(ValueError, match="where='every'; pass None, 'all'"):
                features.select("every")
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    def test_vectors_have_no_places(self):
        vector = Features(torch.randn(2, 1, 3), layer="fc")
        assert torch.equal(vector.select(None).tokens, vector.tokens)
        for where in [(0, 0), torch.ones(4, 4)]:
            with pytest.raises(ValueError, match="layer 'fc' has no spatial grid"):
                vector.select(where)

    def test_a_permuted_batch_permutes(self, features):
        swapped = Features(features.tokens.flip(0), "layer4", (2, 3))
        for where in [None, "all", (0, 1), torch.rand(5, 5)]:
            torch.testing.assert_close(swapped.select(where).tokens.flip(0), features.select(where).tokens)


def triangle(size, step, cell):
    """The sum of a cell's triangle over the pixels inside the mask."""
    return sum(max(0, 1 - abs(p + 0.5 - step * (cell + 0.5)) / step) for p in range(size))


class TestMasks:
    def test_ones_are_the_mean(self, features):
        for size in [(2, 3), (16, 24), (1, 1)]:
            masked = features.select(torch.ones(size))
            torch.testing.assert_close(masked.tokens, features.select(None).tokens)

    @settings(deadline=None, max_examples=20)
    @given(st.lists(st.floats(0.01, 10), min_size=6, max_size=6))
    def test_a_mask_on_the_grid_weighs_as_a_loop_would(self, weights):
        torch.manual_seed(0)
        tokens = torch.randn(2, 6, 3)
        mask = torch.tensor(weights).view(2, 3)
        total = sum(weights)
        expected = sum(w / total * tokens[:, i] for i, w in enumerate(weights))
        masked = Features(tokens, "l", (2, 3)).select(mask)
        torch.testing.assert_close(masked.tokens[:, 0], expected, rtol=1e-4, atol=1e-5)

    def test_one_mask_an_image(self, features):
        masks = torch.zeros(2, 2, 3)
        masks[0, 0, 1] = masks[1, 1, 2] = 5.0
        chosen = features.select(masks).tokens[:, 0]
        torch.testing.assert_close(chosen, torch.stack([features.tokens[0, 1], features.tokens[1, 5]]))

    def test_a_fine_mask_is_shrunk_with_a_triangle_as_wide_as_two_cells(self, features):
        mask = torch.rand(8, 18)
        weights = [
            sum(
                mask[y, x]
                * max(0, 1 - abs(y + 0.5 - 4 * (r + 0.5)) / 4)
                * max(0, 1 - abs(x + 0.5 - 6 * (c + 0.5)) / 6)
                for y in range(8)
                for x in range(18)
            )
            / (triangle(8, 4, r) * triangle(18, 6, c))
            for r in range(2)
            for c in range(3)
        ]
        expected = sum(w / sum(weights) * features.tokens[:, i] for i, w in enumerate(weights))
        torch.testing.assert_close(features.select(mask).tokens[:, 0], expected)

    def test_the_scale_of_a_mask_does_not_matter(self, features):
        mask = torch.rand(4, 6)
        torch.testing.assert_close(features.select(mask).tokens, features.select(mask * 7).tokens)

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (torch.ones(3, 2, 3), r"shape \(3, 2, 3\); pass \(H, W\) or \(2, H, W\)"),
            (torch.ones(6), r"shape \(6,\)"),
            (torch.ones(1, 1, 2, 3), r"shape \(1, 1, 2, 3\)"),
            (-torch.ones(2, 3), "finite and non-negative"),
            (torch.full((2, 3), float("nan")), "finite and non-negative"),
            (torch.zeros(2, 3), "the mask is empty on the 2x3 grid of layer 'layer4'"),
        ],
    )
    def test_bad_masks(self, features, mask, words):
        with pytest.raises(ValueError, match=words):
            features.select(mask)

    def test_one_empty_mask_among_several(self, features):
        masks = torch.stack([torch.ones(2, 3), torch.zeros(2, 3)])
        with pytest.raises(ValueError, match="empty"):
            features.select(masks)


class TestShapes:
    def test_rows_go_image_by_image(self, features):
        assert features.rows.shape == (12, 3)
        assert torch.equal(features.rows[6 + 4], features.tokens[1, 4])
        assert (features.batch_size, features.width) == (2, 3)

    def test_fold_undoes_rows(self, features):
        for values in (features.rows, features.tokens):
            folded = features.fold(values)
            assert folded.shape == (2, 2, 3, 3)
            assert torch.equal(folded[1, 1, 2], features.tokens[1, 5])
        assert features.fold(features.rows[:, 0]).shape == (2, 2, 3)

    def test_fold_of_a_single_place_keeps_the_texts(self):
        single = Features(torch.randn(2, 1, 3), "l", (1, 1))
        assert single.fold(torch.randn(2, 5)).shape == (2, 1, 1, 5)

    @pytest.mark.parametrize("shape", [(11,), (3, 6), (2, 5), ()])
    def test_fold_refuses_other_numbers(self, features, shape):
        with pytest.raises(ValueError, match="do not fill"):
            features.fold(torch.zeros(shape))

    def test_fold_needs_a_grid(self, features):
        with pytest.raises(ValueError, match="no spatial grid"):
            features.select(None).fold(torch.zeros(2, 1))

    def test_extras(self, features):
        extras = features.extras()
        assert torch.equal(extras.tokens, features.extra)
        assert extras.grid is None
        for extra in (None, torch.zeros(2, 0, 3)):
            with pytest.raises(ValueError, match="no class or register tokens"):
                Features(torch.zeros(2, 4, 3), "l", extra=extra).extras()

    def test_a_grid_must_fit(self):
        with pytest.raises(ValueError, match=r"grid \(2, 2\) has 4 locations, but layer 'l' gave 6 tokens"):
            Features(torch.zeros(2, 6, 3), layer="l", grid=(2, 2))


class TestFinite:
    def test_finite_features_are_returned(self, features):
        assert features.check_finite() is features

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_others_name_layer_and_images(self, features, value):
        tokens = features.tokens.clone()
        tokens[1, 3, 2] = value
        with pytest.raises(ValueError, match=r"layer 'layer4' gave NaN or infinite .* image\(s\) \[1\] of 2"):
            Features(tokens, "layer4", (2, 3)).check_finite()


def test_a_layer_that_makes_nan_is_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh())
    with torch.no_grad():
        model[0].weight.fill_(float("inf"))
        (maps,) = record(model, resolve(model, "0"), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="layer '0' gave NaN"):
        Features.from_activation(maps, "0", layout="NCHW").check_finite()


@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 4, 4), (2, 3, 0, 4), (2, 0, 5)])
def test_a_layer_that_gives_no_numbers_is_named(shape):
    with pytest.raises(ValueError, match=r"layer 'x' gave shape \(2, .*holds no numbers"):
        check_activation(torch.zeros(shape), "x", 2)
