"""Cases of classifier heads and class names."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measurements.fuzz.world import LetterEncoder
from measurements.reliability.cases.case import Found, Topic, equal, first_wrong, images, near, refused
from measurements.reliability.cases.models import NAMES, Outputs, attached, body, classifier
from torchnle import backbones
from torchnle.heads.class_names import as_class_names
from torchnle.heads.classifier_head import find_head
from torchnle.methods.aligned import embeddings
from torchnle.vision.reading import read

TOPIC = Topic("heads and class names")
case = TOPIC.case
X = images(2, 64, 64)


class _Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 20 * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class _Adapted(nn.Linear):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.a, self.b = nn.Parameter(torch.randn(4, width)), nn.Parameter(torch.randn(classes, 4))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.a.T @ self.b.T


class _Squashed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 5 * torch.tanh(super().forward(x))


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor = X, tolerance: float = 1e-5, classes: int | None = None) -> Found:
    """Compare the logits made of what was found with the model's, on images not used for finding."""
    head = find_head(model, x, classes)
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(5)).to(x.dtype)
    (features,) = read(model, [head.tap], other, None, head.reading)
    output: Any = model(other)
    return near(head.logits(features).float(), output.float(), tolerance)


def _with_head(head: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*body(), head).eval()


@case("20 cos(features, weights) as a subclass of Linear", "the model's logits within 1e-5, or a ValueError")
def cosine() -> Found:
    """A head that normalises its features and weights."""
    return _logits(_with_head(_Cosine(32, 4)))


@case("a Linear with a low-rank product added in its forward", "the model's logits within 1e-5")
def adapter() -> Found:
    """A head with an adapter merged into its forward."""
    return _logits(_with_head(_Adapted(32, 4)))


@case("5 tanh(Linear)", "a ValueError that names the layer")
def squashed() -> Found:
    """A head that is not linear in the features."""
    return refused(lambda: find_head(_with_head(_Squashed(32, 4)), X), "4 \\(_Squashed|'4'")


@case("weight_norm, a Linear with forward hook, bfloat16 weights", "the model's logits")
def unusual_heads() -> Found:
    """Heads whose weight is computed, hooked, or of another dtype."""
    hooked = _with_head(nn.Linear(32, 4))
    hooked[-1].register_forward_hook(lambda _, __, y: 2 * y + 1)  # type: ignore[index]
    normed = _with_head(nn.utils.parametrizations.weight_norm(nn.Linear(32, 4)))
    half = _with_head(nn.Linear(32, 4)).to(torch.bfloat16)
    kinds = {
        "hooked": (hooked, X, 1e-5),
        "weight norm": (normed, X, 1e-5),
        "bfloat16": (half, X.bfloat16(), 0.03),
    }
    return first_wrong([(name, _logits(*given)) for name, given in kinds.items()])


@case("logits + 1, logits times the image's mean, relu(logits), by function", "a ValueError each")
def by_function() -> Found:
    """A model that changes its logits by a function after the head."""
    kinds = {
        "plus one": lambda y, x: y + 1,
        "times the mean": lambda y, x: y * x.mean((1, 2, 3))[:, None],
        "relu": lambda y, x: y.relu(),
    }
    tried = []
    for name, finish in kinds.items():
        model = classifier()
        model.register_forward_hook(lambda _, x, y, finish=finish: finish(y, x[0]))
        tried.append((name, refused(lambda model=model: find_head(model, X, 4), "class")))
    return first_wrong(tried)


@case('{"0": "cat", "1": "dog", ...}', "cat, dog, car, tree")
def index_to_name() -> Found:
    """Class names as a mapping from an index, as JSON writes it."""
    return equal(as_class_names({str(i): name for i, name in enumerate(NAMES)}), NAMES)


@case('{"cat": 0, ...}, and {0: "cat", ...} in another order', "cat, dog, car, tree")
def name_to_index() -> Found:
    """Class names as a mapping to an index, and as id2label."""
    mapped: list[dict[Any, Any]] = [{name: i for i, name in enumerate(NAMES)}]
    mapped.append({i: NAMES[i] for i in (2, 0, 3, 1)})
    return first_wrong([(str(each), equal(as_class_names(each), NAMES)) for each in mapped])


@case('{"a": "b"}, {0: "cat", 2: "dog"}, [1, 2], b"cat", {"cat", "dog"}', "a TypeError or ValueError each")
def wrong_names() -> Found:
    """Class names of the wrong type, or with an index left out."""
    wrong: list[Any] = [
        {"a": "b"},
        {0: "cat", 2: "dog"},
        [1, 2],
        b"cat",
        {"cat", "dog"},
        {"cat": 0.5, "dog": 1},
    ]
    return first_wrong([(str(each), refused(lambda each=each: as_class_names(each))) for each in wrong])


