"""Four axes are read as a map only if they are one: attention heads and other inputs are refused."""

import pytest
import torch
from torch import nn

from torchnle.vision.reading import Reading, read
from torchnle.vision.taps import resolve


class Attention(nn.Module):
    """Patch tokens behind a class token, and one attention whose parts are modules."""

    def __init__(self, width=32, heads=4, patch=8, class_token=True):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.heads, self.class_token = nn.Conv2d(3, width, patch, patch), heads, class_token
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.keys, self.normed, self.weights = nn.Identity(), nn.LayerNorm(width // heads), nn.Softmax(-1)
        self.first = nn.Identity()

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.class_token:
            x = torch.cat([x.mean(1, keepdim=True), x], 1)
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).unbind(2)
        q, k, v = self.first(q).transpose(1, 2), self.keys(k.transpose(1, 2)), v.transpose(1, 2)
        weights = self.weights(self.normed(q) @ k.transpose(2, 3))
        return self.out((weights @ v).transpose(1, 2).flatten(2))


def read_one(model, layer, x, **reading):
    with torch.no_grad():
        (features,) = read(model.eval(), resolve(model, layer), x, None, Reading(**reading))
    return features


@pytest.mark.parametrize("layer", ["normed", "weights"])
@pytest.mark.parametrize("class_token", [True, False])
def test_attention_heads_are_no_map(layer, class_token):
    model = Attention(class_token=class_token)
    tokens = 64 + class_token
    with pytest.raises(
        ValueError, match=rf"'{layer}' gave shape \(1, 4, {tokens}, .*attention heads.*select="
    ):
        read_one(model, layer, torch.rand(1, 3, 64, 64))


def test_heads_whose_shape_is_that_of_a_map():
    """64 tokens of width 64 are 64x64 locations of stride 4, by their shape."""
    model = Attention(width=256, heads=4, patch=32, class_token=False)
    with pytest.raises(ValueError, match=r"'keys' gave shape \(1, 4, 64, 64\).*attention heads"):
        read_one(model, "keys", torch.rand(1, 3, 256, 256))


def test_heads_whose_channel_axis_is_not_known_either():
    with pytest.raises(ValueError, match=r"'keys' gave shape \(1, 4, 65, 8\).*attention heads"):
        read_one(Attention(), "keys", torch.rand(1, 3, 64, 64))


def test_heads_behind_the_tokens():
    with pytest.raises(ValueError, match=r"'first' gave shape \(1, 65, 4, 8\).*do not follow the patches"):
        read_one(Attention(), "first", torch.rand(1, 3, 64, 64))


def test_heads_side_by_side_are_tokens():
    model = Attention()
    select = lambda keys: keys.transpose(1, 2).flatten(2)  # noqa: E731
    features = read_one(model, "keys", torch.rand(2, 3, 64, 64), select=select)
    assert (features.grid, features.tokens.shape) == ((8, 8), (2, 64, 32))


def test_who_states_a_layout_is_believed():
    assert read_one(Attention(), "keys", torch.rand(1, 3, 64, 64), layout="NCHW").grid == (65, 8)


def test_timms_attention():
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", img_size=64)
    for block in model.blocks:
        block.attn.fused_attn = False
    for layer in ("blocks.5.attn.k_norm", "blocks.5.attn.attn_drop"):
        with pytest.raises(ValueError, match=r"gave shape \(1, 3, 17, .*attention heads"):
            read_one(model, layer, torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [
        ("resnet10t", "layer4.0.act2", (2, 2)),
        ("convnext_atto", "stages.2.blocks.3.mlp.act", (4, 4)),
        ("swin_tiny_patch4_window7_224", "layers.1.blocks.0", (8, 8)),
        ("test_nfnet", "stages.0", (16, 16)),
    ],
)
def test_maps_of_ordinary_models_cost_nothing(name, layer, grid):
    timm, seen = pytest.importorskip("timm"), []
    options = {"img_size": 64} if "swin" in name else {}
    model = timm.create_model(name, **options)
    model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    assert read_one(model, layer, torch.rand(1, 3, 64, 64)).grid == grid
    assert seen == [1]


def test_maps_without_padding_cost_nothing():
    model, seen = nn.Sequential(nn.Conv2d(3, 8, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2)), []
    model.register_forward_hook(lambda *_: seen.append(1))
    assert read_one(model, "1", torch.rand(1, 3, 224, 320)).grid == (54, 78)
    assert seen == [1]


class TestVideo:
    class Video(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.norm = nn.Conv3d(3, 8, (2, 8, 8), (2, 8, 8)), nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(self.patches(x.transpose(1, 2)).flatten(2).transpose(1, 2))

    def test_frames_are_not_folded_into_a_square(self):
        video = torch.rand(1, 8, 3, 32, 32)  # 4 x 4 x 4 locations, and 64 is a square
        with pytest.raises(ValueError, match=r"gave shape \(1, 64, 8\) .* shape \(1, 8, 3, 32, 32\).*grid="):
            read_one(self.Video(), "norm", video)

    def test_they_can_be_read_without_places(self):
        features = read_one(self.Video(), "norm", torch.rand(1, 8, 3, 32, 32), layout="NLD")
        assert (features.grid, features.tokens.shape) == (None, (1, 64, 8))

    def test_one_frame_has_a_grid(self):
        one = {"select": lambda tokens: tokens[:, :16], "grid": (4, 4)}
        assert read_one(self.Video(), "norm", torch.rand(1, 8, 3, 32, 32), **one).grid == (4, 4)

    def test_videomae(self):
        transformers = pytest.importorskip("transformers")
        small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        model = transformers.VideoMAEModel(transformers.VideoMAEConfig(**small, num_frames=8))
        with pytest.raises(ValueError, match=r"gave shape \(1, 784, 32\)"):
            read_one(model, "embeddings", torch.randn(1, 8, 3, 224, 224))


class Relaid(nn.Module):
    """A convolutional model whose maps a function lays anew."""

    def __init__(self, lay):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 6, 3, padding=1)
        self.lay, self.out = lay, nn.Identity()

    def forward(self, x):
        return self.out(self.lay(self.body(self.stem(x).relu())))


TURNED = {
    "transposed": lambda y: y.transpose(2, 3),
    "mirrored": lambda y: y.flip(3),
    "upside down": lambda y: y.flip(2),
    "rolled by half": lambda y: y.roll(y.shape[3] // 2, 3),
    "shuffled": lambda y: y.flatten(2)[..., SHUFFLED].view_as(y),
}
SHUFFLED = torch.randperm(64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("lay", TURNED.values(), ids=TURNED)
@pytest.mark.parametrize("image", ["noise", "grey"])
def test_maps_that_own_code_has_turned_are_refused(lay, image):
    x = torch.rand(2, 3, 32, 32) if image == "noise" else torch.full((2, 3, 32, 32), 0.5)
    with pytest.raises(ValueError, match=r"'out' gave shape .* do not follow the patches"):
        read_one(Relaid(lay), "out", x)
    assert read_one(Relaid(lay), "out", x, layout="NCHW").grid == (8, 8)


def test_maps_of_own_code_cost_one_run_of_two_images_once():
    model, seen = Relaid(lambda y: y), []
    model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    for _ in range(2):
        read_one(model, "out", torch.rand(1, 3, 32, 32))
    assert seen == [1, 2, 1]
