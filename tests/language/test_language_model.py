import pytest
import torch
import transformers
from tiny import (
    FAMILIES,
    TEXTS,
    VOCABULARY,
    WIDTH,
    make_lm,
    make_model,
    make_prefixes,
    make_tokenizer,
    tiny_lm,
)
from tokenizers import normalizers

from torchnle.language import model as model_module
from torchnle.language.device import best_dtype, resolve_dtype
from torchnle.language.model import LanguageModel


@pytest.fixture(params=FAMILIES)
def lm(request):
    return tiny_lm(request.param)


def test_head_of_hidden_is_the_logits_of_the_model(lm):
    prefixes = make_prefixes(3)
    context = lm.context(prefixes, "a cat")
    hidden = lm.hidden(context)
    weight, bias = lm.head
    ours = hidden @ weight.T if bias is None else hidden @ weight.T + bias
    torch.testing.assert_close(ours, lm.model(inputs_embeds=context).logits, atol=1e-5, rtol=1e-5)
    assert hidden.is_contiguous()


def test_reading_in_pieces_with_a_cache_is_reading_at_once(lm):
    context = lm.context(make_prefixes(2), "a red cat runs")
    cache = lm.new_cache()
    pieces = [lm.hidden(piece, cache=cache) for piece in context.split(3, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), lm.hidden(context), atol=1e-5, rtol=1e-5)


def test_a_causal_mask_and_positions_are_the_default(lm):
    context = lm.context(make_prefixes(2))
    length = context.shape[1]
    mask = torch.ones(length, length).tril().bool()
    hidden = lm.hidden(context, positions=torch.arange(length), mask=mask)
    torch.testing.assert_close(hidden, lm.hidden(context), atol=1e-5, rtol=1e-5)


def test_context_is_bos_prefix_prompt():
    lm, prefixes = tiny_lm("opt"), make_prefixes(2)
    context = lm.context(prefixes, "cat dog")
    assert context.shape == (2, 1 + 3 + 2, WIDTH)
    torch.testing.assert_close(context[1, 0], lm.embed(torch.tensor(lm.bos_id)))
    torch.testing.assert_close(context[:, 1:4], prefixes)
    torch.testing.assert_close(context[0, 4:], lm.embed(torch.tensor(lm.tokenize(["cat dog"])[0])))
    without = tiny_lm("qwen2")
    assert without.bos_id is None
    assert without.context(prefixes).shape == (2, 3, WIDTH)


def test_is_frozen_in_evaluation_mode_and_no_module():
    lm = LanguageModel(make_model("llama").train(), make_tokenizer())
    assert not isinstance(lm, torch.nn.Module)
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    prefixes = make_prefixes(1).requires_grad_()
    lm.hidden(lm.context(prefixes)).sum().backward()
    assert prefixes.grad.abs().sum() > 0


def test_makes_no_tensor_of_the_vocabulary_size():
    lm, shapes = make_lm("llama"), []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            shapes.extend([result.shape] if isinstance(result, torch.Tensor) else [])
            return result

    context = lm.context(make_prefixes(2))
    with Watch():
        lm.hidden(context)
    assert shapes
    assert not any(shape and shape[-1] == len(VOCABULARY) for shape in shapes)


def test_says_what_it_is():
    lm = LanguageModel(make_model("opt_projected"), make_tokenizer(), reference="org/name@v2")
    assert (lm.width, lm.vocab_size, lm.bos_id, lm.eos_id, lm.eos_ids) == (16, len(VOCABULARY), 0, 1, (1,))
    assert (lm.reference, lm.revision, lm.dtype, lm.device.type) == (
        "org/name@v2",
        "v2",
        torch.float32,
        "cpu",
    )
    assert LanguageModel(make_model("gpt2"), make_tokenizer(), reference="pypi:a==0.1").revision == "0.1"
    assert tiny_lm().revision is None
    assert tiny_lm("gemma3").max_positions == 40  # its sliding window; the others have 48 positions
    assert tiny_lm().max_positions == 48


def test_tokens_and_texts_come_back(lm):
    assert [lm.detokenize(ids) for ids in lm.tokenize(TEXTS)] == TEXTS
    assert lm.detokenize([*lm.tokenize(["a cat"])[0], 1]) == "a cat"


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        ("a cat", TypeError, "texts is one string"),
        (["a", "  "], ValueError, r"texts\[1\] is '  ', which is blank"),
        (["a" * 10_001], ValueError, "10001 characters"),
    ],
)
def test_refuses_bad_texts(texts, error, words):
    with pytest.raises(error, match=words):
        tiny_lm().tokenize(texts)


def test_refuses_a_text_without_tokens():
    lm = make_lm()
    lm.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("zebra", "")
    with pytest.raises(ValueError, match="no token for the text 'zebra'"):
        lm.tokenize(["a cat", "zebra"])


