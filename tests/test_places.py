"""The order of places, seen by a probe and put right."""

import pytest
import torch
from fakes import conv_net
from torch import nn

from torchnle.features import Features
from torchnle.places import find_order, locate, seeded_pair, unrolled
from torchnle.reading import Reading, read
from torchnle.taps import resolve


def unroll(grid, levels):
    """The slow way to Hiera's order: by the part of a block of two, of four, ..., then row by row."""

    def key(place):
        row, column = place
        parts = [((row >> level) & 1, (column >> level) & 1) for level in range(levels)]
        return (*parts, (row >> levels, column >> levels))

    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    return [places.index(place) for place in sorted(places, key=key)]


@pytest.mark.parametrize(
    ("grid", "levels"), [((4, 4), 1), ((8, 8), 2), ((8, 12), 2), ((24, 8), 3), ((3, 5), 0)]
)
def test_unrolled_undoes_the_order(grid, levels):
    image_order = torch.arange(grid[0] * grid[1]).float()[None, :, None]
    mixed = image_order[:, unroll(grid, levels)]
    coarsest = (grid[0] >> levels, grid[1] >> levels)
    assert torch.equal(unrolled(coarsest)(mixed), image_order)


def test_unrolled_takes_the_first_tensor_and_leaves_other_grids_alone():
    tokens = torch.randn(2, 9, 3)
    assert torch.equal(unrolled((2, 2))((tokens, None)), tokens)
    with pytest.raises(ValueError, match=r"reorders tokens \(N, L, D\); the layer gave shape \(2, 3, 4, 5\)"):
        unrolled((2, 2))(torch.zeros(2, 3, 4, 5))
    with pytest.raises(ValueError, match="gave no tensor"):
        unrolled((2, 2))(None)


def test_the_change_lies_where_the_images_differ():
    energy = torch.tensor([[0.0, 0.0, 3.0], [0.0, 2.0, 5.0], [0.0, 0.0, 6.0]])
    tokens = torch.stack([torch.zeros(9), energy.flatten().sqrt()])[..., None]
    found = locate(Features(tokens, "layer", (3, 3)))
    # the top right quarter holds the corner, half of the cells beside it and a quarter of the middle
    assert found.right == pytest.approx((3 + 5 / 2 + 2 / 4) / 16)
    assert found.best == pytest.approx((6 + 5 + 3) / 16)


class Patches(nn.Module):
    """Patch tokens in any order, of two resolutions."""

    def __init__(self, order=None):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.fine, self.coarse = nn.LayerNorm(8), nn.LayerNorm(8)
        self.order = order or (lambda grid, levels: list(range(grid[0] * grid[1])))

    def forward(self, x):
        maps = self.embed(x)
        fine = maps.flatten(2).transpose(1, 2)[:, self.order((8, 8), 2)]
        coarse = nn.functional.avg_pool2d(maps, 2).flatten(2).transpose(1, 2)[:, self.order((4, 4), 1)]
        return self.fine(fine).mean(1) + self.coarse(coarse).mean(1)


def test_places_in_order_need_nothing():
    assert find_order(Patches(), ["fine", "coarse"], (32, 32)) is None
    assert find_order(conv_net(), ["layer"], (16, 16)) is None


def test_one_select_puts_all_layers_right():
    torch.manual_seed(0)
    model = Patches(unroll)
    select = find_order(model, ["fine", "coarse"], (32, 32))
    assert select == unrolled((2, 2))
    plain, x = Patches(), seeded_pair((32, 32))
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        ordered = read(model, resolve(model, ["fine", "coarse"]), x, None, Reading(select=select))
        expected = read(plain, resolve(plain, ["fine", "coarse"]), x)
    for given, wanted in zip(ordered, expected, strict=True):
        assert given.grid == wanted.grid
        torch.testing.assert_close(given.tokens, wanted.tokens)


def test_an_unknown_order_is_told():
    model = Patches(lambda grid, levels: list(reversed(range(grid[0] * grid[1]))))
    with pytest.raises(
        ValueError, match=r"the places of 'fine', 'coarse' are not in the order.*Pass select="
    ):
        find_order(model, ["fine", "coarse"], (32, 32))


def test_hiera_is_put_right_without_knowing_it():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.HieraConfig(
        image_size=[64, 64], embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]
    )
    model = transformers.HieraModel(config)
    layers = ["encoder.stages.0", "encoder.stages.1", "encoder.stages.2"]
    assert find_order(model, layers, (64, 64)) == unrolled((2, 2))
