import pytest
import torch
from torch import nn

from torchnle.vision.graph import bottlenecks
from torchnle.vision.suggest import suggest_layers
from torchnle.vision.taps import record, resolve


class Residual(nn.Module):
    def __init__(self, width, wider, stride=1):
        super().__init__()
        self.inner = nn.Conv2d(width, wider, 3, stride, 1)
        self.skip = nn.Conv2d(width, wider, 1, stride)

    def forward(self, x):
        return self.inner(x) + self.skip(x)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class TinyViT(nn.Module):
    num_prefix_tokens = 1

    def __init__(self, depth=8, width=6):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1)
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def names(model, size=(32, 32), **options):
    torch.manual_seed(0)
    return [layer.name for layer in suggest_layers(model.eval(), torch.rand(2, 3, *size), **options)]


def pyramid():
    stages = [Residual(3, 4, 2), Residual(4, 6, 2), Residual(6, 8, 2)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def test_stage_ends_with_their_grids():
    layers = suggest_layers(pyramid(), torch.rand(1, 3, 32, 48))
    assert [(f.name, f.width, f.grid, f.stride) for f in layers] == [
        ("0", 4, (16, 24), 2),
        ("1", 6, (8, 12), 4),
        ("2", 8, (4, 6), 8),
    ]
    assert {f.kind for f in layers} == {"Residual"}


class ActivatedByFunction(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.stem, self.conv, self.pool = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 8, 2, 2), pool
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.pool(torch.relu(self.conv(self.stem(x)))).flatten(1))


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(8)])
def test_the_end_stands_behind_an_activation_that_is_no_module(pool):
    model, x = ActivatedByFunction(pool), torch.rand(2, 3, 32, 32)
    layers = suggest_layers(model, x)
    assert [(f.name, f.width, f.grid) for f in layers] == [("stem", 4, (16, 16)), ("pool:input", 8, (8, 8))]
    (read,) = record(model, resolve(model, layers[-1].name), x)
    torch.testing.assert_close(read, torch.relu(model.conv(model.stem(x))))


def test_the_last_of_each_resolution_and_at_most_count():
    model = nn.Sequential(Residual(3, 4, 2), Residual(4, 4), Residual(4, 6, 2), Residual(6, 6))
    assert names(model) == ["1", "2", "3"]  # two resolutions, and a block between
    assert names(model, count=2) == ["1", "3"]
    assert names(model, count=1) == ["3"]


def test_evenly_spaced_blocks_of_a_plain_transformer():
    layers = suggest_layers(TinyViT().eval(), torch.rand(2, 3, 16, 24))
    assert [f.name for f in layers] == ["blocks.1", "blocks.3", "blocks.5", "norm"]
    assert {(f.grid, f.width, f.num_prefix_tokens, f.layout) for f in layers} == {((4, 6), 6, 1, "NLD")}


def test_a_layer_that_widens_in_passing_is_no_stage_end():
    """An inverted bottleneck expands at the resolution before it strides."""
    inverted = nn.Sequential(nn.Conv2d(4, 24, 1), nn.Conv2d(24, 6, 3, 2, 1))
    model = nn.Sequential(Residual(3, 4, 2), inverted, Residual(6, 6))
    assert names(model, count=2) == ["0", "2"]


def test_blocks_inside_a_stage_that_ends_with_its_own_downsampling():
    stage = nn.Sequential(Residual(4, 4), Residual(4, 4), nn.Conv2d(4, 8, 2, 2))
    model = nn.Sequential(Residual(3, 4, 2), stage, Residual(8, 8))
    assert names(model, count=2) == ["1.1", "2"]


def test_what_a_branch_skips_is_not_suggested():
    assert all("inner" not in name and "skip" not in name for name in names(pyramid()))


def test_padding_and_shared_modules_are_left_out():
    shared = nn.ReLU()
    model = nn.Sequential(nn.ZeroPad2d(3), nn.Conv2d(3, 4, 3, 2, 1), shared, nn.Conv2d(4, 4, 3, 2, 1), shared)
    assert names(model) == ["1", "3"]


def test_several_outputs_each_have_their_way():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 2, 2)
            self.deep = nn.Conv2d(4, 8, 2, 2)

        def forward(self, x):
            shallow = self.stem(x)
            return {"fine": shallow, "coarse": [self.deep(shallow)]}

    assert names(TwoHeads()) == ["stem", "deep"]


def test_a_model_that_cuts_the_graph_is_still_answered():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 2, 2)

        def forward(self, x):
            return self.stem(x).detach().mean((2, 3))

    assert names(Detached()) == ["stem"]


