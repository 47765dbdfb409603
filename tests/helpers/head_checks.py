"""Find a model's head, and check by numbers that what was found gives the model's logits."""

import torch
from torch import nn
from torch.nn import functional as F

from torchnle.heads.classifier_head import find_head
from torchnle.vision.features import Features
from torchnle.vision.layouts import hints_for
from torchnle.vision.taps import first_tensor, record_with_output, resolve

SIZE = (96, 128)


def images(size=SIZE, channels=3):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


def trained_looking(model):
    """Untrained models have heads of zeros and statistics of nothing; these are neither."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def read_back(model, head, example, where=None):
    """Return what the head receives, by a second forward and the public path alone, and the logits."""
    features, logits = features_at(model, head, example)
    with torch.no_grad():
        return head.read(features, where), logits


def features_at(model, head, example):
    with torch.no_grad():
        (activation,), output = record_with_output(model, [head.tap], example)
    features = Features.from_activation(
        activation,
        head.tap.name,
        batch_size=len(example),
        input_size=tuple(example.shape[2:]),
        layout=head.layout,
        num_prefix_tokens=head.num_prefix_tokens,
        hints=hints_for(model, head.tap.module, head.tap.at),
    )
    return features, first_tensor(getattr(output, "logits", output))


def neck_of(head):
    return head.branches[0].neck if head.branches else None


def scores(head, features):
    return F.linear(features.rows, head.weight, head.bias)


def check(model, *, head_name, tap, pooling, locations, at="output", size=SIZE):
    """Find the head, compare what was chosen, and check by numbers that it gives the logits."""
    example = images(size)
    head = find_head(trained_looking(model), example)
    assert (head.head_name, head.tap.name, head.tap.at, head.pooling) == (head_name, tap, at, pooling)
    assert resolve(model, head.tap.name) == [head.tap]
    features, logits = features_at(model, head, example)
    assert logits.abs().max() > 0
    close = {"rtol": 1e-4, "atol": 1e-5 * float(logits.abs().max())}
    with torch.no_grad():
        torch.testing.assert_close(head.logits(features), logits, **close)
    if not head.clipped:
        torch.testing.assert_close(scores(head, read_back(model, head, example)[0]), logits, **close)
    if locations is not None:
        everywhere = read_back(model, head, example, "all")[0]
        assert everywhere.grid == locations
        if pooling == "mean" and neck_of(head) is None and not head.clipped:
            mean = scores(head, everywhere).view(*logits.shape[:1], -1, logits.shape[1]).mean(1)
            torch.testing.assert_close(mean, logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))
    assert f"'{head_name}'" in head.summary
    return head
