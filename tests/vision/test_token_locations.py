"""Tokens are put at the locations of the patches that they answer to, wherever the model keeps them."""

import pytest
import torch
from torch import nn

from torchnle.heads.classifier_head import find_head
from torchnle.vision.order.token_order import hiera_order
from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import resolve

PATCH, GRID, SIZE = 8, (6, 8), (48, 64)
COUNT = GRID[0] * GRID[1]


class Tokens(nn.Module):
    """Patch tokens and tokens without location, in the order given by `lay`; then attention over all."""

    def __init__(self, lay, depth=0, pool=lambda tokens: tokens.mean(1)):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.patches, self.others = nn.Conv2d(3, 16, PATCH, PATCH), nn.Parameter(torch.randn(1, 5, 16))
        self.blocks = nn.Sequential(*(nn.TransformerEncoder(layer, 1) for _ in range(depth)))
        self.lay, self.norm, self.pool, self.head = lay, nn.LayerNorm(16), pool, nn.Linear(16, 4)
        self.eval()

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        laid = self.lay(patches, self.others.expand(len(x), -1, -1))
        return self.head(self.pool(self.norm(self.blocks(laid))))


SHUFFLED = torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))
LAID = {
    "in front": lambda p, o: torch.cat([o, p], 1),
    "none": lambda p, o: p,
    "behind": lambda p, o: torch.cat([p, o[:, :4]], 1),
    "class token last": lambda p, o: torch.cat([p, o[:, :1]], 1),
    "on both sides": lambda p, o: torch.cat([o[:, :1], p, o[:, 1:]], 1),
    "in the middle": lambda p, o: torch.cat([p[:, :20], o[:, :4], p[:, 20:]], 1),
    "between in two parts": lambda p, o: torch.cat([p[:, :9], o[:, :2], p[:, 9:31], o[:, 2:4], p[:, 31:]], 1),
    "backwards": lambda p, o: p.flip(1),
    "column by column": lambda p, o: p.unflatten(1, GRID).transpose(1, 2).flatten(1, 2),
    "shuffled behind a class token": lambda p, o: torch.cat([o[:, :1], p[:, SHUFFLED]], 1),
}


def locations_that_change(model, location, reading=None):
    """Where the layer changes most when one patch does."""
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    other = image.clone()
    rows, columns = (slice(PATCH * i, PATCH * (i + 1)) for i in location)
    other[:, :, rows, columns] = 0
    with torch.no_grad():
        (before,), (after,) = (read(model, resolve(model, "norm"), x, None, reading) for x in (image, other))
    assert before.grid == GRID
    return divmod(int((before.tokens - after.tokens).square().sum(-1).argmax()), GRID[1])


@pytest.mark.parametrize("depth", [0, 2, 6])
@pytest.mark.parametrize("laid", LAID)
def test_each_patch_has_its_own_token(laid, depth):
    model = Tokens(LAID[laid], depth)
    for location in [(0, 0), (2, 3), (2, 4), (5, 7)]:
        assert locations_that_change(model, location) == location


def test_what_has_no_place_is_kept_in_its_order():
    model = Tokens(LAID["on both sides"])
    with torch.no_grad():
        (features,) = read(model, resolve(model, "norm"), torch.rand(2, 3, *SIZE))
        expected = model.norm(model.others).expand(2, -1, -1)
    torch.testing.assert_close(features.extras().tokens, expected)


