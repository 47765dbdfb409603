"""A layer's output is exchanged in any nesting, and nothing else is touched."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from torchnle.vision.lens.run_until import run_until
from torchnle.vision.lens.substitution import exchange, substituted
from torchnle.vision.taps import Tap

OLD, NEW, OTHER = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([1.0])
Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class Record:
    first: Tensor
    size: tuple[int, int]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((OTHER, OLD), (OTHER, NEW)),
        ([OLD, 3], [NEW, 3]),
        ({"a": {"b": OLD}, "c": None}, {"a": {"b": NEW}, "c": None}),
        (Pair(OLD, OTHER), Pair(NEW, OTHER)),
        (Record(OLD, (3, 4)), Record(NEW, (3, 4))),
    ],
)
def test_one_tensor_is_exchanged_in_every_kind_of_nest(value, expected):
    found = exchange(value, OLD, NEW)
    assert type(found) is type(expected)
    assert str(found) == str(expected)


def test_the_output_of_a_model_of_transformers_stays_one():
    given = BaseModelOutput(last_hidden_state=OLD, hidden_states=(OTHER, OLD))
    found = exchange(given, OLD, NEW)
    assert isinstance(found, BaseModelOutput)
    assert found.last_hidden_state is NEW
    assert found.hidden_states[1] is NEW
    assert found["last_hidden_state"] is NEW
    assert given.last_hidden_state is OLD


class Takes(nn.Module):
    def forward(self, x, mask=None, *, scale=1.0):
        return (x if mask is None else x * mask) * scale


class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = Takes()

    def forward(self, x):
        return self.layer(x=x + 1, mask=torch.full_like(x, 2.0), scale=3.0)


def test_what_a_layer_receives_by_name_is_exchanged_too():
    model = Calls()
    with substituted(Tap("layer", model.layer, "input"), torch.tensor([10.0])):
        assert model(torch.tensor([1.0])).item() == 60.0
    assert model(torch.tensor([1.0])).item() == 12.0


def test_the_rest_of_the_model_does_not_run():
    ran = []
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    model[2].register_forward_hook(lambda *_: ran.append(1))
    found = run_until(model, Tap("1", model[1], "input"), torch.ones(1, 2))
    torch.testing.assert_close(found, model[0](torch.ones(1, 2)))
    assert not ran
    assert not any(len(m._forward_hooks) > (m is model[2]) or m._forward_pre_hooks for m in model.modules())


def test_a_layer_that_does_not_run_is_named():
    model = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(RuntimeError, match=r"'unused' \(ReLU\) did not run"):
        run_until(model, Tap("unused", nn.ReLU()), torch.ones(1, 2))
