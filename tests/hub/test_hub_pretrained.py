"""Frozen models are read strictly from their folders, and no code that lies there is ever run."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_clip import hugging_face
from tiny_translators import saved_language_model, tiny_translator
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

from torchnle import Translator, backbones, hub
from torchnle.language.clip_text import ClipText
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder

_EVIL = """
from pathlib import Path
Path(__file__).with_name("PWNED").touch()
Path({cwd!r}, "PWNED").touch()
from transformers import PreTrainedConfig as Config, PreTrainedModel as Model
from transformers import PreTrainedTokenizerFast as Tokenizer
"""
_MAP = {
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Model",
    "AutoModelForCausalLM": "evil.Model",
    "AutoModelForImageClassification": "evil.Model",
    "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
    "AutoProcessor": "evil.Tokenizer",
}


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """A working folder whose terminal answers yes to everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return tmp_path


def poison(folder, model_type=None):
    """Put code into a folder, and name it in every configuration; of an architecture that nobody knows."""
    (folder / "evil.py").write_text(_EVIL.format(cwd=str(Path.cwd())))
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        file = folder / name
        content = json.loads(file.read_text()) if file.is_file() else {}
        content["auto_map"] = _MAP
        if name == "config.json" and model_type:
            content["model_type"] = model_type
        if name == "tokenizer_config.json" and model_type:
            content["tokenizer_class"] = "EvilTokenizer"
        file.write_text(json.dumps(content))
    return folder


def language_model(folder):
    saved_language_model(folder)
    return LanguageModel.from_pretrained


def encoder(folder):
    config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    BertModel(config).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words(), pad_token="<s>")
    tokenizer.save_pretrained(folder)
    return TextEncoder.from_pretrained


def words():
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"cat": 0, "dog": 1, "<s>": 2}, unk_token="<s>"))


def clip(folder):
    model, tokenizer = hugging_face("CLIP")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ClipText.from_pretrained


def classifier(folder):
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32
    )
    ViTForImageClassification(config).save_pretrained(folder)
    return lambda name: backbones.load(f"transformers:{name}")


def random_classifier(folder):
    classifier(folder)
    return lambda name: backbones.load(f"transformers:{name}", pretrained=False)


def translator(folder):
    lm = saved_language_model(folder)
    lm.reference = str(folder)
    tiny_translator(lm).save_pretrained(folder.parent / "translator")
    return lambda _: Translator.from_pretrained(folder.parent / "translator")


KINDS = [language_model, encoder, clip, classifier, random_classifier, translator]


@pytest.mark.parametrize("kind", KINDS)
def test_code_in_a_folder_is_not_run_and_the_error_says_so(cwd, kind):
    load = kind(cwd / "model")
    poison(cwd / "model", model_type="evil")
    with pytest.raises(ValueError, match="never runs code") as caught:
        load(str(cwd / "model"))
    message = str(caught.value)
    assert str(cwd / "model") in message
    assert "evil.Config" in message
    assert "LanguageAttribution(model, ...)" in message
    assert "trust_remote_code" not in message
    assert caught.value.__suppress_context__  # nor in a traceback
    assert not list(cwd.rglob("PWNED"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_of_transformers_is_read_beside_code_that_is_not_run(cwd, kind):
    load = kind(cwd / "model")
    poison(cwd / "model")
    load(str(cwd / "model"))
    assert not list(cwd.rglob("PWNED"))


def test_code_of_the_tokenizer_alone(cwd):
    saved_language_model(cwd / "model")
    (cwd / "model" / "tokenizer.json").unlink()
    configuration = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    (cwd / "model" / "tokenizer_config.json").write_text(json.dumps(configuration))
    (cwd / "model" / "evil.py").write_text(_EVIL.format(cwd=str(cwd)))
    with pytest.raises(ValueError, match=r"evil\.Tokenizer.*never runs"):
        LanguageModel.from_pretrained(str(cwd / "model"))
    assert not list(cwd.rglob("PWNED"))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["evil/kernel", {"": "evil/kernel@main"}, {"text_config": "evil/kernel:f"}])
def test_kernels_from_the_hub_are_code_too(cwd, key, value):
    saved_language_model(cwd / "model")
    file = cwd / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=r"never runs code") as caught:
        LanguageModel.from_pretrained(str(cwd / "model"))
    assert "evil/kernel" in str(caught.value)


def test_running_code_is_no_option(cwd):
    load = classifier(cwd / "model")
    load(str(cwd / "model"))
    with pytest.raises(ValueError, match="never runs code"):
        backbones.load(f"transformers:{cwd / 'model'}", trust_remote_code=True)


@pytest.mark.parametrize(
    "name", ["local-dir:{}", "hf-hub:org/name", "ViT-B-32@{}/open_clip_model.bin", "none"]
)
def test_open_clip_takes_no_folder_and_no_file(cwd, name):
    pytest.importorskip("open_clip")
    (cwd / "open_clip_config.json").write_text("{}")
    (cwd / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="open_clip has no model"):
        ClipText.from_pretrained(f"open_clip:{name.format(cwd)}")