def test_overlapping_patches_before_a_class_token():
    """Neighbours answer to each other's patch here: the shift by one token is not far behind."""

    class Overlapping(Tokens):
        def __init__(self, lay):
            super().__init__(lay)
            self.patches = nn.Conv2d(3, 16, 2 * PATCH - 1, PATCH, PATCH // 2)

    for lay in (lambda p, o: torch.cat([o[:, :1], p], 1), lambda p, o: torch.cat([p, o[:, :1]], 1)):
        assert locations_that_change(Overlapping(lay), (3, 4)) == (3, 4)


def test_tokens_that_are_no_places_are_asked_about():
    queries = torch.randn(1, COUNT, 16)
    model = Tokens(lambda p, o: queries + p.mean(1, keepdim=True))
    with pytest.raises(ValueError, match=r"layer 'norm' gave 48 tokens.*Reading\(grid=\(6, 8\)\)"):
        read(model, resolve(model, "norm"), torch.rand(1, 3, *SIZE))
    (features,) = read(model, resolve(model, "norm"), torch.rand(1, 3, *SIZE), None, Reading(layout="NLD"))
    assert features.grid is None
    (features,) = read(model, resolve(model, "norm"), torch.rand(1, 3, *SIZE), None, Reading(grid=GRID))
    assert features.grid == GRID


def test_the_same_layer_in_another_model_is_examined_again():
    """What was found for a layer in one model says nothing of a model around it that turns its images."""

    class Turned(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.norm = inner, inner.norm

        def forward(self, x):
            return self.inner(x.flip(-1))

    model = Tokens(LAID["in front"], depth=2)
    assert locations_that_change(model, (2, 1)) == (2, 1)
    assert locations_that_change(Turned(model), (2, 1)) == (2, 1)


class TestStated:
    def test_a_wrong_number_in_front_is_contradicted(self):
        model = Tokens(LAID["behind"])
        with pytest.raises(ValueError, match=r"num_prefix_tokens=4 .*the first location is token 0 of 52"):
            locations_that_change(model, (2, 3), Reading(num_prefix_tokens=4))

    def test_a_grid_beside_it_insists(self):
        model = Tokens(LAID["behind"])
        reading = Reading(num_prefix_tokens=4, grid=GRID)
        assert locations_that_change(model, (2, 5), reading) == (2, 1)

    def test_a_grid_alone_says_nothing_of_the_order(self):
        assert locations_that_change(Tokens(LAID["behind"]), (2, 5), Reading(grid=GRID)) == (2, 5)

    def test_a_select_is_looked_at_too(self):
        model = Tokens(LAID["class token last"])
        reading = Reading(select=lambda output: output.flip(1))
        assert locations_that_change(model, (2, 5), reading) == (2, 5)


class TestCost:
    def runs(self, model, layer, size=SIZE):
        seen = []
        hook = model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        for _ in range(2):
            with torch.no_grad():
                read(model, resolve(model, layer), torch.rand(1, 3, *size))
        hook.remove()
        return seen

    def test_maps_cost_nothing(self):
        assert self.runs(nn.Sequential(nn.Conv2d(3, 4, 3)), "0") == [1, 1]

    def test_tokens_in_front_cost_one_forward_once(self):
        assert self.runs(Tokens(LAID["in front"]), "norm") == [1, 8, 1]

    def test_tokens_elsewhere_cost_one_more_run_of_images_once(self):
        assert self.runs(Tokens(LAID["behind"]), "norm") == [1, 8, 8, 8, 8, 8, 1]

    def test_what_timm_states_costs_nothing(self):
        model = pytest.importorskip("timm").create_model("test_vit").eval()
        assert self.runs(model, "norm", (160, 160)) == [1, 1]


def slow_hiera_order(grid, levels):
    """Hiera's order, location by location: by the part of a block of two, of four, ..., then row by row."""

    def key(location):
        row, column = location
        parts = [((row >> level) & 1, (column >> level) & 1) for level in range(levels)]
        return (*parts, (row >> levels, column >> levels))

    locations = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    kept = sorted(locations, key=key)
    return [kept.index(location) for location in locations]


@pytest.mark.parametrize(
    ("grid", "levels"), [((4, 4), 1), ((8, 8), 2), ((8, 12), 2), ((24, 8), 3), ((3, 5), 0)]
)
def test_the_order_that_hiera_keeps(grid, levels):
    assert hiera_order(grid, levels).tolist() == slow_hiera_order(grid, levels)


def test_hiera_is_put_right_without_knowing_it():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.HieraConfig(
        image_size=[64, 64], embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]
    )
    model, image = transformers.HieraModel(config).eval(), torch.randn(1, 3, 64, 64)
    other = image.clone()
    other[:, :, 24:32, 40:48] = 0  # one location of the second grid
    for layer, location in (("encoder.stages.1", (3, 5)), ("encoder.stages.2", (1, 2))):
        with torch.no_grad():
            (before,), (after,) = (read(model, resolve(model, layer), x) for x in (image, other))
        change = (before.tokens - after.tokens).square().sum(-1)[0]
        assert divmod(int(change.argmax()), before.grid[1]) == location


class TestHeads:
    """A classifier's head that reads tokens behind which others without location stand."""

    @pytest.mark.parametrize(
        ("laid", "pool", "pooling"),
        [
            ("class token last", lambda tokens: tokens[:, -1], "token"),
            ("class token last", lambda tokens: tokens[:, :-1].mean(1), "mean"),
            ("behind", lambda tokens: tokens[:, :COUNT].mean(1), "mean"),
            ("on both sides", lambda tokens: tokens[:, 0], "token"),
            ("on both sides", lambda tokens: tokens[:, 1 : COUNT + 1].mean(1), "mean"),
            ("shuffled behind a class token", lambda tokens: tokens[:, 1:].mean(1), "mean"),
        ],
    )
    def test_places_are_kept(self, laid, pool, pooling):
        model = Tokens(LAID[laid], depth=1, pool=pool)
        image = torch.rand(1, 3, *SIZE)
        head = find_head(model, image)
        assert (head.tap.name, head.pooling) == ("norm", pooling)
        with torch.no_grad():
            (features,) = read(model, [head.tap], image, None, head.reading)
            torch.testing.assert_close(head.logits(features), model(image), rtol=1e-4, atol=1e-5)
        assert locations_that_change(model, (2, 3), head.reading) == (2, 3)


class TestNumbersThatSpeakForAnotherGrid:
    """81 tokens are 9x9 by their number, and 297 are 17x17 behind 8; both hold fewer patches."""

    @pytest.mark.parametrize(
        ("size", "patch", "others"), [((64, 64), 8, 17), ((224, 224), 16, 101), ((48, 64), 8, 60)]
    )
    @pytest.mark.parametrize("behind", [True, False])
    def test_whole_patches_are_tried(self, size, patch, others, behind):
        class Many(nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.patches, self.norm = nn.Conv2d(3, 16, patch, patch), nn.LayerNorm(16)
                self.others = nn.Parameter(torch.randn(1, others, 16))

            def forward(self, x):
                parts = [self.patches(x).flatten(2).transpose(1, 2), self.others.expand(len(x), -1, -1)]
                return self.norm(torch.cat(parts if behind else parts[::-1], 1))

        model, image = Many().eval(), torch.rand(1, 3, *size)
        other = image.clone()
        other[:, :, 2 * patch : 3 * patch, 4 * patch : 5 * patch] = 0
        with torch.no_grad():
            (before,), (after,) = (read(model, resolve(model, "norm"), x) for x in (image, other))
        assert before.grid == (size[0] // patch, size[1] // patch)
        assert before.extra.shape[1] == others
        location = int((before.tokens - after.tokens).square().sum(-1).argmax())
        assert divmod(location, before.grid[1]) == (2, 4)
