"""Layouts are found from evidence, and refused with the argument that settles them where it runs out."""

import pytest
import torch
from torch import nn

from torchnle.vision.layouts import Arrangement, Hints, arrange, hints_for, prefix_hint, width_hint


def found(shape, **given):
    arrangement = arrange(shape, "layer", **given)
    return arrangement.layout, arrangement.grid, arrangement.num_prefix_tokens


class TestMaps:
    @pytest.mark.parametrize(
        ("shape", "size", "layout", "grid"),
        [
            ((2, 512, 7, 7), (224, 224), "NCHW", (7, 7)),
            ((2, 7, 7, 768), (224, 224), "NHWC", (7, 7)),
            ((2, 512, 6, 8), (192, 256), "NCHW", (6, 8)),
            ((2, 6, 8, 768), (192, 256), "NHWC", (6, 8)),
            ((2, 64, 56, 56), (224, 224), "NCHW", (56, 56)),
            ((2, 56, 56, 64), (224, 224), "NHWC", (56, 56)),
            ((2, 64, 25, 34), (200, 270), "NCHW", (25, 34)),  # rounded up
            ((2, 64, 25, 33), (200, 270), "NCHW", (25, 33)),  # rounded down
            ((2, 320, 1, 1), (224, 224), "NCHW", (1, 1)),
            ((2, 1, 1, 320), (224, 224), "NHWC", (1, 1)),
            ((2, 3, 8, 8), (8, 8), "NCHW", (8, 8)),
        ],
    )
    def test_the_grid_is_the_input_over_one_stride(self, shape, size, layout, grid):
        assert found(shape, input_size=size) == (layout, grid, 0)

    @pytest.mark.parametrize(
        ("shape", "layout"), [((2, 512, 7, 7), "NCHW"), ((2, 7, 7, 512), "NHWC"), ((2, 512, 6, 8), "NCHW")]
    )
    def test_without_the_inputs_size_shape_alone_may_do(self, shape, layout):
        assert found(shape)[0] == layout

    def test_what_is_stated_wins(self):
        assert found((2, 8, 8, 8), layout="NHWC") == ("NHWC", (8, 8), 0)
        assert found((2, 512, 6, 8), input_size=(192, 256), layout="NHWC") == ("NHWC", (512, 6), 0)
        assert found((2, 16, 12, 16), grid=(16, 12)) == ("NHWC", (16, 12), 0)

    def test_the_module_settles_what_the_shape_leaves_open(self):
        cube = (2, 64, 64, 64)
        assert found(cube, input_size=(256, 256), hints=hints_for(None, nn.MaxPool2d(2)))[0] == "NCHW"
        assert found(cube, input_size=(256, 256), hints=hints_for(None, nn.LayerNorm(64)))[0] == "NHWC"
        assert found((2, 12, 8, 8), hints=Hints(width=12)) == ("NCHW", (8, 8), 0)
        assert found((2, 8, 8, 12), hints=Hints(width=12)) == ("NHWC", (8, 8), 0)

    def test_a_hint_that_does_not_fit_is_dropped(self):
        assert found((2, 512, 7, 7), hints=Hints(width=1000)) == ("NCHW", (7, 7), 0)

    @pytest.mark.parametrize("shape", [(2, 8, 8, 8), (2, 64, 48, 64)])
    def test_ambiguity_lists_both_readings_and_names_layout(self, shape):
        with pytest.raises(ValueError, match=r"ambiguous.*NCHW with grid.*NHWC with grid.*Pass layout="):
            arrange(shape, "layer")

    def test_what_is_stated_must_fit(self):
        with pytest.raises(ValueError, match=r"does not fit layout='auto', grid=\(5, 5\)"):
            arrange((2, 512, 7, 7), "layer", grid=(5, 5))