@case(
    "1,000 classes that id2label calls kind 0 to kind 999",
    "kind 0 to kind 999, not ImageNet's",
    "transformers",
)
def own_thousand() -> Found:
    """A classifier of one's own with exactly as many classes as ImageNet."""
    import transformers

    names = {i: f"kind {i}" for i in range(1000)}
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        id2label=names,
        label2id={v: k for k, v in names.items()},
    )
    torch.manual_seed(0)
    found = backbones.stated_names(transformers.ResNetForImageClassification(config).eval())
    return equal(found and (len(found[0]), found[0][0], found[0][-1]), (1000, "kind 0", "kind 999"))


@case("a Linear of 1,000 outputs in plain PyTorch, no names", "a ValueError that asks for class_names")
def nameless_thousand() -> Found:
    """A classifier of 1,000 classes that states no names."""
    return refused(lambda: attached(classifier(classes=1000), X, None), "class_names")


_SHAPES: dict[str, Any] = {
    "{features, logits}": lambda f, y, o: {"features": f, "logits": y},
    "(features, logits)": lambda f, y, o: (f, y),
    "two heads": lambda f, y, o: (o, y),
    "nested": lambda f, y, o: {"out": (f, [y])},
    "beside a loss": lambda f, y, o: {"loss": None, "maps": f, "out": y},
}


@case("a dict, a tuple, two heads, nested, beside a loss; four names", "the tensor of four classes")
def several_outputs() -> Found:
    """A model with several outputs."""

    def one(shape: Any) -> Found:
        model = Outputs(shape)
        head = find_head(model, X, 4)
        (features,) = read(model, [head.tap], X, None, head.reading)
        return near(head.logits(features), model.head(model.body(X)).detach(), 1e-5)

    return first_wrong([(name, one(shape)) for name, shape in _SHAPES.items()])


@case("two heads of 4 and 7 classes, five names", "a ValueError that states the sizes")
def no_such_output() -> Found:
    """Several outputs, none of as many classes as names."""
    return refused(lambda: find_head(Outputs(lambda f, y, o: (o, y)), X, 5), "5", "4|7")


@case("a classifier that ends in LogSoftmax, Softmax, Sigmoid", "a ValueError that says how to pass its head")
def probabilities() -> Found:
    """A classifier that gives probabilities."""
    ends = (nn.LogSoftmax(1), nn.Softmax(1), nn.Sigmoid())
    found = [
        (str(end), refused(lambda end=end: attached(classifier(end), X), r"model\[:-1\]")) for end in ends
    ]
    return first_wrong(found)


@case("example=(image, meta)", "a TypeError that says to pass one tensor")
def example_of_parts() -> Found:
    """An example of several parts."""
    given: Any = (X, torch.zeros(2))
    return refused(lambda: attached(classifier(), given), "one tensor")


@case("a model of one channel, no example", "an answer, or an error that says to pass example=")
def one_channel() -> Found:
    """A model that takes grey images, without an example."""
    lang = attached(classifier(channels=1), None)
    return equal(tuple(lang.saliency(images(1, 32, 32, 1), ["a cat"]).shape), (1, 1, 32, 32))


@case("describe(x[0])", "an error that says to add a batch axis")
def no_batch_axis() -> Found:
    """An image without a batch axis."""
    lang = attached(classifier(), X)
    return refused(lambda: lang.describe(X[0]), r"batch|x\[None\]")


@case("a model under accelerate's cpu_offload", "a ValueError in a sentence", "accelerate")
def offloaded() -> Found:
    """Weights that are offloaded."""
    from accelerate import cpu_offload

    model = classifier()
    cpu_offload(model, torch.device("cpu"))
    return refused(lambda: attached(model, X), "offloaded")


@case("weights and images made in inference mode", "the maps of ordinary weights")
def inference_weights() -> Found:
    """Weights made in inference mode."""
    expected = attached(classifier(), X).saliency(X, ["cat"])
    with torch.inference_mode():
        model, x = classifier(), X.clone()
    return near(attached(model, x).saliency(x, ["cat"]).clone(), expected, 1e-6)


@case("21,841 class names", "progress is shown while they are encoded")
def many_classes() -> Found:
    """The names of 21,841 classes."""
    seen: list[bool] = []

    def shown(blocks: Any, *, desc: str, disable: bool) -> Any:
        seen.append(not disable)
        return blocks

    names = [f"a kind {n}" for n in range(21_841)]
    with patch.object(embeddings, "tqdm", shown):
        rows = len(embeddings.embed_cached(LetterEncoder(), names))
    return f"{rows} rows, progress shown: {seen == [True]}", rows == len(names) and seen == [True]
