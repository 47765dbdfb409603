"""A language model's reading is checked once a model; the verdict is not taken for another one."""

from __future__ import annotations

import pytest
import torch
from tiny import make_lm, make_model, make_tokenizer

from torchnle.language import verdicts
from torchnle.language.model import LanguageModel
from torchnle.language.packed import self_check


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """The checks that ran, with an empty memory and folder."""
    calls, check = [], self_check.difference_of_reading
    monkeypatch.setattr(verdicts, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(verdicts, "_seen", {})
    monkeypatch.setattr(self_check, "difference_of_reading", lambda lm: calls.append(lm) or check(lm))
    return calls


def test_a_second_wrapping_and_a_second_start_check_nothing(counted, monkeypatch, tmp_path):
    first = make_lm("llama")
    make_lm("llama")
    assert len(counted) == 1
    monkeypatch.setattr(verdicts, "_seen", {})  # another process
    again = make_lm("llama")
    assert len(counted) == 1
    assert (again.plain, again.short_attention) == (first.plain, first.short_attention)
    (file,) = (tmp_path / "torchnle" / "readings").iterdir()
    for damaged in ("", "{", "[]", '{"difference": 3, "short_attention": true}', '{"difference": null}'):
        file.write_text(damaged)
        monkeypatch.setattr(verdicts, "_seen", {})
        make_lm("llama")
        file.write_text(damaged)
    assert len(counted) == 6


OTHERS = {
    "weights": lambda: make_lm("llama", seed=1),
    "a dtype": lambda: make_lm("llama", dtype=torch.float64),
    "a family": lambda: make_lm("qwen2"),
    "a configuration": lambda: configured(),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_model_is_checked(other, counted):
    make_lm("llama")
    other()
    assert len(counted) == 2


@pytest.mark.parametrize("own", [lambda: hooked(), lambda: own_forward()])
def test_what_cannot_be_told_from_another_is_checked_each_time(own, counted):
    make_lm("llama")
    own()
    own()
    assert len(counted) == 3


def hooked():
    model = make_model("llama")
    model.model.layers[0].register_forward_hook(lambda module, args, output: output)
    return LanguageModel(model, make_tokenizer())


def own_forward():
    model = make_model("llama")
    layer = model.model.layers[0]
    layer.forward = layer.forward
    return LanguageModel(model, make_tokenizer())


def configured():
    model = make_model("llama")
    model.config.rope_theta = 77.0  # older versions of transformers
    rope = getattr(model.config, "rope_parameters", None) or {}
    model.config.rope_parameters = {**rope, "rope_theta": 77.0}
    return LanguageModel(model, make_tokenizer())


def test_a_plain_reading_is_said_again(counted):
    from measurements.reading.tiny_models import build, tokenizer

    for _ in range(2):
        with pytest.warns(UserWarning, match="reads otherwise with"):
            assert LanguageModel(build("mpt"), tokenizer()).plain
    assert len(counted) == 1


def test_a_forward_replaced_in_the_class_is_checked_each_time(counted, monkeypatch):
    """As libraries do that make models faster: the class and its name stay those of transformers."""
    make_lm("llama")
    model = make_model("llama")
    kind = type(model.model.layers[0].mlp)
    plain = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: plain(self, x) * (1 + 0.2 * x.shape[1]))
    with pytest.raises(ValueError, match="no causal language model"):
        LanguageModel(model, make_tokenizer())
    monkeypatch.setattr(kind, "forward", lambda self, x: plain(self, x))
    for _ in range(2):
        LanguageModel(model, make_tokenizer())
    assert len(counted) == 3
