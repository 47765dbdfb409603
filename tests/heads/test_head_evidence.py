"""A head is believed only if the logits made again of what was found are the model's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, weight_norm

from torchnle.heads.classifier_head import find_head
from torchnle.vision.reading import read

WIDTH, CLASSES = 32, 4


class Classifier(nn.Module):
    """A body that ends in a mean over locations, and a head; `finish` is what the model does by function."""

    def __init__(self, head, finish=lambda logits, x: logits):
        super().__init__()
        self.conv, self.act, self.head, self.finish = nn.Conv2d(3, WIDTH, 3, 4), nn.ReLU(), head, finish

    def forward(self, x):
        return self.finish(self.head(self.act(self.conv(x)).mean((2, 3))), x)


class Cosine(nn.Linear):
    def forward(self, x):
        return 20 * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class Tripled(nn.Linear):
    def forward(self, x):
        return 3 * super().forward(x)


class Squashed(nn.Linear):
    def forward(self, x):
        return 5 * torch.tanh(super().forward(x))


class MergedAdapter(nn.Linear):
    """As loralib writes it: a Linear whose output is not its weight's alone."""

    def __init__(self, width, classes):
        super().__init__(width, classes)
        self.a, self.b = nn.Parameter(torch.randn(4, width)), nn.Parameter(torch.randn(classes, 4))

    def forward(self, x):
        return super().forward(x) + x @ self.a.T @ self.b.T / 2


class Adapter(nn.Module):
    """As PEFT writes it: a module around a Linear, and two small ones beside it."""

    def __init__(self, width, classes):
        super().__init__()
        self.base_layer = nn.Linear(width, classes)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(width, 4, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(4, classes, bias=False)})

    def forward(self, x):
        return self.base_layer(x) + 2 * self.lora_B["default"](self.lora_A["default"](x))


class EachClass(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(classes) + 0.5), nn.Parameter(torch.randn(classes))

    def forward(self, x):
        return x * self.scale + self.shift


class Tied(nn.Linear):
    """A decoder that has its encoder's matrix."""

    def forward(self, x):
        decoded = x @ self.weight
        super().forward(decoded)
        return decoded


class Averaged(nn.ModuleList):
    def forward(self, x):
        return sum(head(x) for head in self) / len(self)


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


def hooked(layer):
    layer.register_forward_hook(lambda _, __, output: 2 * output + 1)
    return layer


def linear():
    return nn.Linear(WIDTH, CLASSES)


EXACT = {
    "cosine": lambda: Cosine(WIDTH, CLASSES),
    "scaled": lambda: Tripled(WIDTH, CLASSES),
    "adapter within": lambda: MergedAdapter(WIDTH, CLASSES),
    "adapter around": lambda: Adapter(WIDTH, CLASSES),
    "weight norm": lambda: parametrizations.weight_norm(linear()),
    "old weight norm": lambda: weight_norm(linear()),
    "spectral norm": lambda: parametrizations.spectral_norm(linear()),
    "pruned": lambda: pruned(linear()),
    "hooked": lambda: hooked(linear()),
    "scaled and shifted": lambda: nn.Sequential(linear(), EachClass(CLASSES)),
    "normalised": lambda: nn.Sequential(linear(), nn.BatchNorm1d(CLASSES)),
    "tied": lambda: Tied(CLASSES, WIDTH),
    "averaged": lambda: Averaged([linear(), linear()]),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", EXACT)
def test_what_is_linear_in_the_features_is_found_exactly(kind, dtype):
    torch.manual_seed(0)
    model = Classifier(EXACT[kind]()).eval().to(dtype)
    head = find_head(model, torch.rand(2, 3, 64, 64).to(dtype))
    assert (head.tap.name, head.pooling) == ("act", "mean")
    assert head.weight.shape == (CLASSES, WIDTH)
    check_logits(model, head, dtype)


def check_logits(model, head, dtype):
    """On images that the head was not found with."""
    other = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(7)).to(dtype)
    with torch.no_grad():
        (features,) = read(model, [head.tap], other, None, head.reading)
        logits = model(other).float()
    error = (head.logits(features) - logits).abs().max() / logits.abs().max()
    assert error < (3e-2 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_linear_is_refused_with_the_layer_and_how_far_it_is_off(dtype):
    torch.manual_seed(0)
    model = Classifier(Squashed(WIDTH, CLASSES)).eval().to(dtype)
    with pytest.raises(ValueError, match=r"layers of that size: head \(Squashed: .* by \d+%\)"):
        find_head(model, torch.rand(2, 3, 64, 64).to(dtype))


@pytest.mark.parametrize(
    "finish",
    [
        lambda logits, x: logits + 1,
        lambda logits, x: logits * x.mean((1, 2, 3))[:, None],
        lambda logits, x: logits + 0.01 * logits.abs().mean(),
        lambda logits, x: logits.relu(),
    ],
)
def test_what_a_model_does_to_the_logits_by_function_is_refused(finish):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="Pass the class weights and the layer yourself"):
        find_head(Classifier(linear(), finish).eval(), torch.rand(2, 3, 64, 64))


def test_a_factor_is_the_heads_own():
    torch.manual_seed(0)
    model = Classifier(linear(), lambda logits, x: logits / 3).eval()
    head = find_head(model, torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(head.weight, model.head.weight.detach() / 3)


def test_what_holds_on_the_example_alone_is_refused_by_another_image():
    torch.manual_seed(0)
    model = Classifier(linear(), lambda z, x: torch.where(x.mean((1, 2, 3)) > 0.6, 2.0, 1.0)[:, None] * z)
    with pytest.raises(ValueError, match=r"'head' \(4x32\) .* by 50\.0%"):
        find_head(model.eval(), torch.rand(1, 3, 64, 64))


def test_the_check_costs_one_forward():
    model, runs = Classifier(linear()).eval(), []
    model.register_forward_hook(lambda *_: runs.append(1))
    find_head(model, torch.rand(2, 3, 64, 64))
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("squash", "name"),
    [(nn.LogSoftmax(1), "log_softmax"), (nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")],
)
def test_probabilities_are_refused_with_the_layer_that_gives_their_logits(squash, name):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), squash)
    with pytest.raises(ValueError, match=rf"the {name} of what '3' gives.*model\[:-1\]"):
        find_head(model.eval(), torch.rand(2, 3, 9, 9))


def test_an_example_of_several_parts_is_a_type_error():
    with pytest.raises(TypeError):
        find_head(Classifier(linear()), (torch.rand(2, 3, 64, 64), torch.ones(2)))
