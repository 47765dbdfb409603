"""What all that is saved shares: frozen models move along, are never stored, and stand on the card."""

from __future__ import annotations

import pytest
import torch
import yaml
from letter_encoder import LetterEncoder
from tiny_translators import WIDTH, Doubler, tiny_language_model, tiny_network, tiny_translator

from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence, TextDecoder
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.clip.translator import ClipTranslator
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.pretrained import Pretrained

META = torch.device("meta")


class Letters(LetterEncoder):
    """Letters that remember where they were moved."""

    def to(self, device):
        self.device = torch.device(device)
        return self


def decoder():
    network = PrefixFromSentence(26, WIDTH, opening_length=1, prefix_length=2, hidden=4)
    return TextDecoder(
        network,
        tiny_language_model(reference="org/lm"),
        encoder="letters",
        prompt="the",
        reference="org/decoder",
    )


def mapped(decoder):
    return MapTranslator({"layer4": TextMap(8, 26, phrases=1)}, Letters(), decoder, phrases=["a cat"])


KINDS = {
    "map": (lambda: mapped(decoder()), ("letters", "org/decoder", "org/lm")),
    "map without a decoder": (lambda: mapped(None), ("letters",)),
    "clip": (lambda: ClipTranslator(Letters(), bank=["cat"]), ("letters",)),
    "prefix": (
        lambda: tiny_translator(tiny_language_model(reference="org/lm"), backbone="timm/net"),
        ("org/lm", "timm/net"),
    ),
    "text_decoder": (decoder, ("org/lm", "letters")),
    "none": (Doubler, ()),
}


def frozen(module):
    """All frozen models of a module, and theirs."""
    for name in module.frozen_models:
        model = getattr(module, name)
        if model is not None:
            yield model
            yield from frozen(model) if isinstance(model, Pretrained) else ()


@pytest.mark.parametrize("kind", KINDS)
def test_to_moves_every_frozen_model(kind):
    module = KINDS[kind][0]()
    before = [model.device for model in frozen(module)]
    assert module.float() is module  # another dtype is no other device
    assert [model.device for model in frozen(module)] == before
    assert module.to("meta") is module
    assert {model.device for model in frozen(module)} <= {META}
    assert {tensor.device for tensor in module.state_dict().values()} <= {META}
    assert len(before) == {"map": 3, "none": 0}.get(kind, 1)


def test_the_language_model_keeps_its_dtype():
    translator = tiny_translator().to(torch.bfloat16)
    assert translator.language_model.dtype == torch.float32
    assert {p.dtype for p in translator.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_models_are_no_part_of_what_is_saved_or_trained(kind):
    module = KINDS[kind][0]()
    held = {parameter for model in frozen(module) for parameter in _parameters(model)}
    assert not held & set(module.parameters())
    assert not any("model" in name or "encoder." in name.split("network")[0] for name in module.state_dict())


def _parameters(model):
    inner = model if isinstance(model, Pretrained) else getattr(model, "model", None)
    return set() if inner is None else set(inner.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_base_models_are_complete_and_stand_on_the_card(kind, tmp_path):
    build, expected = KINDS[kind]
    module = build()
    assert module.base_models == expected
    _, front, body = (module.save_pretrained(tmp_path / "x") / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front).get("base_model", []) == [model for model in expected if "/" in model]
    assert all(f"`{model}`" in body for model in expected)
    assert ("not part of the weights: none" in body) == (not expected)


def test_a_decoder_is_written_in_bfloat16_and_read_in_float32(tmp_path, monkeypatch):
    lm = tiny_language_model(reference="org/lm")
    monkeypatch.setattr(type(lm), "from_pretrained", lambda reference: lm)
    saved = decoder()
    torch.nn.init.normal_(saved.network.start)
    loaded = TextDecoder.from_pretrained(saved.save_pretrained(tmp_path / "x"))
    assert torch.equal(loaded.network.start, saved.network.start.bfloat16().float())
    assert (loaded.reference, loaded.name) == (str(tmp_path / "x"), str(tmp_path / "x"))


def test_the_card_of_a_decoder_shows_an_encoder_that_would_leave_its_code_span(tmp_path):
    saved = decoder()
    saved.encoder = "org/encoder`<b>`\n```\n# Title\x1b[2J"
    body = (saved.save_pretrained(tmp_path / "x") / "README.md").read_text()
    assert "embeddings of `org/encoder'<b>' ''' # Title\\x1b[2J` into" in body
    assert body.splitlines().count("```") == 1
    assert "\x1b" not in body


def test_a_frozen_model_can_be_put_in_anothers_place():
    translator = PrefixTranslator(tiny_network(), tiny_language_model())
    other = tiny_language_model(reference="other")
    translator.language_model = other
    assert translator.language_model is other
    assert translator.base_models == ("other",)