def test_only_one_place_asks_transformers(cwd):
    """Whoever adds a call of their own goes around the rule."""
    package = Path(hub.__file__).parents[1]
    auto = ("AutoConfig", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor", "AutoModel")
    found = [
        f"{file.relative_to(package)}: {line.strip()}"
        for file in package.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if any(f"{name}" in line for name in auto) and (".from_pretrained" in line or ".from_config" in line)
    ]
    assert found == []


class TestStrict:
    @pytest.fixture
    def folder(self, cwd):
        saved_language_model(cwd / "model")
        return cwd / "model"

    def test_missing_weights_are_named(self, folder):
        weights = load_file(folder / "model.safetensors")
        del weights["transformer.ln_f.bias"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"lacks 1 weights .*transformer\.ln_f\.bias"):
            LanguageModel.from_pretrained(str(folder))

    def test_weights_of_another_shape(self, folder):
        weights = load_file(folder / "model.safetensors")
        weights["transformer.ln_f.bias"] = torch.zeros(99)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=f"{folder}.*other shapes") as caught:
            LanguageModel.from_pretrained(str(folder))
        assert "ignore_mismatched_sizes" not in str(caught.value)

    @pytest.mark.parametrize("length", [0, 5, 400])
    def test_a_truncated_file(self, folder, length):
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{folder}.*damaged"):
            LanguageModel.from_pretrained(str(folder))

    def test_a_folder_without_tokenizer(self, folder):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
        with pytest.raises(ValueError, match=f"{folder} holds no tokenizer"):
            LanguageModel.from_pretrained(str(folder))

    def test_a_tokenizer_that_knows_nothing(self, folder):
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
        with pytest.raises(ValueError, match=f"{folder} holds no tokenizer"):
            LanguageModel.from_pretrained(str(folder))

    def test_a_folder_without_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match=f"{folder} holds no weights .*config.json"):
            LanguageModel.from_pretrained(str(folder))

    def test_pickled_weights_are_read_where_there_is_nothing_else(self, folder):
        expected = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(expected, folder / "pytorch_model.bin")
        found = LanguageModel.from_pretrained(str(folder), dtype=torch.float32).model.state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())

    def test_a_pickle_that_runs_code_is_refused(self, folder, cwd):
        class Evil:
            def __reduce__(self):
                return Path.touch, (cwd / "PWNED",)

        (folder / "model.safetensors").unlink()
        torch.save({"a": Evil()}, folder / "pytorch_model.bin")
        with pytest.raises(ValueError, match=f"{folder}.*more than tensors") as caught:
            LanguageModel.from_pretrained(str(folder))
        assert "weights_only" not in str(caught.value)
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(ValueError, match=f"{folder}"):
            LanguageModel.from_pretrained(str(folder))
        assert not (cwd / "PWNED").exists()

    def test_an_encoder_may_lack_its_pooler(self, cwd):
        load = encoder(cwd / "model")
        file = cwd / "model" / "model.safetensors"
        weights = {name: value for name, value in load_file(file).items() if not name.startswith("pooler.")}
        save_file(weights, file, metadata={"format": "pt"})
        assert load(str(cwd / "model")).width == 8
        with pytest.raises(ValueError, match=r"pooler\.dense"):
            hub.load_weights(AutoModel, cwd / "model")

    def test_no_folder(self, folder):
        with pytest.raises(ValueError, match="is no folder"):
            hub.load_weights(AutoModel, folder / "config.json")
        with pytest.raises(ValueError, match="no tokenizer"):
            hub.load_tokenizer(AutoTokenizer, folder / "config.json")


class TestRandomState:
    @pytest.mark.parametrize("kind", [language_model, encoder, clip, classifier, translator])
    def test_loading_leaves_it_as_it_was(self, cwd, kind):
        load = kind(cwd / "model")
        torch.manual_seed(3)
        before = torch.get_rng_state()
        load(str(cwd / "model"))
        assert torch.equal(torch.get_rng_state(), before)

    def test_also_when_loading_fails(self, cwd):
        load = translator(cwd / "model")
        shutil.rmtree(cwd / "model")
        before = torch.get_rng_state()
        with pytest.raises(FileNotFoundError):
            load("")
        assert torch.equal(torch.get_rng_state(), before)

    def test_random_weights_are_drawn_from_it(self, cwd):
        load = random_classifier(cwd / "model")
        torch.manual_seed(3)
        first, second = load(str(cwd / "model")).model, load(str(cwd / "model")).model
        assert not torch.equal(next(first.parameters()), next(second.parameters()))


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_show_on_a_terminal_only(tmp_path, monkeypatch, terminal):
    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    lm = saved_language_model(tmp_path / "lm")
    assert lm is not None
    stream = Stream()
    monkeypatch.setattr("sys.stderr", stream)
    transformers.logging.enable_progress_bar()  # whatever another test has left
    LanguageModel.from_pretrained(str(tmp_path / "lm"))
    draws = int(transformers.__version__.split(".")[0]) >= 5  # older ones draw none for a single file
    assert ("Loading" in stream.getvalue()) == (terminal and draws)
