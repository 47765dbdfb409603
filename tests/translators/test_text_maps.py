from __future__ import annotations

import pytest
import torch

from torchnle.translators.class_mixture import ClassMixture
from torchnle.translators.ridge import RidgeMap
from torchnle.translators.text_maps import MapSum, build_map, describe_map

FEATURES = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def ridge(seed=1, width=6):
    return filled(RidgeMap(width, 4), seed)


def mixture(seed=2, width=6):
    return filled(ClassMixture(width, 4, classes=3, temperature=0.5), seed)


def filled(fitted, seed):
    source = torch.Generator().manual_seed(seed)
    for tensor in fitted.buffers():
        tensor.copy_(torch.randn(tensor.shape, generator=source))
    return fitted


def test_steps_add_up_from_the_first_center():
    one, two = ridge(), mixture()
    found = MapSum.of([one, two], [1.0, 0.7])
    expected = one(FEATURES) + 0.7 * (two(FEATURES) - two.vectors.mean(0))
    torch.testing.assert_close(found(FEATURES), expected)
    torch.testing.assert_close(found.center, one.bias)


def test_the_sum_of_one_map_is_that_map():
    torch.testing.assert_close(MapSum.of([mixture()], [1.0])(FEATURES), mixture()(FEATURES))


def test_a_sum_holds_copies():
    one = ridge()
    added = MapSum.of([one], [1.0])
    before = added(FEATURES)
    one.weight.zero_()
    torch.testing.assert_close(added(FEATURES), before)


@pytest.mark.parametrize(
    "fitted", [ridge(), mixture(), MapSum.of([ridge(), MapSum.of([mixture()], [2.0])], [1, 3])]
)
def test_a_map_is_built_again_from_its_description(fitted):
    again = build_map(4, describe_map(fitted))
    again.load_state_dict(fitted.state_dict())
    torch.testing.assert_close(again(FEATURES), fitted(FEATURES))
    assert describe_map(again) == describe_map(fitted)


@pytest.mark.parametrize(
    ("maps", "weights", "message"),
    [
        ([], [], "0 maps and 0 weights"),
        ([ridge()], [1.0, 2.0], "1 maps and 2 weights"),
        ([ridge(), ridge(width=7)], [1.0, 1.0], r"must all read width 6; these read \[6, 7\]"),
    ],
)
def test_what_cannot_be_added(maps, weights, message):
    with pytest.raises(ValueError, match=message):
        MapSum.of(maps, weights)


def test_an_unknown_kind():
    with pytest.raises(
        ValueError, match=r"kind 'treaty' is not known; known are \['class mixture', 'ridge', 'sum'\]"
    ):
        build_map(4, {"kind": "treaty"})
