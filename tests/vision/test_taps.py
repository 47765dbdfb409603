"""Taps record what plain hooks would, exactly once, and leave nothing behind."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from captum.attr import LayerFeatureAblation, LayerGradCam, LayerIntegratedGradients
from fakes import conv_net
from torch import nn
from torch.nn import functional as F

from torchnle.vision.taps import Tap, first_tensor, record, record_with_output, resolve

IMAGES = torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)


class Block(nn.Module):
    """One convolution whose ReLU is shared, works in place, and runs twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.idle = nn.Identity()

    def forward(self, x):
        return self.relu(self.norm(self.relu(self.conv(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer1, self.layer2 = Block(3), Block(4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 5)])

    def forward(self, x, scale=1.0):
        x = self.layer2(self.layer1(x)).mean((2, 3)) * scale
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture
def model():
    return Net().eval()


def hook_count(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def names(taps):
    return [tap.name for tap in taps]


class TestResolve:
    def test_by_name_module_tap_and_list(self, model):
        assert resolve(model, "layer1.conv") == [Tap("layer1.conv", model.layer1.conv)]
        assert resolve(model, model.layer2) == [Tap("layer2", model.layer2)]
        tap = Tap("mine", model.layer1, "input")
        assert resolve(model, tap) == [tap]
        assert names(resolve(model, ["layer2", model.layer1, tap])) == ["layer2", "layer1", "mine"]

    def test_at_goes_to_names_and_modules_but_not_to_taps(self, model):
        taps = resolve(model, ["layer1", model.layer2, Tap("t", model.layer1)], at="input")
        assert [tap.at for tap in taps] == ["input", "input", "output"]

    def test_globs_follow_module_order_and_stay_within_a_component(self, model):
        assert names(resolve(model, "layer?")) == ["layer1", "layer2"]
        assert names(resolve(model, "*.norm")) == ["layer1.norm", "layer2.norm"]
        assert names(resolve(model, "blocks.[1-9]")) == ["blocks.1"]

    def test_what_is_asked_for_twice_is_read_once(self, model):
        assert names(resolve(model, ["layer1", "layer*", model.layer1])) == ["layer1", "layer2"]

    def test_the_model_itself_can_be_tapped(self, model):
        tap = resolve(model, model)[0]
        assert tap.name == "Net"
        assert torch.equal(record(model, [tap], IMAGES)[0], model(IMAGES))

    def test_an_unknown_name_answers_with_the_nearest(self, model):
        with pytest.raises(ValueError, match=r"no layer of Net is called 'layr1'. Nearest: layer1"):
            resolve(model, "layr1")

    def test_a_glob_without_match(self, model):
        with pytest.raises(ValueError, match=r"'stages\.\*'"):
            resolve(model, "stages.*")

    def test_nothing_asked_for(self, model):
        with pytest.raises(ValueError, match="no layer was given"):
            resolve(model, [])

    def test_a_module_of_another_model(self, model):
        with pytest.raises(ValueError, match="the Block given as a layer is not a part of the model Net"):
            resolve(model, Net().layer1)

    def test_something_that_is_no_layer(self, model):
        with pytest.raises(TypeError, match="given as int"):
            resolve(model, [4])

    def test_plain_functions_take_modules_only(self, model):
        assert names(resolve(lambda x: model(x), model.layer1)) == ["Block"]
        with pytest.raises(TypeError, match="plain function"):
            resolve(lambda x: model(x), "layer1")

    def test_wrapped_models_keep_the_names_of_the_model(self, model):
        for wrapped in (torch.compile(model, backend="eager"), nn.DataParallel(model)):
            assert resolve(wrapped, "layer1")[0].module is model.layer1
            assert resolve(wrapped, model.layer1.conv)[0].name == "layer1.conv"


class TestRecord:
    def test_one_forward_gives_all_layers_in_the_order_asked(self, model):
        runs = []
        model.register_forward_hook(lambda *_: runs.append(1))
        taps = resolve(model, ["layer2", "layer1", "blocks.0"])
        layer2, layer1, block = record(model, taps, IMAGES)
        expected1 = model.layer1(IMAGES)
        expected2 = model.layer2(expected1.clone())
        torch.testing.assert_close(layer1, expected1)
        torch.testing.assert_close(layer2, expected2)
        torch.testing.assert_close(block, model.blocks[0](expected2.mean((2, 3))))
        assert len(runs) == 1

    def test_in_place_operations_cannot_overwrite_what_was_recorded(self, model):
        (conv,) = record(model, resolve(model, "layer1.conv"), IMAGES)
        torch.testing.assert_close(conv, model.layer1.conv(IMAGES))
        assert (conv < 0).any()

    def test_inputs_of_a_layer(self, model):
        (given,) = record(model, resolve(model, "layer1.norm", at="input"), IMAGES)
        torch.testing.assert_close(given, F.relu(model.layer1.conv(IMAGES)))

    def test_inputs_given_by_keyword(self):
        class Calls(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = KeywordOnly()

            def forward(self, x):
                return self.inner(hidden_states=x + 1)

        class KeywordOnly(nn.Module):
            def forward(self, *, hidden_states):
                return hidden_states

        model = Calls()
        assert record(model, resolve(model, "inner", at="input"), torch.zeros(1, 2))[0].tolist() == [[1, 1]]

    def test_a_batch_equals_one_by_one_and_permutes(self, model):
        taps = resolve(model, "layer*")
        for whole, first, second, swapped in zip(
            record(model, taps, IMAGES),
            record(model, taps, IMAGES[:1]),
            record(model, taps, IMAGES[1:]),
            record(model, taps, IMAGES.flip(0)),
            strict=True,
        ):
            torch.testing.assert_close(whole, torch.cat([first, second]), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(whole.flip(0), swapped, rtol=1e-5, atol=1e-6)

    def test_the_output_comes_along(self, model):
        taps = resolve(model, "layer1")
        activations, output = record_with_output(model, taps, IMAGES, 2.0)
        assert len(activations) == 1
        torch.testing.assert_close(output, model(IMAGES, 2.0))

    def test_gradients_flow_where_they_are_on(self, model):
        images = IMAGES.clone().requires_grad_()
        (maps,) = record(model, resolve(model, "layer2"), images)
        (gradient,) = torch.autograd.grad(maps.square().sum(), images)
        expected = IMAGES.clone().requires_grad_()
        model.layer2(model.layer1(expected)).square().sum().backward()
        torch.testing.assert_close(gradient, expected.grad)
        with torch.no_grad():
            assert not record(model, resolve(model, "layer2"), images)[0].requires_grad

    def test_no_hook_survives(self, model):
        record(model, resolve(model, "layer*"), IMAGES)
        assert hook_count(model) == 0

    @pytest.mark.parametrize("inputs", [torch.zeros(1, 9, 8, 8), torch.zeros(0, 3, 8, 8)])
    def test_no_hook_survives_an_exception(self, model, inputs):
        model.train()
        with pytest.raises((RuntimeError, ValueError)):
            record(model, resolve(model, ["layer*", "*.norm"]), inputs)
        assert hook_count(model) == 0
        assert all(module.training for module in model.modules())

    def test_a_plain_function_runs_the_tapped_modules_in_evaluation_mode(self):
        model = nn.Sequential(nn.Linear(3, 100), nn.Dropout(0.5)).train()
        taps = resolve(lambda x: model(x), model)
        recorded = record(lambda x: model(x), taps, torch.ones(1, 3))[0]
        torch.testing.assert_close(recorded, model[0](torch.ones(1, 3)))
        assert model.training

    def test_compiled_models_give_the_same(self, model):
        expected = record(model, resolve(model, "layer1.conv"), IMAGES)[0]
        compiled = torch.compile(model, backend="eager")
        compiled(IMAGES)
        torch.testing.assert_close(record(compiled, resolve(compiled, "layer1.conv"), IMAGES)[0], expected)

    def test_models_with_compiled_parts_give_the_same(self, model):
        expected = record(model, resolve(model, "layer1.conv"), IMAGES)[0]
        model.layer1.compile(backend="eager")
        model(IMAGES)
        torch.testing.assert_close(record(model, resolve(model, "layer1.conv"), IMAGES)[0], expected)
        model.layer2 = torch.compile(model.layer2, backend="eager")
        conv = model.layer2._orig_mod.conv
        assert record(model, resolve(model, conv), IMAGES)[0].shape == (2, 4, 8, 8)

    def test_dataparallel_gives_the_same(self, model):
        parallel = nn.DataParallel(model)
        expected = record(model, resolve(model, "layer1"), IMAGES)[0]
        torch.testing.assert_close(record(parallel, resolve(parallel, "layer1"), IMAGES)[0], expected)


class TestRefusals:
    def test_a_layer_that_never_runs(self, model):
        with pytest.raises(RuntimeError, match=r"'layer1.idle' \(Identity\) did not run"):
            record(model, resolve(model, "layer1.idle"), IMAGES)
        with pytest.raises(RuntimeError, match=r"'blocks' \(ModuleList\) did not run.*its children"):
            record(model, resolve(model, "blocks"), IMAGES)

    def test_a_layer_that_runs_twice(self, model):
        with pytest.raises(RuntimeError, match=r"'layer1.relu' \(ReLU\) ran 2 times.*at='input'"):
            record(model, resolve(model, "layer1.relu"), IMAGES)

    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
    def test_a_scripted_part(self, model):
        model.layer1 = torch.jit.script(model.layer1)
        with pytest.raises(RuntimeError, match="TorchScript"):
            record(model, resolve(model, "layer1.conv"), IMAGES)


Pair = namedtuple("Pair", ["a", "b"])


@dataclass
class Output:
    loss: float | None
    maps: torch.Tensor


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


class Around(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.inner = Returns(value)

    def forward(self, x):
        self.inner(x)
        return x


ONE, TWO = torch.ones(2, 3), torch.full((2, 3), 2.0)


class TestWhatLayersReturn:
    @pytest.mark.parametrize(
        "value",
        [
            ONE,
            (ONE, TWO),
            [None, ONE, TWO],
            (None, (ONE, TWO)),
            {"loss": None, "a": ONE, "b": TWO},
            OrderedDict(a=ONE, b=TWO),
            Pair(ONE, TWO),
            Output(None, ONE),
        ],
    )
    def test_the_first_tensor_is_taken(self, value):
        model = Around(value)
        assert torch.equal(record(model, resolve(model, "inner"), torch.zeros(2, 3))[0], ONE)

    def test_model_outputs(self):
        from transformers.modeling_outputs import BaseModelOutput

        assert first_tensor(BaseModelOutput(hidden_states=(ONE, TWO))) is ONE

    def test_a_recurrent_layer(self):
        model = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
        x = torch.ones(2, 5, 3)
        assert torch.equal(record(model, resolve(model, "0"), x)[0], model[0](x)[0])

    def test_select_picks(self):
        model = Around({"a": ONE, "b": TWO})
        got = record(model, resolve(model, "inner"), torch.zeros(2, 3), select=lambda out: out["b"])[0]
        assert torch.equal(got, TWO)

    @pytest.mark.parametrize("value", [None, 3, "text", {}, (None, 1)])
    def test_nothing_usable_names_layer_and_type(self, value):
        model = Around(value)
        kind = type(value).__name__
        with pytest.raises(TypeError, match=rf"layer 'inner' \(Returns\) gave a {kind} without a tensor"):
            record(model, resolve(model, "inner"), torch.zeros(2, 3))

    def test_select_must_return_a_tensor(self):
        model = Around((ONE, TWO))
        with pytest.raises(TypeError, match="select= took a tuple"):
            record(model, resolve(model, "inner"), torch.zeros(2, 3), select=lambda out: out)


class Score(nn.Module):
    """A forward function for Captum that reads a layer through a tap, as TextScore does."""

    def __init__(self, model, layer):
        super().__init__()
        self.model = model
        self.taps = resolve(model, layer)

    def forward(self, x):
        return record(self.model, self.taps, x)[0].mean((2, 3)).square()


class TestBesideCaptum:
    def test_layer_methods_on_the_tapped_layer(self, model):
        score = Score(model, "layer1")
        attribution, delta = LayerIntegratedGradients(score, model.layer1).attribute(
            IMAGES, target=0, return_convergence_delta=True, n_steps=60
        )
        assert attribution.abs().sum() > 0
        assert delta.abs().max() < 1e-3 * score(IMAGES)[:, 0].abs().max()
        assert LayerGradCam(score, model.layer1).attribute(IMAGES, target=0).shape == (2, 1, 8, 8)

    def test_what_captum_puts_in_the_layers_place_is_seen(self, model):
        score = Score(model, "layer1")
        ablated = LayerFeatureAblation(score, model.layer1).attribute(
            IMAGES, target=0, layer_mask=torch.zeros(1, 1, 1, 1, dtype=torch.long).expand(1, 4, 8, 8)
        )
        expected = score(IMAGES)[:, :1, None, None].expand(2, 4, 8, 8)
        torch.testing.assert_close(ablated, expected)


def test_a_name_can_ask_for_what_a_layer_receives():
    model = conv_net()
    x = torch.randn(2, 3, 8, 8)
    (received,) = record(model, resolve(model, "pool:input"), x)
    (given,) = record(model, resolve(model, "norm"), x)
    assert torch.equal(received, given)
    assert [tap.name for tap in resolve(model, ["norm", "pool:input"])] == ["norm", "pool:input"]
    with pytest.raises(ValueError, match="called 'pol'"):
        resolve(model, "pol:input")