def test_the_model_is_left_as_it_was():
    model = pyramid().train()
    model[1].eval()
    flags = [module.training for module in model.modules()]
    suggest_layers(model, torch.rand(2, 3, 32, 32))
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_suggested_can_be_read():
    model, x = TinyViT().eval(), torch.rand(2, 3, 16, 16)
    layers = suggest_layers(model, x)
    given = record(model, resolve(model, [f.name for f in layers]), x)
    assert all(tensor.shape == (2, 17, f.width) for tensor, f in zip(given, layers, strict=True))


def test_refusals():
    with pytest.raises(TypeError, match="plain function"):
        suggest_layers(lambda x: x, torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(1, 3\); pass images"):
        suggest_layers(nn.Linear(3, 2), torch.rand(1, 3))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(ValueError, match=r"no layer of Sequential gives features with locations .*layout="):
        suggest_layers(flat, torch.rand(1, 3, 8, 8))


def slow_bottlenecks(output, source):
    """A node is a bottleneck if without it no path is left."""

    def reaches(node, without):
        if node is None or node is without:
            return False
        return node is source or any(reaches(parent, without) for parent, _ in node.next_functions)

    def every(node):
        return {node}.union(*(every(parent) for parent, _ in node.next_functions if parent))

    if not reaches(output.grad_fn, None):
        return set()
    return {node for node in every(output.grad_fn) if not reaches(output.grad_fn, node)}


@pytest.mark.parametrize("seed", range(8))
def test_bottlenecks_are_what_no_path_leads_around(seed):
    generator = torch.Generator().manual_seed(seed)
    source = torch.ones(2, requires_grad=True).clone()
    other = torch.ones(2, requires_grad=True).clone()
    made = [source, other]
    for _ in range(9):
        back = torch.randint(1, 4, (2,), generator=generator).clamp(max=len(made)).tolist()
        first, second = made[-back[0]], made[-back[1]]
        made.append(first * second if int(torch.randint(0, 3, (1,), generator=generator)) else first.exp())
    assert bottlenecks(made[-1], source.grad_fn) == slow_bottlenecks(made[-1], source.grad_fn)


def test_no_path_no_bottlenecks():
    source = torch.ones(1, requires_grad=True).clone()
    assert bottlenecks(torch.ones(1), source.grad_fn) == set()
    assert bottlenecks(torch.ones(1, requires_grad=True).exp(), source.grad_fn) == set()


class Pyramid(nn.Module):
    """A feature pyramid: each level is merged with the coarser ones, and all are outputs."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([Residual(3, 4, 2), Residual(4, 6, 2), Residual(6, 8, 2)])
        self.inner = nn.ModuleList([nn.Conv2d(width, 5, 1) for width in (4, 6, 8)])
        self.levels = nn.ModuleList([nn.Conv2d(5, 5, 3, 1, 1) for _ in range(3)])

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        merged, found = 0, []
        for inner, level, each in reversed(list(zip(self.inner, self.levels, maps, strict=True))):
            above = nn.functional.interpolate(merged, each.shape[2:]) if found else 0
            merged = inner(each) + above
            found.append(level(merged))
        return found


def test_stages_and_levels_of_a_feature_pyramid():
    expected = ["stages.0", "stages.1", "stages.2", "levels.2", "levels.1", "levels.0"]
    assert names(Pyramid()) == expected
    assert names(Pyramid(), count=1) == ["stages.2", "levels.0"]


class UNet(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up, self.out = nn.Conv2d(24, 8, 3, 1, 1), nn.Conv2d(8, classes, 1)

    def forward(self, x):
        first = self.down(x).relu()
        deep = nn.functional.interpolate(self.deep(first).relu(), scale_factor=2)
        return self.out(self.up(torch.cat([deep, first], 1)))


def test_a_u_net():
    assert names(UNet()) == ["down", "deep", "up"]


def test_stages_of_a_dilated_network_and_no_scores():
    class Dilated(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                Residual(3, 4, 2),
                *(nn.Sequential(Residual(w, 2 * w), Residual(2 * w, 2 * w)) for w in (4, 8)),
            )
            self.classifier = nn.Conv2d(16, 5, 1)

        def forward(self, x):
            return nn.functional.interpolate(self.classifier(self.body(x)), scale_factor=2)

    assert names(Dilated(), count=3) == ["body.0", "body.1", "body"]


def test_queries_of_a_detector_have_no_locations():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(Residual(3, 4, 2), Residual(4, 6, 2))
            self.queries, self.attend = nn.Parameter(torch.randn(1, 16, 6)), nn.Linear(6, 6)
            self.boxes = nn.Linear(6, 4)

        def forward(self, x):
            tokens = self.body(x).flatten(2).transpose(1, 2)
            scores = (self.queries.expand(len(x), -1, -1) @ tokens.transpose(1, 2)).softmax(2)
            return self.boxes(self.attend(scores @ tokens))

    assert names(Detector()) == ["body.0", "body"]
