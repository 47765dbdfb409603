"""A forward of somebody else's model leaves no trace, and fails in words."""

import copy

import pytest
import torch
from torch import nn

from torchnle.vision.running import check_hookable, evaluating, forward, unwrap


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)))


IMAGES = torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)


class KeepsTrainMode(nn.Module):
    """Overrides train(), as adapters that merge their weights do."""

    def train(self, mode=True):
        raise AssertionError("train() must not be called")

    def forward(self, x):
        return x * (2 if self.training else 1)


def test_training_flags_come_back_exactly_and_statistics_stay():
    model = small_net().train()
    model[2][0].eval()
    flags = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    expected = copy.deepcopy(model).eval()(IMAGES)
    torch.testing.assert_close(forward(model, IMAGES), expected)
    assert [module.training for module in model.modules()] == flags
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_train_and_eval_are_not_called():
    assert torch.equal(forward(KeepsTrainMode(), torch.ones(1, 2)), torch.ones(1, 2))


def test_flags_come_back_after_an_exception():
    model = small_net().train()
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert all(module.training for module in model.modules())


def test_inputs_and_gradient_mode_are_left_alone():
    images = IMAGES.clone().requires_grad_()
    assert forward(small_net(), images).requires_grad
    with torch.no_grad():
        assert not forward(small_net(), images).requires_grad
    plain = IMAGES.clone()
    forward(small_net(), plain)
    assert not plain.requires_grad
    assert plain.grad is None


def test_additional_arguments_follow_the_inputs():
    def add(image, other, *rest):
        return image + other, rest

    total, rest = forward(add, (torch.ones(1, 2), torch.ones(1, 2)), additional_forward_args=(5, None))
    assert total.tolist() == [[2.0, 2.0]]
    assert rest == (5, None)
    assert forward(add, (torch.ones(1, 2), torch.ones(1, 2)), additional_forward_args=[7])[1] == ([7],)


def test_a_bound_method_is_evaluated_with_its_module():
    model = nn.Dropout(0.5).train()
    assert torch.equal(forward(model.forward, torch.ones(1, 100)), torch.ones(1, 100))
    assert model.training


def test_half_precision_models_work_or_say_what_to_convert():
    model = small_net().to(torch.bfloat16)
    assert forward(model, IMAGES.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"torch\.float32 but the model is torch\.bfloat16.*inputs\.to"):
        forward(model, IMAGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert forward(small_net(), IMAGES).isfinite().all()


def test_models_that_cast_their_input_are_not_refused():
    class Casts(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small_net().to(torch.bfloat16)

        def forward(self, x):
            return self.inner(x.to(torch.bfloat16))

    assert forward(Casts(), IMAGES).dtype == torch.bfloat16


def test_a_device_mismatch_names_both_devices():
    with pytest.raises(ValueError, match="the input is on meta but the model on cpu"):
        forward(small_net(), IMAGES.to("meta"))


def test_weights_without_values_are_named():
    with pytest.raises(ValueError, match=r"meta device and have no values\..*load_state_dict"):
        forward(small_net().to("meta"), IMAGES)


def test_wrong_channels_keep_torchs_own_words():
    with pytest.raises(ValueError, match="3 channels, but got 4 channels"):
        forward(small_net(), torch.zeros(1, 4, 8, 8))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda m: torch.jit.trace(m, IMAGES)])
def test_torchscript_says_that_hooks_cannot_work(compiled):
    with pytest.raises(RuntimeError, match=r"TorchScript.*Pass the original nn\.Module"):
        check_hookable(compiled(small_net().eval()), [])


def test_wrappers_are_looked_through():
    model = small_net()
    assert unwrap(torch.compile(nn.DataParallel(model), backend="eager")) is model
    assert unwrap(model.forward) is model
    assert unwrap(lambda x: x) is None


def test_dataparallel_over_several_devices_says_why_not():
    parallel = nn.DataParallel(small_net())
    parallel.device_ids = [0, 1]
    with pytest.raises(RuntimeError, match=r"over 2 devices.*model\.module"):
        forward(parallel, IMAGES)
