"""Every row of the Captum conformance matrix: other people's methods call ours, and ours obey their rules."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from captum.attr import (
    FeatureAblation,
    IntegratedGradients,
    KernelShap,
    LayerAttribution,
    LayerFeatureAblation,
    LayerGradCam,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from captum.attr import visualization as viz
from captum.concept import TCAV, Concept
from captum.metrics import infidelity, sensitivity_max
from fakes import conv_net
from torch import nn

from torchnle import LanguageAttribution, LayerLanguageAttribution, NeuronLanguageAttribution, TextScore
from torchnle.description import Description, DescriptionGrid

matplotlib.use("Agg")
TEXTS = ["a cat", "a dog", "grass"]


@pytest.fixture
def score(model, translator):
    return TextScore(model, "layer", translator, TEXTS)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = conv_net()

    def forward(self, first, second, scale=1.0):
        return self.net(first + scale * second)


@pytest.mark.parametrize("target", ["a cat", ["a cat", "a dog", "a cat"]])
@pytest.mark.parametrize("nt_type", ["smoothgrad", "vargrad"])
def test_noise_tunnel_over_language_attribution(lang, x, target, nt_type):
    out = NoiseTunnel(lang).attribute(
        x, nt_type=nt_type, nt_samples=5, nt_samples_batch_size=2, stdevs=0.1, target=target
    )
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert out.std() > 0


def test_noise_tunnel_without_noise_is_the_attribution(lang, x):
    out = NoiseTunnel(lang).attribute(x, nt_samples=2, stdevs=0.0, target=["a cat", "a dog", "grass"])
    torch.testing.assert_close(out, lang.attribute(x, target=["a cat", "a dog", "grass"]))


def test_noise_tunnel_repeats_additional_forward_args(translator, x):
    lang = LanguageAttribution(TwoInputs(), "net.layer", translator)
    out = NoiseTunnel(lang).attribute(
        x, nt_samples=3, stdevs=0.0, target="a cat", additional_forward_args=(torch.ones_like(x),)
    )
    torch.testing.assert_close(
        out, lang.attribute(x, target="a cat", additional_forward_args=torch.ones_like(x))
    )


def test_noise_tunnel_over_layer_language_attribution(model, translator, x):
    layer = LayerLanguageAttribution(model, model.layer, translator)
    assert NoiseTunnel(layer).attribute(x, nt_samples=2, stdevs=0.1, target="a cat").shape == (3, 1, 4, 4)


def test_sensitivity_max_gives_one_value_an_example(lang, x):
    out = sensitivity_max(lang.attribute, x, target="a cat", n_perturb_samples=2)
    assert out.shape == (3,)
    one_by_one = [
        sensitivity_max(lang.attribute, x[i : i + 1], perturb_func=_shift, target="a cat") for i in range(3)
    ]
    together = sensitivity_max(lang.attribute, x, perturb_func=_shift, target="a cat")
    torch.testing.assert_close(together, torch.cat(one_by_one))


def test_sensitivity_max_with_two_inputs(translator, x):
    lang = LanguageAttribution(TwoInputs(), "net.layer", translator)
    out = sensitivity_max(lang.attribute, (x, x.flip(0)), target="a cat", n_perturb_samples=2)
    assert out.shape == (3,)


def _shift(inputs, _radius=None):
    return tuple(tensor + 0.05 for tensor in inputs) if isinstance(inputs, tuple) else inputs + 0.05


def _noise(inputs):
    noise = torch.full_like(inputs, 0.01)
    return noise, inputs - noise


def test_infidelity_of_the_map_of_a_text(lang, score, x):
    heat = lang.attribute(x, target=TEXTS[1])
    out = infidelity(score, _noise, x, heat, target=1, n_perturb_samples=2)
    assert out.shape == (3,)
    assert out.isfinite().all()


def test_infidelity_refuses_a_layer_shaped_map(model, translator, score, x):
    heat = LayerLanguageAttribution(model, "layer", translator).attribute(x, target=TEXTS[1])
    with pytest.raises(AssertionError):
        infidelity(score, _noise, x, heat, target=1)


def test_infidelity_refuses_a_text_as_target(lang, score, x):
    with pytest.raises((AssertionError, TypeError)):
        infidelity(score, _noise, x, lang.attribute(x, target="a cat"), target="a cat")


def test_an_undecorated_attribute_fails_in_noise_tunnel(lang, x):
    class Undecorated(LanguageAttribution):
        def attribute(self, *args, **kwargs):
            return super().attribute(*args, **kwargs)

    bare = Undecorated(lang.forward_func, "layer", lang.translator)
    with pytest.raises(AttributeError):
        NoiseTunnel(bare).attribute(x, target="a cat")


def test_integrated_gradients_explain_a_sentence_completely(score, x):
    out, delta = IntegratedGradients(score).attribute(x, target=1, n_steps=200, return_convergence_delta=True)
    assert out.shape == x.shape
    assert delta.abs().max() < 1e-2
    difference = (score(x) - score(torch.zeros_like(x)))[:, 1]
    torch.testing.assert_close(out.flatten(1).sum(1), difference, atol=1e-2, rtol=0)


def test_layer_grad_cam(score, x):
    assert LayerGradCam(score, score.model.layer).attribute(x, target=0).shape == (3, 1, 4, 4)


def test_layer_integrated_gradients_see_the_layer_that_is_tapped(score, x):
    out = LayerIntegratedGradients(score, score.model.layer).attribute(x, target=0)
    assert out.shape == (3, 6, 4, 4)
    assert out.abs().sum() > 0


def test_layer_feature_ablation_is_not_silently_zero(score, x):
    out = LayerFeatureAblation(score, score.model.layer).attribute(x, target=0)
    assert out.abs().sum() > 0


def test_layer_gradient_x_activation(score, x):
    out = LayerGradientXActivation(score, score.model.stem).attribute(x, target=2)
    assert out.shape == (3, 4, 8, 8)
    assert out.abs().sum() > 0


def test_perturbation_methods(score, x):
    occlusion = Occlusion(score).attribute(x, target=0, sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4))
    assert occlusion.shape == x.shape
    assert occlusion.abs().sum() > 0
    mask = torch.arange(4).view(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 3, 8, 8)
    assert FeatureAblation(score).attribute(x, target=1, feature_mask=mask).shape == x.shape
    shap = KernelShap(score).attribute(x[:1], target=1, feature_mask=mask, n_samples=20)
    assert shap.shape == (1, 3, 8, 8)


def test_noise_tunnel_of_saliency_over_text_score(score, x):
    assert NoiseTunnel(Saliency(score)).attribute(x, nt_samples=2, target=1, stdevs=0.1).abs().sum() > 0


@pytest.mark.filterwarnings("ignore")
def test_tcav_over_text_score(score, tmp_path):
    def concept(number, shift):
        data = (torch.rand(10, 3, 8, 8) * 0.2 + shift).unbind()
        return Concept(number, f"concept{number}", torch.utils.data.DataLoader(data, batch_size=5))

    torch.manual_seed(0)
    tcav = TCAV(score, ["model.layer"], save_path=str(tmp_path))
    scores = tcav.interpret(torch.rand(4, 3, 8, 8), [[concept(0, 0.0), concept(1, 0.6)]], target=0)
    assert set(scores["0-1"]["model.layer"]) == {"sign_count", "magnitude"}


def test_visualisation_takes_the_map(lang, x):
    heat = lang.attribute(x, target="a cat")[0].permute(1, 2, 0).numpy()
    image = x[0].permute(1, 2, 0).numpy()
    viz.visualize_image_attr(heat, image, method="blended_heat_map", sign="all", use_pyplot=False)
    viz.visualize_image_attr_multiple(
        heat, image, ["original_image", "heat_map"], ["all", "all"], use_pyplot=False
    )
    assert np.isfinite(heat).all()


def test_layer_map_interpolates(model, translator, x):
    heat = LayerLanguageAttribution(model, "layer", translator).attribute(x, target="a cat")
    assert LayerAttribution.interpolate(heat, (16, 12), "bilinear").shape == (3, 1, 16, 12)


def test_tuples_in_tuples_out(translator, x):
    lang = LanguageAttribution(TwoInputs(), "net.layer", translator)
    out = lang.attribute((x, 2 * x), target="a cat", additional_forward_args=0.5)
    assert isinstance(out, tuple)
    assert [o.shape for o in out] == [x.shape, x.shape]
    direct = LanguageAttribution(lang.forward_func.net, "layer", translator)
    torch.testing.assert_close(out[0], direct.attribute(2 * x, target="a cat"))


def test_lists_of_layers_give_lists(model, translator, x):
    lang = LanguageAttribution(model, ["layer", "norm"], translator)
    heats = lang.attribute(x, target="a cat")
    assert [h.shape for h in heats] == [x.shape, x.shape]
    glob = LayerLanguageAttribution(model, "la*", translator)
    assert glob.attribute(x, target="a cat").shape == (3, 1, 4, 4)


@pytest.mark.parametrize("spelled", ["layer", "la*", ["layer"], ("layer",)])
def test_one_layer_however_it_is_spelled_gives_a_flat_answer(model, translator, x, spelled):
    lang = LanguageAttribution(model, spelled, translator)
    assert [type(word) for word in lang.describe(x)] == [Description] * 3
    assert [type(grid) for grid in lang.describe(x, where="all")] == [DescriptionGrid] * 3
    assert lang.attribute(x, target="a cat").shape == x.shape
    assert lang.saliency(x, ["a cat", "sky"]).shape == (3, 2, *x.shape[2:])
    assert lang.saliency(x, ["a cat", "sky"], interpolate_mode=None).shape == (3, 2, 4, 4)
    assert [type(grid) for grid in lang.top_texts(x, ["a cat", "sky"], k=2).found] == [DescriptionGrid] * 3


def test_an_exception_in_the_model_leaves_no_hook(translator, x):
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net()

        def forward(self, inputs):
            self.net(inputs)
            raise RuntimeError("broken on purpose")

    model = Breaks()
    for call in (
        lambda: LanguageAttribution(model, "net.layer", translator).attribute(x, target="a cat"),
        lambda: TextScore(model, "net.layer", translator, TEXTS)(x),
    ):
        with pytest.raises(RuntimeError, match="broken on purpose"):
            call()
        assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 0


def test_names_and_flags_follow_captum(lang, model, translator):
    assert lang.get_name() == "Language Attribution"
    assert not lang.has_convergence_delta()
    layer = LayerLanguageAttribution(model, "layer", translator)
    assert layer.layer is model.layer
    layer.layer = model.norm  # as TCAV does
    assert [tap.name for tap in layer.taps] == ["norm"]
    for method in (lang, layer, NeuronLanguageAttribution(model, "layer", translator)):
        with pytest.raises(NotImplementedError):
            method.attribute_future()