def test_refuses_heads_that_are_not_linear():
    with pytest.raises(ValueError, match=r"Gemma2ForCausalLM squashes its logits .*softcapping=30.0"):
        make_lm("gemma2")
    with pytest.raises(ValueError, match="GPT2Model has no linear language-model head"):
        LanguageModel(make_model("gpt2").transformer, make_tokenizer())
    with pytest.raises(ValueError, match="not its output layer on its last hidden state"):
        LanguageModel(scaled(make_model("llama")), make_tokenizer())


def scaled(model):
    """A model that scales its logits in a way that its configuration does not tell."""
    forward = type(model).forward

    class Scaled(type(model)):
        def forward(self, *args, **kwargs):
            output = forward(self, *args, **kwargs)
            output.logits = output.logits * 1.5
            return output

    model.__class__ = Scaled
    return model


def test_dtype_follows_the_machine(monkeypatch):
    cpu = torch.device("cpu")
    for amx, avx, expected in [
        (False, False, torch.float32),
        (True, False, torch.bfloat16),
        (False, True, torch.bfloat16),
    ]:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        assert best_dtype(cpu) == resolve_dtype("auto", cpu) == expected
        assert make_lm("llama", dtype="auto").dtype == expected
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert best_dtype(cpu) == best_dtype(torch.device("meta")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert best_dtype(torch.device("cuda")) == torch.bfloat16


@pytest.mark.parametrize("dtype", ["float32", torch.int64, None])
def test_refuses_other_dtypes(dtype):
    with pytest.raises(ValueError, match=r"pass 'auto', 'int8', torch\.float32"):
        resolve_dtype(dtype, torch.device("cpu"))


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_loads_from_a_folder(tmp_path, monkeypatch, family):
    tiny_lm(family).model.save_pretrained(tmp_path)
    tiny_lm(family).tokenizer.save_pretrained(tmp_path)
    references = []
    monkeypatch.setattr(
        model_module.hub, "resolve", lambda reference: references.append(reference) or tmp_path
    )
    lm = LanguageModel.from_pretrained("org/name@main", dtype=torch.float32)
    assert (references, lm.reference, lm.bos_id) == (["org/name@main"], "org/name@main", 0)
    prefixes = make_prefixes(2)
    expected = tiny_lm(family).hidden(tiny_lm(family).context(prefixes))
    torch.testing.assert_close(lm.hidden(lm.context(prefixes)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, "auto"])
def test_positions_stay_exact_in_any_dtype(tmp_path, monkeypatch, dtype):
    tiny_lm("llama").model.save_pretrained(tmp_path)
    tiny_lm("llama").tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(model_module.hub, "resolve", lambda reference: tmp_path)
    lm = LanguageModel.from_pretrained("org/name", dtype=dtype)
    assert {buffer.dtype for buffer in lm.model.buffers()} == {torch.float32}


def test_refuses_a_reference_to_a_file(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    file.touch()
    monkeypatch.setattr(model_module.hub, "resolve", lambda _: file)
    with pytest.raises(ValueError, match="is no folder"):
        LanguageModel.from_pretrained(str(file))


def test_moves_to_a_device():
    lm = make_lm()
    assert lm.to("meta") is lm
    assert lm.device.type == "meta"


@pytest.mark.real
def test_the_embedded_default_answers_and_scores():
    from torchnle.language.decoding import greedy
    from torchnle.language.scoring import log_prob, prior

    transformers.logging.disable_progress_bar()
    lm = LanguageModel.from_pretrained()
    assert (lm.width, lm.vocab_size, lm.bos_id, lm.revision) == (576, 49152, 1, "0.1.2")
    question = lm.embed(torch.tensor(lm.tokenize(["The capital of France is"])))
    decoded = greedy(lm, question, stop=".")
    assert decoded.texts == [" Paris"]
    texts = [" Paris", " London", " a banana"]
    scores = log_prob(lm, question, texts)
    assert scores[0].argsort(descending=True).tolist() == [0, 1, 2]
    torch.testing.assert_close(scores[0, :1], decoded.log_probs, atol=0.05, rtol=0)
    assert (scores[0] - prior(lm, texts)).argmax() == 0


class Adapted(torch.nn.Module):
    """What PEFT's models are like: a wrapper that can merge."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def merge_and_unload(self):
        return self.inner


def test_adapters_say_to_merge_first():
    model = make_model("llama")
    with pytest.raises(TypeError, match=r"Merge them first: LanguageModel\(model\.merge_and_unload"):
        LanguageModel(Adapted(model), make_tokenizer())
    assert LanguageModel(Adapted(model).merge_and_unload(), make_tokenizer()).width == 16


@pytest.mark.parametrize("other", ["gpt2", None, torch.nn.Linear(2, 2), 3])
def test_what_is_no_language_model_is_refused(other):
    with pytest.raises(TypeError, match="ForCausalLM"):
        LanguageModel(other, make_tokenizer())
