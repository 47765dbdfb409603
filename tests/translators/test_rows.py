import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_translators import LAYERS, features

from torchnle.attr.layer_reader import locations
from torchnle.errors import TranslatorMismatchError
from torchnle.translators.rows import Rows, batches, find_slot, rows_of
from torchnle.vision.features import Features


def test_a_layer_is_found_by_name_before_width():
    same = {"blocks.0": 4, "blocks.1": 4}
    assert find_slot("blocks.1", 4, same, "x") == "blocks.1"


def test_another_name_is_found_by_its_width():
    assert find_slot("model.layer3", 6, LAYERS, "x") == "layer3"


@pytest.mark.parametrize(
    ("layer", "width", "widths", "message"),
    [
        (
            "layer3",
            1024,
            {"layer4": 2048},
            "translator 'x' expects width 2048 from 1 layer; 'layer3' gives 1024. Pass layers='layer4', or a "
            "translator trained for layer3.",
        ),
        (
            "conv1",
            64,
            {"layer3": 1024, "layer4": 2048},
            "translator 'x' expects widths 1024, 2048 from 2 layers; 'conv1' gives 64. Pass "
            "layers=['layer3', 'layer4'], or a translator trained for conv1.",
        ),
        (
            "layer4",
            2048,
            {"layer3": 2048, "layer4": 512},
            "translator 'x' expects width 512 from 'layer4'; 'layer4' gives 2048. Pass "
            "layers=['layer3', 'layer4'], or a translator trained for layer4.",
        ),
        (
            "encoder.1",
            4,
            {"blocks.0": 4, "blocks.1": 4},
            "translator 'x' has 2 layers of width 4 (['blocks.0', 'blocks.1']), and none is called "
            "'encoder.1'. Use the layer's name from training.",
        ),
    ],
)
def test_a_layer_that_does_not_fit_is_refused(layer, width, widths, message):
    with pytest.raises(TranslatorMismatchError, match=f"^{re.escape(message)}$"):
        find_slot(layer, width, widths, "x")


def test_rows_run_image_by_image_and_location_by_location():
    (rows,) = rows_of([features("layer4", images=2, grid=(1, 2))])
    assert not rows.pooled
    assert list(locations([features("layer4", images=2, grid=(1, 2))], joint=False)) == [
        ("layer4", image, (0, column)) for image in (0, 1) for column in (0, 1)
    ]
    tokens = features("layer4", images=2, grid=(1, 2)).tokens
    torch.testing.assert_close(rows.tokens["layer4"][:, 0], tokens.reshape(4, -1), atol=0, rtol=0)


def test_layers_apart_are_groups_and_layers_together_one():
    three, four = features("layer3"), features("layer4")
    assert [group.layer for group in rows_of([three, four])] == ["layer3", "layer4"]
    (joined,) = rows_of([three, four], joint=True)
    assert joined.layer == "layer3+layer4"
    assert {slot: tuple(x.shape) for slot, x in joined.tokens.items()} == {
        "layer3": (8, 1, 6),
        "layer4": (8, 1, 8),
    }


def test_a_whole_image_is_a_row_with_its_class_token_first():
    tokens, extra = torch.randn(2, 4, 8), torch.randn(2, 1, 8)
    (rows,) = rows_of([Features(tokens, "layer4", (2, 2), extra)], tokens_per_row=5)
    torch.testing.assert_close(rows.tokens["layer4"], torch.cat([extra, tokens], dim=1), atol=0, rtol=0)
    assert (len(rows), rows.pooled) == (2, True)


def test_another_number_of_tokens_is_refused():
    with pytest.raises(TranslatorMismatchError, match=r"reads all 5 tokens .* layer 'layer4' gives 4"):
        rows_of([features("layer4")], tokens_per_row=5)


@pytest.mark.parametrize(
    "other", [features("layer3", images=1), features("layer3", grid=(1, 4)), features("layer3", grid=None)]
)
def test_layers_together_must_agree(other):
    with pytest.raises(ValueError, match="same images and locations; 'layer4' has 2 images"):
        rows_of([features("layer4"), other], joint=True)


def test_layers_together_must_be_different():
    with pytest.raises(ValueError, match="names one twice"):
        rows_of([features("layer4"), features("layer4")], joint=True)
    (rows,) = rows_of([features("layer4"), replace(features("layer4"), layer="other")], joint=True)
    with pytest.raises(ValueError, match=r"fill only the inputs \['layer4'\]"):
        rows.for_inputs(LAYERS, "x")


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 0, 8)])
def test_empty_features_are_refused(shape):
    for empty in ([], [Features(torch.zeros(shape), "layer4")]):
        with pytest.raises(ValueError, match="no features to read"):
            rows_of(empty)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_numbers_are_named_by_layer(value):
    bad = features("layer4")
    bad.tokens[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"layer 'layer4' gave NaN or infinite .* image\(s\) \[1\]"):
        rows_of([features("layer3"), bad])


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.none() | st.integers(1, 30))
def test_batches_are_full_and_lose_nothing(lengths, size):
    groups, start = [], 0
    for length in lengths:
        numbers = torch.arange(start, start + length).view(-1, 1, 1).float()
        groups.append(Rows({"a": numbers}))
        start += length
    found = list(batches(groups, size))
    sizes = [sum(map(len, batch)) for batch in found]
    assert all(count == (size or start) for count in sizes[:-1])
    assert 0 < sizes[-1] <= (size or start)
    parts = [part.tokens["a"].flatten() for batch in found for part in batch]
    assert torch.cat(parts).tolist() == list(range(start))


@pytest.mark.parametrize("size", [0, -3])
def test_impossible_batch_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"internal_batch_size={size}"):
        list(batches(rows_of([features("layer4")]), size))