class TestTokens:
    @pytest.mark.parametrize("prefix", [0, 1, 2, 5, 9])
    @pytest.mark.parametrize(
        ("size", "grid"),
        [((224, 224), (14, 14)), ((192, 256), (12, 16)), ((384, 160), (24, 10)), ((230, 230), (14, 14))],
    )
    def test_tokens_in_front_are_counted(self, size, grid, prefix):
        count = grid[0] * grid[1] + prefix
        assert found((2, count, 64), input_size=size) == ("NLD", grid, prefix)

    @pytest.mark.parametrize("prefix", [0, 1, 2, 5])
    def test_without_the_inputs_size_a_square_is_taken(self, prefix):
        assert found((2, 256 + prefix, 64)) == ("NLD", (16, 16), prefix)

    def test_what_is_stated_wins(self):
        assert found((2, 257, 64), num_prefix_tokens=1) == ("NLD", (16, 16), 1)
        assert found((2, 197, 64), grid=(12, 16)) == ("NLD", (12, 16), 5)
        assert found((2, 247, 64), input_size=(224, 224), num_prefix_tokens=51) == ("NLD", (14, 14), 51)

    def test_many_prompt_tokens_are_ambiguous_until_stated(self):
        with pytest.raises(ValueError, match="Pass num_prefix_tokens="):
            arrange((2, 247, 64), "layer", input_size=(224, 224))

    def test_small_grids_are_ambiguous_until_the_model_says(self):
        with pytest.raises(ValueError, match=r"grid \(3, 3\); NLD with grid \(2, 2\) after 5 prefix"):
            arrange((2, 9, 64), "layer", input_size=(32, 32))
        hints = Hints(num_prefix_tokens=5)
        assert found((2, 9, 64), input_size=(32, 32), hints=hints) == ("NLD", (2, 2), 5)

    def test_whole_patches_speak_against_a_grid_that_cuts_some(self):
        with pytest.raises(ValueError, match=r"grid \(25, 8\) after 1 prefix.*grid \(24, 8\) after 9"):
            arrange((2, 24 * 8 + 9, 64), "layer", input_size=(384, 128))
        assert found((2, 24 * 8 + 1, 64), input_size=(384, 128)) == ("NLD", (24, 8), 1)

    def test_whole_patches_and_few_tokens_agree(self):
        assert found((2, 25, 32), input_size=(64, 96)) == ("NLD", (4, 6), 1)  # not (4, 5) after 5

    def test_a_hint_that_does_not_fit_is_dropped(self):
        """The patch embedding of a ViT comes before its class token."""
        assert found((2, 196, 64), input_size=(224, 224), hints=Hints(num_prefix_tokens=1))[2] == 0

    def test_one_token_has_no_place(self):
        assert found((2, 1, 64), input_size=(224, 224)) == ("NLD", None, 0)
        assert found((2, 2, 64), num_prefix_tokens=1) == ("NLD", None, 1)

    def test_one_patch_behind_a_class_token(self):
        assert found((2, 2, 64), input_size=(16, 16)) == ("NLD", (1, 1), 1)

    def test_unplaced_tokens_are_read_when_asked_for(self):
        with pytest.raises(ValueError, match=r"layout='NLD' to read the tokens without locations"):
            arrange((2, 8, 64), "queries", input_size=(224, 224), num_prefix_tokens=1)
        given = {"input_size": (224, 224), "num_prefix_tokens": 1, "layout": "NLD"}
        assert found((2, 8, 64), **given) == ("NLD", None, 1)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"num_prefix_tokens": 197}, "leaves no tokens for the grid"),
            ({"num_prefix_tokens": -1}, "leaves no tokens for the grid"),
            ({"grid": (15, 15)}, "do not make 197 tokens"),
            ({"grid": (-14, -14)}, "do not make 197 tokens"),
            ({"grid": (14, 14), "num_prefix_tokens": 2}, "do not make 197 tokens"),
            ({"num_prefix_tokens": 3}, "no grid of the input's shape makes 197 tokens"),
        ],
    )
    def test_what_is_stated_must_fit(self, given, words):
        with pytest.raises(ValueError, match=words):
            arrange((2, 197, 64), "norm", **given)


class TestOtherShapes:
    def test_vectors(self):
        assert found((2, 64)) == ("ND", None, 0)
        with pytest.raises(ValueError, match="a vector has no grid"):
            arrange((2, 64), "fc", grid=(8, 8))

    @pytest.mark.parametrize("shape", [(2,), (2, 3, 4, 5, 6), ()])
    def test_other_numbers_of_axes(self, shape):
        with pytest.raises(ValueError, match=r"layer 'x' gave shape .*Pass a layer of shape"):
            arrange(shape, "x")

    def test_layouts_with_another_number_of_axes(self):
        with pytest.raises(ValueError, match="cannot be read with layout='NCHW'"):
            arrange((2, 197, 64), "norm", layout="NCHW")

    def test_unknown_layouts(self):
        with pytest.raises(ValueError, match="layout='NCWH'; pass 'auto'"):
            arrange((2, 3, 4, 4), "x", layout="NCWH")

    def test_messages_say_layer_shape_and_input(self):
        with pytest.raises(ValueError, match=r"layer 'norm' gave shape \(2, 9, 4\) for inputs of 32x32"):
            arrange((2, 9, 4), "norm", input_size=(32, 32))


class TestHints:
    def test_widths(self):
        assert width_hint(nn.Conv2d(3, 8, 1)) == 8
        assert width_hint(nn.Conv2d(3, 8, 1), at="input") == 3
        assert width_hint(nn.BatchNorm2d(8), at="input") == 8
        assert width_hint(nn.GroupNorm(2, 8)) == 8
        assert width_hint(nn.LayerNorm((4, 8))) == 8
        assert width_hint(nn.ReLU()) is None

    def test_a_subclass_may_turn_the_axes_so_only_its_width_counts(self):
        class LayerNorm2d(nn.LayerNorm):
            """Normalises channels of (N, C, H, W), as timm's and torchvision's do."""

        assert hints_for(None, LayerNorm2d(8)) == Hints(width=8)

    def test_prefixes_stated_by_timm_and_transformers(self):
        vit, dino = nn.Linear(1, 1), nn.Linear(1, 1)
        vit.num_prefix_tokens = 2
        dino.config = type("Config", (), {"num_register_tokens": 4})()
        assert prefix_hint(nn.Sequential(nn.ReLU(), vit)) == 2
        assert prefix_hint(dino) == 5
        assert prefix_hint(nn.Sequential(vit, dino)) is None
        assert prefix_hint(lambda x: x) is None
        assert hints_for(vit) == Hints(num_prefix_tokens=2)


def test_arrangements_read_well():
    assert str(Arrangement("NLD", (2, 3), 1)) == "NLD with grid (2, 3) after 1 prefix token(s)"
    assert str(Arrangement("NCHW", (2, 3))) == "NCHW with grid (2, 3)"


def test_sizes_of_tensors_are_taken():
    x = torch.zeros(2, 3, 32, 64)
    assert found((2, 8, 4, 8), input_size=x.shape[-2:]) == ("NCHW", (4, 8), 0)
